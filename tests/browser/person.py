"""Who clicks through Airflow's UI: finds things by what is written on them, and waits as long as a person would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Locator, Page, TimeoutError, expect, sync_playwright

from airflow_calib_provider.spec.language import BOX, SAME_FORM
from tests.browser.program import chromium

PATIENCE = 60_000
"""Milliseconds for what comes by itself: a page, a menu, a log; a busy machine is slow."""

LONG = 240_000
"""Milliseconds for what Airflow has to do first."""

AGAIN_AFTER = 5_000
"""Milliseconds after which somebody clicks, or loads a page, once more."""

SIZE = (1280, 900)

TRIGGER = "Trigger Dag"
"""The button that opens a form: "Trigger" is the one that sends it, which a second try must not press."""


class Person:
    """Somebody with a browser, logged in.

    Attributes:
        page: the tab.
        url: of Airflow.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        page.set_default_timeout(PATIENCE)
        page.set_default_navigation_timeout(PATIENCE)

    # Where to

    def go_home(self) -> None:
        """As with the bookmark of Airflow."""
        self.page.goto(self.url)
        expect(self.page.get_by_role("heading", name="Welcome")).to_be_visible(timeout=PATIENCE)

    def open_dag(self, dag_id: str) -> None:
        """From the list of DAGs."""
        self.page.get_by_role("link", name="Dags", exact=True).first.click()
        expect(self.page.get_by_placeholder("Search Dags")).to_be_visible(timeout=PATIENCE)
        self._follow(self.page.get_by_role("link", name=dag_id, exact=True).first, rf"/dags/{dag_id}$")
        expect(self.page.get_by_role("link", name="Overview", exact=True)).to_be_visible(timeout=PATIENCE)

    def open_run(self, run_id: str) -> None:
        """From the page of its DAG, by the tab of its runs."""
        self.tab("Runs")
        self.reload_until(self.page.get_by_role("table").get_by_role("link", name=run_id, exact=True))
        self.page.get_by_role("table").get_by_role("link", name=run_id, exact=True).first.click()

    def open_task(self, task: str) -> None:
        """From the page of its DAG run."""
        link = self.page.get_by_role("table").get_by_role("link", name=task, exact=True)
        self._follow(link, rf"/tasks/{re.escape(task)}$")
        expect(self.page.get_by_role("link", name="Logs", exact=True)).to_be_visible(timeout=PATIENCE)

    def tab(self, name: str) -> None:
        """Of the page that is open."""
        self.page.get_by_role("link", name=name, exact=True).last.click()

    def back_to_run(self) -> None:
        """From a task, by the trail at the top."""
        self._follow(self.page.get_by_label("breadcrumb").get_by_role("link").nth(1), r"/runs/[^/]+$")
        expect(self.page.get_by_role("link", name="Task Instances", exact=True)).to_be_visible(timeout=PATIENCE)

    def _follow(self, link: Locator, address: str) -> None:
        """A page that is drawn anew at this moment takes no click: then once more."""
        for again in (True, True, False):
            link.click()
            try:
                self.page.wait_for_url(re.compile(address), timeout=PATIENCE / 3)
            except TimeoutError:
                if not again:
                    raise
            else:
                return

    # What is there

    def reload_until(self, wanted: Locator) -> None:
        """Airflow's lists do not all come up to date by themselves: look again now and then."""
        for _ in range(LONG // AGAIN_AFTER):
            try:
                expect(wanted.first).to_be_visible(timeout=AGAIN_AFTER)
            except AssertionError:
                self.page.reload()
            else:
                return
        expect(wanted.first).to_be_visible(timeout=AGAIN_AFTER)

    def see_state(self, state: str) -> None:
        """In the head of the page of a DAG run or a task."""
        heading = self.page.get_by_role("heading", level=2)
        badge = heading.get_by_text(state, exact=True).or_(self.page.get_by_text(state, exact=True))
        expect(badge.first).to_be_visible(timeout=LONG)

    def read_log(self, *parts: str) -> str:
        """Of the task that is open, when it has all of these."""
        log = self.page.locator("[data-testid=virtualized-list], code").first
        for part in parts:
            self.reload_until(self.page.get_by_text(part))
        return log.inner_text()

    # What to do

    def open_form(self) -> Locator:
        """The form behind the button Trigger."""
        return self._form(lambda: self.page.get_by_role("button", name=TRIGGER, exact=True).click())

    def open_same_form(self) -> Locator:
        """That of the DAG run whose page is open, filled in as it was."""
        return self._form(lambda: self._choose(TRIGGER, SAME_FORM))

    def _form(self, ask: Callable[[], None]) -> Locator:
        """A dialog, too, closes when the page behind it comes up to date, and comes late where Airflow is slow."""
        form = self.page.get_by_role("dialog")
        for _ in range(PATIENCE // AGAIN_AFTER):
            ask()
            try:
                expect(form.get_by_text("Run Parameters", exact=True)).to_be_visible(timeout=AGAIN_AFTER)
            except AssertionError:
                self.page.keyboard.press("Escape")
                expect(form).to_have_count(0)
            else:
                return form
        raise AssertionError("the form does not stay open")

    def fill(self, form: Locator, values: Mapping[str, str]) -> None:
        """Fields of a form, by their keys."""
        for key, value in values.items():
            form.locator(f"[name=element_{key}]").fill(value)
        # What is typed is part of what is sent only a moment later.
        self.page.wait_for_timeout(300)

    def switch(self, form: Locator, key: str) -> None:
        """The other way round."""
        box = form.locator(f"[name=element_{key}]")
        before = box.is_checked()
        form.locator("label").filter(has=self.page.locator(f"[name=element_{key}]")).click()
        expect(box).to_be_checked(checked=not before)
        self.page.wait_for_timeout(300)

    def trigger(self, form: Locator) -> None:
        """Send the form; Airflow shows the new DAG run."""
        before = self.page.url
        form.get_by_role("button", name="Trigger", exact=True).click()
        self.page.wait_for_url(lambda url: url != before and "/runs/" in url)

    def backfill(self, form: Locator, first: str, last: str, *, box: bool) -> None:
        """Fill in the dates, days as 2026/01/05, and tick the box or forget it."""
        for number, day in enumerate((first, last)):
            form.get_by_test_id("datetime-input").nth(number).click()
            self.page.get_by_placeholder("YYYY/MM/DD").last.fill(day)
            self.page.keyboard.press("Escape")
            expect(self.page.get_by_placeholder("YYYY/MM/DD")).to_have_count(0)
        if box:
            form.get_by_text(BOX, exact=True).first.click()

    def run_backfill(self, form: Locator) -> None:
        """Send it, and once more where Airflow says that its database is locked, as SQLite's often is."""
        button = form.get_by_role("button", name="Run Backfill")
        generated = self.page.get_by_text("Backfill generated")
        for _ in range(LONG // PATIENCE):
            expect(button).to_be_enabled(timeout=LONG)
            button.click()
            try:
                expect(generated.or_(form.get_by_role("alert")).first).to_be_visible(timeout=PATIENCE)
                expect(generated).to_be_visible(timeout=AGAIN_AFTER)
            except AssertionError:
                continue
            return
        expect(generated).to_be_visible()

    def mark(self, state: str) -> None:
        """The task that is open."""
        self._choose("Mark Task Instance as...", state)
        self._confirm()

    def clear(self) -> None:
        """The task that is open."""
        self.page.get_by_role("button", name="to clear").click()
        self._confirm()

    def _choose(self, button: str, item: str) -> None:
        """Of a menu, which closes by itself when what is behind it comes up to date."""
        for _ in range(PATIENCE // AGAIN_AFTER):
            self.page.get_by_role("button", name=button).click()
            try:
                self.page.get_by_role("menuitem", name=item, exact=True).click(timeout=AGAIN_AFTER)
            except TimeoutError:
                self.page.keyboard.press("Escape")
            else:
                return
        raise AssertionError(f"the menu {button} does not stay open")

    def _confirm(self) -> None:
        button = self.page.get_by_role("button", name="Confirm")
        button.click()
        expect(button).to_have_count(0, timeout=PATIENCE)


@contextmanager
def browsing(url: str, pictures: Path | None = None) -> Iterator[Person]:
    """Somebody in front of an Airflow; the browser ends with it.

    Args:
        url: of Airflow.
        pictures: a folder that gets a picture of what was seen last.

    Raises:
        UnavailableError: there is no browser here.
    """
    program = chromium()
    with sync_playwright() as driver:
        # In a container there is no sandbox to be had, and the only page is our own.
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = driver.chromium.launch(executable_path=program, args=options)
        width, height = SIZE
        # Nothing moves: what turns while one waits is drawn by a CPU that others need.
        context = browser.new_context(
            viewport={"width": width, "height": height}, locale="en-US", reduced_motion="reduce"
        )
        page = context.new_page()
        try:
            yield Person(page, url)
        finally:
            if pictures is not None:
                page.screenshot(path=pictures / "last.png")
            browser.close()
