"""DAG runs that a person opens with runs filled in become groups of campaigns of their own (rule 57)."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.errors import CalibError, NotOpen
from airflow_calib_provider.injection.adopting import ByHand, adopt
from airflow_calib_provider.injection.inject import inject_folder
from airflow_calib_provider.jobsets.begin import begin, stated_params
from airflow_calib_provider.ledger import campaigns, groups, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.waiting import look
from airflow_calib_provider.spec.by_hand import by_hand_fields
from airflow_calib_provider.spec.loader import load_workflow
from tests import processes
from tests.cli.conftest import Calib
from tests.cli.world import NOW, World, row

RUN_ID = "manual__2026-11-29T02:10:00+00:00_xyz"


@pytest.fixture
def filled(world: World) -> World:
    world.inject(row(2), row(3), row(4, fill=2), row(5, lumi=0.0), row(6, completed=False))
    return world


def asked(world: World, dag_id: str = "demo__fill", run_id: str = RUN_ID, **form: Any) -> ByHand:
    return ByHand.of_form(world.workflows["demo"], dag_id, run_id, form, "anna")


def by_hand(world: World, dag_id: str = "demo__fill", run_id: str = RUN_ID, **form: Any) -> Any:
    return adopt(world.ledger, world.workflows["demo"], asked(world, dag_id, run_id, **form), NOW)


def campaign(world: World, name: str) -> Any:
    with world.ledger.read() as connection:
        return campaigns.get(connection, name)


def test_the_dag_run_is_the_one_group_of_a_campaign_of_its_own(filled: World, calib: Calib) -> None:
    made = by_hand(filled, runs="2,4")
    assert (made.name, made.state, made.first_run, made.last_run) == ("fill-r2", "closed", 2, 4)
    assert re.fullmatch(r"hand-r2-[0-9a-f]{8}", made.campaign)
    row_of = campaign(filled, made.campaign)
    assert (row_of.kind, row_of.state, row_of.base_campaign, row_of.created_by) == (
        "finite",
        "closed",
        "prompt",
        "anna",
    )
    members = [item.run for item in filled.rows(tables.membership) if item.campaign == made.campaign]
    assert members == [2, 4]
    (request,) = [item for item in filled.rows(tables.dag_run_request) if item.group_id == made.id]
    assert (request.dag_id, request.run_id, request.state) == ("demo__fill", RUN_ID, "opened")
    said = calib.plain("explain", "fill-r2", "--campaign", made.campaign, "--no-airflow")
    assert "fill-r2" in said


def test_what_it_needs_of_other_groupings_is_that_of_prompt(filled: World) -> None:
    made = by_hand(filled, runs="2-3")
    key = (made.id, "scale")
    with filled.ledger.read() as connection:
        seen = look(connection, [key])[key]
    assert (seen.state, seen.reason and seen.reason["code"]) == ("waiting", "needs")
    flow = filled.workflows["demo"]
    arguments = {"max_tries": 8, "dag_run_id": RUN_ID, "now": NOW}
    with pytest.raises(NotOpen):
        begin(filled.ledger, flow, flow.tasks["scale"], made.id, **arguments)
    filled.open_dag_runs()
    for name in ("run-r2", "run-r3"):
        filled.do(name, "skim")
    with filled.ledger.read() as connection:
        assert look(connection, [key])[key].state == "open"
    assert begin(filled.ledger, flow, flow.tasks["scale"], made.id, **arguments).state == "running"


def test_injection_leaves_it_alone(filled: World) -> None:
    made = by_hand(filled, "demo__run", runs="3", campaign="once-more")
    assert made.campaign == "once-more"
    before = filled.rows(tables.run_group)
    inject_folder(filled.ledger, filled.specs, now=NOW)
    assert filled.rows(tables.run_group) == before
    with filled.ledger.read() as connection:
        tasks = tables.group_task
        found = connection.execute(select(tasks.c.task).where(tasks.c.group_id == made.id)).scalars().all()
    assert list(found) == ["skim"]
    assert filled.open_dag_runs() == len([item for item in before if item.opening == "asked"]) - 1


def test_the_same_dag_run_has_its_group_already(filled: World) -> None:
    first = by_hand(filled, runs="2-3", campaign="once")
    assert by_hand(filled, runs="2-3", campaign="once") == first
    with pytest.raises(CalibError, match="once exists already"):
        by_hand(filled, run_id="another", runs="2-3", campaign="once")
    assert (
        by_hand(filled, run_id="another", runs="2-3").campaign != by_hand(filled, run_id="third", runs="2-3").campaign
    )


def test_a_name_that_is_taken_is_one_mistake(filled: World) -> None:
    """By hand the base is prompt: to call it prompt, too, is wrong once, and in words of the form."""
    with pytest.raises(CalibError) as wrong:
        by_hand(filled, runs="2-3", campaign="prompt")
    assert (
        str(wrong.value) == "the campaign prompt exists already; a campaign's name is never used twice; choose another"
    )


@pytest.mark.parametrize(
    ("dag_id", "form", "part"),
    [
        ("demo__fill", {}, "fill in runs, such as 355100-355110"),
        ("demo__fill", {"runs": " \n"}, "none are filled in"),
        ("demo__run", {"runs": "2-3"}, "a DAG run of demo__run is of one run, and runs names 2"),
        ("demo__fill", {"runs": "2,77"}, "does not list 77"),
        ("demo__fill", {"runs": "2-x"}, "neither a run nor a range"),
        ("demo__fill", {"runs": "2-6"}, "does not list as completed: 6"),
        ("demo__fill", {"runs": "4-5"}, "not taken: 5: "),
        ("demo__fill", {"runs": "2", "campaign": "no name"}, "cannot name a campaign"),
        ("demo__fill", {"runs": "2", "campaign": "prompt"}, "exists already"),
        ("demo__fill", {"runs": "x", "campaign": "no name"}, "2 mistakes in"),
        ("demo__fill", {"runs": "9" * 100_000}, "no run has the number"),
    ],
)
def test_mistakes(filled: World, dag_id: str, form: dict[str, str], part: str) -> None:
    before = filled.rows(tables.campaign)
    with pytest.raises(CalibError) as caught:
        by_hand(filled, dag_id, **form)
    assert part in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert filled.rows(tables.campaign) == before


def test_a_param_of_the_same_name_is_the_workflows(filled: World) -> None:
    file = filled.specs / "demo.yaml"
    file.write_text(file.read_text().replace("tasks:\n", "params: {runs: 3}\ntasks:\n", 1))
    flow = load_workflow(file)
    assert by_hand_fields(flow) == {"runs": "calib_runs", "campaign": "campaign"}
    given = {"runs": 4, "calib_runs": "2", "campaign": "x", "other": 1}
    assert stated_params(flow, given) == {"runs": 4, "other": 1}
    assert stated_params(filled.workflows["other"], given) == {"calib_runs": "2", "other": 1}


def adopt_in_a_process(url: str, specs: Path) -> None:
    flow = load_workflow(specs / "demo.yaml")
    adopt(Ledger(url), flow, ByHand.of_form(flow, "demo__fill", RUN_ID, {"runs": "2-3"}, None), NOW)


@pytest.mark.parametrize("point", ["adopt.before_commit", "adopt.after_commit"])
def test_killed_while_it_adopts_the_retry_finds_one_group(point: str, filled: World, tmp_path: Path) -> None:
    url = filled.ledger.url.render_as_string(hide_password=False)
    crash = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(tmp_path)}
    assert processes.run(adopt_in_a_process, url, filled.specs, **crash).returncode == -signal.SIGKILL
    made = by_hand(filled, runs="2-3")
    (name,) = [item.name for item in filled.rows(tables.campaign) if item.name != "prompt"]
    assert made.campaign == name
    with filled.ledger.read() as connection:
        assert groups.find_group(connection, name, "demo", "fill-r2").id == made.id


def test_two_tasks_of_a_dag_run_that_begin_together_have_one_group(filled: World) -> None:
    found: list[int] = []

    def one() -> None:
        found.append(by_hand(filled, runs="2-3").id)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
