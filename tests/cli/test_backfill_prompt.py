"""A backfill into prompt: what a workflow lacks of a day comes in, as late runs (rules 50, 58)."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from tests import processes
from tests.cli.conftest import Calib
from tests.cli.test_backfill import Airflow, backfill, collect, day, filled  # noqa: F401 - filled is a fixture
from tests.cli.world import NOW, World

FORM = {"campaign": "prompt", "workflows": ["fresh"]}
FRESH = """\
apiVersion: calib/v1
workflow: fresh
runs: {source: daq, where: "run.number != 22"}
tasks:
  each:
    group_by: {run: {late_runs: new_group}}
    jobs: {command: [echo, "{{ run.number }}"]}
  some:
    group_by: {sum: {lumi: 9, late_runs: new_group}}
    needs: [each]
    jobs: {command: [echo, hello]}
  other:
    group_by: {sum: {name: few, lumi: 9}}
    needs: [each]
    jobs: {command: [echo, hello]}
"""


@pytest.fixture
def fresh(filled: World) -> World:  # noqa: F811
    """A workflow that is younger than all runs."""
    (filled.specs / "fresh.yaml").write_text(FRESH)
    filled.inject()
    return filled


def members(world: World, grouping: str) -> dict[int, str]:
    """Run → its group, or what else was decided."""
    names = {item.id: f"{item.name}{' late' if item.late else ''}" for item in world.rows(tables.run_group)}
    here = [item for item in world.rows(tables.membership) if (item.workflow, item.grouping) == ("fresh", grouping)]
    return {item.run: names.get(item.group_id, item.state) for item in here}


def test_what_is_lacked_of_a_day_comes_in(fresh: World) -> None:
    assert set(members(fresh, "run").values()) == {"not_selected"}
    assert collect(fresh, 1, Airflow(1), FORM) == backfill.Collected("prompt", 2, 2, "open", (), [])
    assert collect(fresh, 2, Airflow(2), FORM).added == 1
    expected = {11: "run-r11 late", 12: "run-r12 late", 21: "run-r21 late"}
    assert {run: name for run, name in members(fresh, "run").items() if name != "not_selected"} == expected
    expected = {11: "sum-r11 late", 12: "sum-r11 late", 21: "sum-r21 late"}
    assert {run: name for run, name in members(fresh, "sum").items() if name != "not_selected"} == expected
    # Where late runs are in no group, they are known as late, and can be put into one.
    assert {run for run, name in members(fresh, "few").items() if name == "late"} == {11, 12, 21}
    assert {item.state for item in fresh.rows(tables.run_group) if item.workflow == "fresh"} == {"closed"}
    reasons = {
        item.reason["code"] for item in fresh.rows(tables.membership) if item.workflow == "fresh" and item.run == 22
    }
    assert reasons == {"before_first_seen"}, "its condition does not take it"


def test_why_nothing_comes_in_of_runs_that_no_injection_has_seen(filled: World) -> None:  # noqa: F811
    (filled.specs / "fresh.yaml").write_text(FRESH)
    found = collect(filled, 1, Airflow(1), FORM)
    assert (found.runs, found.added) == (2, 0)
    (said,) = found.left
    assert said.startswith("nothing is decided about run 11, 12 in fresh yet, so it is not late: calib_inject decides")
    assert "`calib explain 11 --workflow fresh`" in said
    filled.inject()
    assert collect(filled, 1, Airflow(1), FORM).left == []


def test_the_same_day_again_adds_nothing(fresh: World) -> None:
    collect(fresh, 1, Airflow(1), FORM)
    fresh.inject()
    before = len(fresh.rows(tables.event))
    assert collect(fresh, 1, Airflow(1), FORM).added == 0
    fresh.inject()
    assert len(fresh.rows(tables.event)) == before


def test_what_is_there_is_not_touched(fresh: World) -> None:
    demo = [item for item in fresh.rows(tables.membership) if item.workflow == "demo"]
    assert collect(fresh, 1, Airflow(1), {"campaign": "prompt", "workflows": ["demo"]}).added == 0
    assert [item for item in fresh.rows(tables.membership) if item.workflow == "demo"] == demo


def test_a_workflow_that_is_none(fresh: World) -> None:
    with pytest.raises(CalibError, match="there is no workflow frsh"):
        collect(fresh, 1, Airflow(1), {"campaign": "prompt", "workflows": ["frsh"]})


MISTAKES: list[tuple[dict[str, object], str]] = [
    ({"workflows": "fresh"}, "workflows is 'fresh'.* it must be a list of texts"),
    ({"workflow": ["fresh"]}, "the form has no field 'workflow'.* did you mean 'workflows'"),
    ({"source": "nowhere"}, "none of these workflows takes its runs from nowhere"),
    ({"overrides": {"window": 4}}, "overrides is filled in, which prompt cannot have of a backfill"),
    ({"first_tasks": ["some"], "max_jobs": 3}, "2 mistakes in the form"),
]


@pytest.mark.parametrize(("form", "message"), MISTAKES, ids=[next(iter(form)) for form, _ in MISTAKES])
def test_what_cannot_be_meant_brings_nothing_in(fresh: World, form: dict[str, object], message: str) -> None:
    before = len(fresh.rows(tables.event))
    with pytest.raises(CalibError) as raised:
        collect(fresh, 1, Airflow(1), {"campaign": "prompt", **form})
    assert re.search(message, str(raised.value).replace("\n", " "))
    assert len(fresh.rows(tables.event)) == before


def test_what_the_dialog_fills_in_by_itself_is_no_mistake(fresh: World) -> None:
    usual = {"base": "prompt", "order": "ascending", "priority": 0, "overrides": None, "first_tasks": [], "source": ""}
    assert collect(fresh, 1, Airflow(1), {**FORM, **usual, "max_groups": None}).added == 2


def test_a_closed_prompt_takes_nothing(fresh: World, calib: Calib) -> None:
    assert calib("campaign", "close", "prompt", "--yes").exit_code == 0
    with pytest.raises(CalibError, match="the campaign prompt is closed: it takes no runs"):
        collect(fresh, 1, Airflow(1), FORM)


def act(url: str, specs: Path) -> None:
    ledger = Ledger(url)
    backfill.collect(ledger, specs, FORM, day(1), Airflow(1), NOW)
    ledger.close()


def test_it_dies_between_two_groupings(fresh: World, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    crash = {"CALIB_CRASH_AT": "backfill.after_add", "CALIB_CRASH_FOLDER": str(marks)}
    url = fresh.ledger.url.render_as_string(hide_password=False)
    assert processes.run(act, url, fresh.specs, **crash).returncode == -signal.SIGKILL
    assert set(members(fresh, "sum").values()) == {"not_selected"}
    assert processes.run(act, url, fresh.specs, **crash).returncode == 0
    assert {name for name in members(fresh, "sum").values() if name != "not_selected"} == {"sum-r11 late"}
    assert {name for name in members(fresh, "run").values() if name != "not_selected"} == {
        "run-r11 late",
        "run-r12 late",
    }
