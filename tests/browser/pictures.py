"""Pictures of Airflow's UI for the docs, of a workflow with a run that fails."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from airflow_calib_provider.domain.page_addresses import PEOPLE, RUNS, group_address, page_address, tag_address
from airflow_calib_provider.spec.language import AGAIN
from tests.browser.person import LONG, PATIENCE, Person
from tests.integration.harness import Installation

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
SIZE = (1280, 800)
"""Pixels of each picture."""

COLOURS = 64
"""Of each picture: what is flat stays flat, and a picture small."""

OF_PAGE = ("ui-page-runs", "ui-page-group", "ui-page-tag", "ui-page-people")
NAMES = (
    *("ui-campaign", "ui-dry-run", "ui-mistakes", "ui-backfill", "ui-waiting", "ui-button", "ui-failed"),
    *("ui-approval", *OF_PAGE),
)
WORKFLOW, FIRST = "ecal", 355100
ASKED, OF_ASKED = "ecal_asked", FIRST + 50
"""A workflow whose payload needs an approval, and the first of its runs."""


def prepare(installation: Installation) -> None:
    """A workflow of sixteen runs, of which two fail: of four sums each second one waits for its failed run.

    Before it another one, of four runs and one more, that asks whether to publish.
    """
    _add_asking(installation)
    installation.add_workflow(WORKFLOW)
    for n in (2, 9):
        installation.control_job(FIRST + n, "always")
    installation.add_runs(range(FIRST, FIRST + 16))
    assert installation.inject() == "success"
    failed = (f"{WORKFLOW}/run-r{FIRST + 2}", "work")
    installation.wait(lambda: installation.task_states().get(failed) == "failed", 300, "the failure")
    installation.wait_run_ended(f"{WORKFLOW}__run", f"prompt__run-r{FIRST + 2}")
    published = [(f"{WORKFLOW}/sum-r{FIRST + n}", "deliver") for n in (4, 12)]
    installation.wait(lambda: {installation.task_states().get(key) for key in published} == {"done"}, 300, "payloads")
    run_id = f"prompt__sum-r{OF_ASKED}"
    installation.wait(
        lambda: installation.airflow_tasks(f"{ASKED}__sum", run_id).get("deliver.approve") == "awaiting_input",
        300,
        "the question",
    )


def _add_asking(installation: Installation) -> None:
    installation.add_workflow(ASKED)
    spec = installation.specs / f"{ASKED}.yaml"
    text = spec.read_text()
    publish = '"{{ tasks.total.products.constants }}"'
    assert publish in text
    text = text.replace(publish, f"{publish}, approve: {{by: [ada], expires: 36h}}")
    installation.edit(spec, text.replace(f"{ASKED.title()}Constants", "EcalZeeScale"))
    tasks = f"/api/v2/dags/{ASKED}__sum/tasks"
    installation.wait(
        lambda: "deliver.approve" in str(installation.airflow.call("GET", tasks)), 120, "Airflow to have read the edit"
    )
    installation.add_runs(range(OF_ASKED, OF_ASKED + 5))


def draw(person: Person, folder: Path) -> Iterator[Path]:
    """Make all pictures, one after the other; the files."""
    person.page.set_viewport_size({"width": SIZE[0], "height": SIZE[1]})
    for steps in (_campaign, _backfill, _waiting, _failed, _approval, _page):
        person.go_home()
        for name in steps(person):
            yield _save(person, folder / f"{name}.png")


def _save(person: Person, file: Path) -> Path:
    # Messages go by themselves; what moves has come to its place by then.
    expect(person.page.get_by_text("has been successfully triggered")).to_have_count(0, timeout=PATIENCE)
    person.page.wait_for_timeout(1000)
    seen = Image.open(io.BytesIO(person.page.screenshot()))
    seen.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    return file


def _wrap(person: Person) -> None:
    """Let long lines of the log be seen whole; Airflow keeps it so."""
    person.page.keyboard.press("w")


def _campaign(person: Person) -> Iterator[str]:
    person.open_dag("calib_campaign")
    form = person.open_form()
    person.fill(form, {"name": "rereco 2026A", "runs": f"{FIRST}-{FIRST + 3}", "workflows": "eacl"})
    person.trigger(form)
    person.see_state("Failed")
    person.open_task("check")
    person.read_log("no workflow eacl")
    _wrap(person)
    yield "ui-mistakes"
    person.back_to_run()
    form = person.open_same_form()
    person.fill(form, {"name": "rereco-2026A", "workflows": WORKFLOW})
    form.get_by_text("Run Parameters", exact=True).evaluate("element => element.scrollIntoView()")
    yield "ui-campaign"
    person.trigger(form)
    person.see_state("Success")
    person.open_task("check")
    person.read_log("a dry run")
    yield "ui-dry-run"


def _backfill(person: Person) -> Iterator[str]:
    person.open_dag("calib_backfill")
    form = person.open_form()
    form.get_by_text("Run this Dag for a range of dates").click()
    person.backfill(form, "2026/09/04", "2026/09/05", box=True)
    form.get_by_text(AGAIN, exact=True).click()
    person.fill(form, {"campaign": "week-36", "workflows": WORKFLOW})
    expect(form.get_by_role("button", name="Run Backfill")).to_be_enabled(timeout=LONG)
    form.get_by_text("Date Range").evaluate("element => element.scrollIntoView()")
    yield "ui-backfill"


def _waiting(person: Person) -> Iterator[str]:
    person.open_dag(f"{WORKFLOW}__sum")
    person.open_run(f"prompt__sum-r{FIRST}")
    person.open_task("total.locks")
    person.read_log(f"missing {FIRST + 2} (failed)")
    yield "ui-waiting"
    person.tab("Details")
    expect(person.page.get_by_role("link", name="What it waits for")).to_be_visible(timeout=PATIENCE)
    yield "ui-button"


def _failed(person: Person) -> Iterator[str]:
    person.open_dag(f"{WORKFLOW}__run")
    person.open_run(f"prompt__run-r{FIRST + 2}")
    person.open_task("work")
    person.read_log("broken on purpose", "calib jobs logs")
    yield "ui-failed"


def _approval(person: Person) -> Iterator[str]:
    person.open_dag(f"{ASKED}__sum")
    person.open_run(f"prompt__sum-r{OF_ASKED}")
    person.open_task("deliver.approve")
    person.tab("Required Action (1)")
    expect(person.page.get_by_role("button", name="Approve")).to_be_visible(timeout=PATIENCE)
    yield "ui-approval"


def _page(person: Person) -> Iterator[str]:
    """The page "Calibration", the last views of it in the dark."""
    page, url = person.page, person.url
    shown = page.frame_locator("iframe").get_by_role("heading", level=1)
    group = group_address(url, "prompt", WORKFLOW, f"run-r{FIRST + 2}", "work")
    views = (
        ("ui-page-runs", page_address(url, RUNS, workflow=WORKFLOW)),
        ("ui-page-group", group),
        ("ui-page-tag", tag_address(url, "prompt", f"{WORKFLOW.title()}Constants")),
        ("ui-page-people", page_address(url, PEOPLE)),
    )
    for name, address in views:
        if name == "ui-page-tag":
            page.evaluate("localStorage.setItem('theme', 'dark')")
        page.goto(address)
        expect(shown).to_be_visible(timeout=PATIENCE)
        yield name
    page.evaluate("localStorage.removeItem('theme')")
