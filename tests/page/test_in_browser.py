"""The page in a browser: in the frame of Airflow's UI, which is below a path of its host, and alone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from airflow_calib_provider.domain.page_addresses import PEOPLE, group_address, page_address, tag_address
from tests.browser.person import PATIENCE, Person, browsing
from tests.cache import UnavailableError
from tests.page.site import Site, running

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

AT = "/af"
DAG, RUN = "demo__run", "prompt__run-r5"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("site"), AT) as made:
        body = {"dag_run_id": RUN, "logical_date": None, "conf": {}}
        made.airflow.call("POST", f"/api/v2/dags/{DAG}/dagRuns", body)
        yield made


@pytest.fixture(scope="module")
def person(site: Site) -> Iterator[Person]:
    """Logged in."""
    try:
        with browsing(site.airflow.url, site.world.folder) as made:
            made.page.context.add_cookies([{"name": "_token", "value": site.token("guest"), "url": site.airflow.url}])
            yield made
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def page(person: Person) -> Page:
    person.go_home()
    return person.page


def inside(page: Page) -> FrameLocator:
    """The page in its frame."""
    return page.frame_locator("iframe")


def test_from_the_menu_to_a_group_and_to_airflows_page_of_its_dag_run(site: Site, page: Page) -> None:
    page.get_by_role("button", name="Browse").or_(page.get_by_text("Browse", exact=True)).first.click()
    page.get_by_role("menuitem", name="Calibration").or_(page.get_by_role("link", name="Calibration")).first.click()
    frame = inside(page)
    expect(frame.get_by_role("heading", level=1, name="Runs of prompt")).to_be_visible(timeout=PATIENCE)
    frame.get_by_label("State").select_option("failed")
    frame.get_by_role("button", name="Show").click()
    frame.get_by_role("link", name="failed").first.click()
    expect(frame.get_by_role("heading", level=1, name="run-r5 of demo")).to_be_visible(timeout=PATIENCE)
    # The address follows, and leads back here.
    page.wait_for_url(re.compile(rf"{AT}/plugin/calib{AT}/calib/group\?"))
    page.reload()
    expect(frame.get_by_role("heading", level=1, name="run-r5 of demo")).to_be_visible(timeout=PATIENCE)
    page.evaluate("window.sameDocument = true")
    frame.get_by_role("link", name=RUN).click()
    page.wait_for_url(re.compile(rf"{AT}/dags/{DAG}/runs/{RUN}"))
    assert page.evaluate("window.sameDocument") is True, "Airflow's UI was loaded anew"
    expect(page.get_by_role("link", name="Task Instances", exact=True)).to_be_visible(timeout=PATIENCE)


def test_addresses_that_were_sent_open_the_page_in_the_ui(site: Site, page: Page) -> None:
    url = site.airflow.url
    addresses = {
        group_address(url, "prompt", "demo", "fill-r2", "scale"): "fill-r2 of demo",
        tag_address(url, "prompt", "Scale"): "Scale of the campaign prompt",
        page_address(url, PEOPLE): "Needs a person",
        page_address(url, "runs", state="failed"): "Runs of prompt",
    }
    for address, heading in addresses.items():
        page.goto(address)
        expect(inside(page).get_by_role("heading", level=1, name=heading)).to_be_visible(timeout=PATIENCE)


def test_tabs_of_a_dag_a_dag_run_and_a_task(site: Site, person: Person, page: Page) -> None:
    for where, heading in (
        (f"dags/{DAG}", "Runs of prompt"),
        (f"dags/{DAG}/runs/{RUN}", "run-r5 of demo"),
        (f"dags/{DAG}/runs/{RUN}/tasks/skim", "run-r5 of demo"),
    ):
        page.goto(f"{site.airflow.url}/{where}")
        person.tab("Calibration")
        expect(inside(page).get_by_role("heading", level=1, name=heading)).to_be_visible(timeout=PATIENCE)


def take_theme(page: Page, theme: str) -> None:
    """Give Airflow's page a theme, until ours has it: Airflow sets its own one once more as it begins."""
    until = time.monotonic() + PATIENCE / 1000
    while True:
        page.evaluate("theme => { document.documentElement.className = theme }", theme)
        try:
            expect(inside(page).locator(f"html[data-theme={theme}]")).to_have_count(1, timeout=3_000)
        except AssertionError:
            if time.monotonic() > until:
                raise
        else:
            return


def test_light_and_dark_are_those_of_airflow(site: Site, page: Page) -> None:
    page.goto(tag_address(site.airflow.url, "prompt", "Scale"))
    body = inside(page).locator("body")
    expect(inside(page).get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE)
    shades = {}
    for theme in ("dark", "light", "dark"):
        take_theme(page, theme)
        shades[theme] = body.evaluate("body => getComputedStyle(body).backgroundColor")
    assert shades == {"dark": "rgb(17, 20, 24)", "light": "rgb(255, 255, 255)"}


CONTRASTS = """() => {
  const luminance = (text) => {
    const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("a, span, p, th, td, h1, label, dt, dd")]
    .filter((one) => one.innerText && one.getClientRects().length && !one.classList.contains("skip"))
    .map((one) => {
      const [a, b] = [getComputedStyle(one).color, behind(one)].map(luminance).sort().reverse();
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.outerHTML.slice(0, 80)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""
"""Texts that are hard to read: less contrast than the guidelines for accessible pages ask for."""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_read_alone_in_a_tab_and_by_its_contrasts(site: Site, page: Page, theme: str) -> None:
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    mistakes: list[str] = []
    page.on("console", lambda said: mistakes.append(said.text) if said.type == "error" else None)
    for address in ("runs", "group?name=run-r5&workflow=demo", "tag?tag=Scale", "campaigns", "people"):
        page.goto(f"{site.airflow.url}/calib/{address}")
        expect(page.locator(f"html[data-theme={theme}]")).to_have_count(1)
        assert page.evaluate(CONTRASTS) == [], address
    assert mistakes == [], "what the page's own policy forbids is told there"
    page.goto(f"{site.airflow.url}/calib/group?name=run-r5&workflow=demo")
    page.get_by_role("link", name=RUN).click()
    page.wait_for_url(re.compile(rf"{AT}/dags/{DAG}/runs/{RUN}"))


def test_all_of_it_by_the_keyboard(site: Site, page: Page) -> None:
    page.goto(f"{site.airflow.url}/calib/runs")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Campaign", exact=True)).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_label("Runs or group")).to_be_focused()
    page.keyboard.type("5")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"search=5"))
    expect(page.get_by_role("row")).to_have_count(2)
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('td a')"):
            break
    expect(page.get_by_role("link", name="failed")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="run-r5 of demo")).to_be_visible()
    assert page.evaluate("location.hash") == "#task-skim"


def test_somebody_who_is_not_logged_in_sees_nothing(site: Site, person: Person, page: Page) -> None:
    alone = person.page.context.browser
    assert alone is not None
    context = alone.new_context()
    try:
        stranger = context.new_page()
        answer = stranger.goto(f"{site.airflow.url}/calib/runs")
        assert answer is not None
        assert answer.status == 401
        assert stranger.inner_text("body").strip() == "log in to Airflow first"
    finally:
        context.close()
