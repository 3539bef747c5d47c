"""What people fill in, in Airflow's dialogs: runs by hand, a campaign, days, an event of an asset."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from airflow_calib_provider.spec.language import AGAIN, BOX, SAME_FORM
from tests.browser.person import Person
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW = "typed"
DAG, SUM = f"{WORKFLOW}__run", f"{WORKFLOW}__sum"
DAY = "2026/01/08"
FIRST = 7 * 24 * 60 + 1  # its number is the minute of the year in which it begins


@pytest.fixture(scope="module", autouse=True)
def four_runs(installation: Installation) -> None:
    installation.add_workflow(WORKFLOW)
    installation.add_runs(range(FIRST, FIRST + 4))
    assert installation.inject() == "success"


@pytest.fixture(autouse=True)
def own_runs(installation: Installation) -> None:
    installation.take_runs_from(WORKFLOW)


def done(installation: Installation, campaign: str, *groups: str) -> None:
    """The groups have ended well."""

    def there() -> bool:
        states = installation.task_states(campaign)
        mine = {name: state for (name, _), state in states.items() if name.partition("/")[0] == WORKFLOW}
        return {f"{WORKFLOW}/{group}" for group in groups} <= set(mine) and set(mine.values()) == {"done"}

    installation.wait(there, 300, f"the groups of {campaign}")


def test_one_group_by_hand_first_with_a_mistake(installation: Installation, person: Person) -> None:
    person.open_dag(SUM)
    form = person.open_form()
    person.fill(form, {"runs": f"{FIRST}-x", "campaign": "by-a-person"})
    person.trigger(form)
    person.see_state("Failed")
    person.open_task("wait_for_group")
    assert "Traceback" not in person.read_log("neither a run nor a range", SAME_FORM)
    person.back_to_run()
    form = person.open_same_form()
    expect(form.locator("[name=element_campaign]")).to_have_value("by-a-person")
    person.fill(form, {"runs": f"{FIRST}-{FIRST + 3}"})
    person.trigger(form)
    person.see_state("Success")
    done(installation, "by-a-person", f"sum-r{FIRST}")


def test_a_campaign_with_mistakes_then_dry_then_for_real(installation: Installation, person: Person) -> None:
    person.open_dag("calib_campaign")
    form = person.open_form()
    person.fill(form, {"name": "no name", "runs": f"{FIRST}-x", "workflows": "tpyed", "base": "nothing"})
    person.trigger(form)
    person.see_state("Failed")
    person.open_task("check")
    told = person.read_log("cannot name a campaign", "neither a run nor a range", "no workflow tpyed", SAME_FORM)
    assert "Traceback" not in told
    person.back_to_run()
    form = person.open_same_form()
    right = {"name": "typed-in", "runs": f"{FIRST}-{FIRST + 3}", "workflows": WORKFLOW, "base": "prompt"}
    person.fill(form, right)
    person.trigger(form)
    person.see_state("Success")
    person.open_task("check")
    person.read_log(f"{DAG}: 4 groups of 4 runs", f"{SUM}: 1 group of 4 runs (sum-r{FIRST}", "a dry run")
    assert not installation.task_states("typed-in")
    person.back_to_run()
    form = person.open_same_form()
    person.switch(form, "dry_run")
    person.trigger(form)
    person.see_state("Success")
    person.open_dag(DAG)
    person.open_run(f"typed-in__run-r{FIRST}")
    person.see_state("Success")
    done(installation, "typed-in", f"run-r{FIRST + 3}", f"sum-r{FIRST}")


def test_days_without_the_box_and_with_it(installation: Installation, person: Person) -> None:
    for box in (False, True):
        person.go_home()
        person.open_dag("calib_backfill")
        form = person.open_form()
        form.get_by_text("Run this Dag for a range of dates").click()
        expect(form.get_by_text(f"First tick {BOX} above")).to_be_visible()
        person.backfill(form, DAY, DAY, box=box)
        if box:
            form.get_by_text(AGAIN, exact=True).click()
        person.fill(form, {"campaign": "a-day", "workflows": WORKFLOW})
        person.run_backfill(form)
        person.open_run("backfill__2026-01-09T00:00:00+00:00")
        person.see_state("Success" if box else "Failed")
        person.open_task("collect")
        if box:
            person.read_log("4 runs ended in this day", "the campaign a-day is")
        else:
            assert "Traceback" not in person.read_log("names no campaign", AGAIN, BOX)
            ended = lambda: not active_backfills(installation)  # noqa: E731
            installation.wait(ended, 240, "Airflow to see the backfill's end")
    done(installation, "a-day", f"run-r{FIRST}", f"sum-r{FIRST}")


def active_backfills(installation: Installation) -> list[object]:
    found = installation.airflow.call("GET", "/api/v2/backfills?dag_id=calib_backfill")["backfills"]
    return [one for one in found if not one["completed_at"]]


def test_an_event_of_the_asset_is_an_injection(installation: Installation, person: Person) -> None:
    installation.add_runs([FIRST + 4])
    person.page.get_by_role("link", name="Assets", exact=True).click()
    runs = person.page.get_by_role("link", name="runs", exact=True)
    person.page.get_by_role("row").filter(has=runs).get_by_role("button", name="Create Event").click()
    person.page.get_by_role("dialog").get_by_role("button", name="Create Event").click()
    installation.wait(
        lambda: installation.task_states().get((f"{WORKFLOW}/run-r{FIRST + 4}", "work")) == "done", 240, "the run"
    )
