"""Backfill over dates, as the task of calib_backfill does it (rule 58)."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.injection import backfill
from airflow_calib_provider.ledger import backfill_days, campaigns, steering, tables
from airflow_calib_provider.ledger.backfill_days import Day
from airflow_calib_provider.ledger.engine import Ledger
from tests import processes
from tests.cli.world import NOW, World, row

DAG = "calib_backfill"
FORM = {"campaign": "week", "workflows": ["demo"], "max_jobs": 9}
DAYS = 4


def day(number: int) -> Day:
    begin = datetime(2026, 3, number, tzinfo=UTC)
    return Day(DAG, f"backfill__{number}", begin, begin + timedelta(days=1))


@pytest.fixture
def filled(world: World) -> World:
    """Two runs a day: 11 and 12 ended on the first, ..."""
    rows = []
    for number in range(1, DAYS + 1):
        for n in (1, 2):
            end = day(number).begin + timedelta(hours=8 * n)
            ends = {"start": (end - timedelta(hours=1)).isoformat(), "end": end.isoformat()}
            rows.append(row(10 * number + n) | ends)
    world.inject(*rows)
    return world


class Airflow:
    """What Airflow knows of DAG runs."""

    def __init__(self, *numbers: int) -> None:
        self.active = {day(number).run_id for number in numbers}

    def __call__(self, dag_id: str, run_ids: Sequence[str] | None) -> int:
        assert dag_id == DAG
        return len(self.active if run_ids is None else self.active & set(run_ids))


def collect(world: World, number: int, airflow: Airflow, form: Any = FORM) -> backfill.Collected:
    return backfill.collect(world.ledger, world.specs, form, day(number), airflow, NOW, "anna")


def runs(world: World, name: str = "week") -> list[int]:
    return sorted(item.run for item in world.rows(tables.campaign_run) if item.campaign == name)


def state(world: World, name: str = "week") -> str:
    with world.ledger.read() as connection:
        return campaigns.get(connection, name).state


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)])
def test_each_day_adds_its_runs_and_the_last_starts_the_campaign(order: tuple[int, ...], filled: World) -> None:
    airflow = Airflow(1, 2, 3)
    first, second, third = order
    assert collect(filled, first, airflow) == backfill.Collected("week", 2, 2, "collecting", [])
    airflow.active.remove(day(first).run_id)
    assert collect(filled, second, airflow).state == "collecting"
    # Its DAG run is not over yet when the third is done.
    assert collect(filled, third, airflow).state == "grouping"
    assert runs(filled) == [11, 12, 21, 22, 31, 32]
    with filled.ledger.read() as connection:
        made = campaigns.get(connection, "week")
    assert (made.max_jobs, made.created_by, list(made.spec_hashes)) == (9, "anna", ["demo"])


def test_days_that_end_together_both_see_that_they_are_the_last(filled: World) -> None:
    airflow = Airflow(1, 2)
    collect(filled, 1, airflow)
    collect(filled, 2, airflow)
    for number in (1, 2):
        assert backfill.start_if_last(filled.ledger, "week", airflow, NOW)[0] == "grouping", number


def test_the_same_day_twice_adds_nothing(filled: World) -> None:
    airflow = Airflow(1, 2)
    collect(filled, 1, airflow)
    again = collect(filled, 1, airflow)
    assert (again.added, again.state) == (0, "collecting")
    assert collect(filled, 2, airflow).state == "grouping"
    once_more = collect(filled, 2, airflow)
    assert (once_more.runs, once_more.added, once_more.state) == (2, 0, "grouping")
    with pytest.raises(CalibError, match="is grouping, and lacks 2 runs of this day, such as 31"):
        collect(filled, 3, airflow)


def test_a_day_that_has_failed_leaves_the_campaign_collecting_until_it_is_done(filled: World) -> None:
    airflow = Airflow(1, 2)
    collect(filled, 1, airflow)
    with filled.ledger.write() as connection:
        backfill_days.note(connection, "week", day(2), None)  # it dies here, and is not tried again
    airflow.active.clear()
    assert backfill.start_collected(filled.ledger, airflow, NOW) == []
    last = collect(filled, 3, Airflow(3))
    assert (last.state, last.unfinished) == ("collecting", [day(2).run_id])
    assert collect(filled, 2, Airflow(2)).state == "grouping", "it was cleared"


def test_housekeeping_starts_what_nobody_has_started(filled: World) -> None:
    collect(filled, 1, Airflow(1, 2))
    assert backfill.start_collected(filled.ledger, Airflow(2), NOW) == []
    assert backfill.start_collected(filled.ledger, Airflow(), NOW) == ["week"]
    assert backfill.start_collected(filled.ledger, Airflow(), NOW) == []


def test_a_campaign_that_a_person_collects_is_not_started_by_housekeeping(filled: World) -> None:
    with filled.ledger.write() as connection:
        campaigns.create(connection, "own", kind="finite", collecting=True, runs={"daq": [11]})
    assert backfill.start_collected(filled.ledger, Airflow(), NOW) == []
    assert state(filled, "own") == "collecting"


def test_days_without_runs_start_nothing(filled: World) -> None:
    empty = collect(filled, DAYS + 1, Airflow(DAYS + 1))
    assert (empty.runs, empty.state) == (0, "collecting")


@pytest.mark.parametrize(
    ("form", "part"),
    [
        (None, "tick the box 'Override parameters on existing runs'"),
        ({}, "the backfill names no campaign"),
        ({"campaign": " "}, "the backfill names no campaign"),
        ({"campaign": "prompt", "workflows": ["dmo"]}, "there is no workflow dmo"),
        ({"campaign": "no name"}, "cannot name a campaign"),
        ({"campaign": "week", "workflows": ["demmo"]}, "no workflow demmo"),
        ({"campaign": "week", "workflow": "demo"}, "no field 'workflow'"),
        ({"campaign": "beam"}, "the campaign beam is streamed"),
        ({"campaign": "week", "source": "daqq"}, "no run source daqq"),
    ],
)
def test_mistakes(filled: World, form: Any, part: str) -> None:
    with filled.ledger.write() as connection:
        campaigns.create(connection, "beam", kind="streamed")
    with pytest.raises(CalibError) as caught:
        collect(filled, 1, Airflow(1), form)
    assert part in str(caught.value)
    assert [item.name for item in filled.rows(tables.campaign) if item.name not in ("prompt", "beam")] == []


def test_a_campaign_that_a_person_has_started_meanwhile(filled: World) -> None:
    collect(filled, 1, Airflow(1, 2))
    steering.start(filled.ledger, "week", NOW)
    with pytest.raises(CalibError, match="name another campaign"):
        collect(filled, 2, Airflow(2))


def collect_in_a_process(url: str, specs: Path) -> None:
    backfill.collect(Ledger(url), specs, FORM, day(1), Airflow(1), NOW)


@pytest.mark.parametrize(
    "point", ["form.after_create", "backfill.after_begin", "backfill.after_add", "backfill.after_day"]
)
def test_killed_anywhere_the_retry_has_each_run_once(point: str, filled: World, tmp_path: Path) -> None:
    url = filled.ledger.url.render_as_string(hide_password=False)
    crash = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(tmp_path)}
    assert processes.run(collect_in_a_process, url, filled.specs, **crash).returncode == -signal.SIGKILL
    assert state(filled) == "collecting"
    assert collect(filled, 1, Airflow(1)).state == "grouping"
    assert runs(filled) == [11, 12]
