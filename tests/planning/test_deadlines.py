"""Deadlines of locks in plans: when they pass, what happens then, and what comes after."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from airflow_calib_provider.domain.locks.deadlines import (
    FAIL,
    GO_ON,
    GROUP_CLOSED,
    LAST_GOOD,
    RUN_END,
    WAITING,
    Limits,
)
from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.planning.deadlines import FirstPlanned, FirstPublished
from airflow_calib_provider.planning.records import PlannedDeadline, PlannedLock
from airflow_calib_provider.spec.models import Lock, Task
from tests.ledger.making import SOURCE, T0, fill, group_ids, new_ledger, task, workflow, write_runs
from tests.planning.test_plans import HOUR, NOW, locks_of, named, plan_of

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def limited(lock: Lock, at_most: timedelta, then: str = FAIL, since: str = GROUP_CLOSED) -> Lock:
    return lock.model_copy(update={"limits": dict(Limits(at_most, since, then).as_json())})


def on(tag: str) -> Lock:
    return Lock(kind="payload", parameters={"tag": tag})


def delay(hours: float) -> Lock:
    return Lock(kind="delay", parameters={"for": int(hours * 3600), "after": "group_closed"})


FILE = Lock(kind="file", parameters={"path": "/data/x", "what": "/data/x", "every": 60})


def waiting(name: str, *locks: Lock, **about: Any) -> Task:
    return task(name, **about).model_copy(update={"locks": locks})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Runs 4 to 8 of 50 minutes at each full hour: a run's group closes when the run ends."""
    write_runs(tmp_path / "runs.csv", [{"number": number} for number in range(4, 9)])
    return tmp_path


def first(folder: Path, *tasks: Task, now: Any = NOW) -> dict[str, PlannedLock]:
    """By task: the lock of the first run."""
    plan = plan_of(named(workflow("w", *tasks)), folder, now=now)
    return {lock.task: lock for group in plan.groups if group.name == "run-r4" for lock in group.locks}


CLOSED = T0 + 4 * HOUR + 50 * MINUTE


@pytest.mark.parametrize("then", [FAIL, GO_ON])
def test_it_passes_while_the_lock_is_shut(runs: Path, then: str) -> None:
    lock = first(runs, waiting("fit", limited(on("Nobody"), 3 * HOUR, then)))["fit"]
    assert (lock.state, lock.shut_from, lock.opens_at) == ("overdue", CLOSED, None)
    assert lock.deadline == PlannedDeadline(CLOSED + 3 * HOUR, then, True)
    assert lock.shut_for == 3 * HOUR


def test_it_does_not_pass_where_the_lock_opens_before_it_or_just_then(runs: Path) -> None:
    for hours, state in ((2.9, "opens"), (3.0, "opens"), (3.1, "overdue")):
        lock = first(runs, waiting("fit", limited(delay(hours), 3 * HOUR)))["fit"]
        assert lock.deadline is not None
        assert (lock.state, lock.deadline.passed) == (state, state == "overdue")
        assert lock.shut_for == min(hours * HOUR, 3 * HOUR)


def test_it_counts_from_the_end_of_the_last_run_but_nobody_asks_before_the_group_is_closed(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": number} for number in (4, 5, 6, 9)])
    flow = workflow("w", waiting("fit", limited(on("Nobody"), 4 * HOUR, since=RUN_END), policy=fill()))
    closed = T0 + 9 * HOUR + 50 * MINUTE
    end = T0 + 6 * HOUR + 50 * MINUTE
    lock = locks_of(plan_of(named(flow), tmp_path), "w")[4, "Nobody"]
    assert (lock.shut_from, lock.deadline) == (closed, PlannedDeadline(end + 4 * HOUR, FAIL, True))
    short = workflow("w", waiting("fit", limited(on("Nobody"), HOUR, since=RUN_END), policy=fill()))
    lock = locks_of(plan_of(named(short), tmp_path), "w")[4, "Nobody"]
    assert (lock.deadline, lock.shut_for) == (PlannedDeadline(closed, FAIL, True), timedelta())


def test_it_counts_from_when_the_task_begins_to_wait(runs: Path) -> None:
    skim = waiting("skim", delay(5))
    fit = waiting("fit", limited(on("Nobody"), HOUR, since=WAITING), needs=["w.skim@run"])
    assert first(runs, skim, fit)["fit"].deadline == PlannedDeadline(CLOSED + 6 * HOUR, FAIL, True)
    # A task before it that never is done: it never begins to wait.
    held = waiting("skim", on("Nobody"))
    assert first(runs, held, fit)["fit"].deadline is None
    assert first(runs, held, fit)["fit"].state == "shut"


def test_after_the_end_of_the_plan_it_is_only_told(runs: Path) -> None:
    lock = first(runs, waiting("fit", limited(on("Nobody"), 30 * DAY)), now=CLOSED + DAY)["fit"]
    assert (lock.state, lock.shut_for) == ("shut", None)
    assert lock.deadline == PlannedDeadline(CLOSED + 30 * DAY, FAIL, None)


def test_of_what_nobody_can_foresee_it_is_the_latest(runs: Path) -> None:
    lock = first(runs, waiting("fit", limited(FILE, HOUR, GO_ON)))["fit"]
    assert (lock.state, lock.deadline) == ("unknown", PlannedDeadline(CLOSED + HOUR, GO_ON, None))


def test_one_of_several_that_opens_in_time_is_enough(runs: Path) -> None:
    several = Lock(kind="any", alternatives=(on("Nobody"), delay(2)))
    plan = plan_of(named(workflow("w", waiting("fit", limited(several, 3 * HOUR)))), runs)
    assert [lock.state for lock in plan.groups[0].locks] == ["shut", "opens"]
    assert {lock.deadline for lock in plan.groups[0].locks} == {PlannedDeadline(CLOSED + 3 * HOUR, FAIL, False)}
    plan = plan_of(named(workflow("w", waiting("fit", limited(several, HOUR)))), runs)
    assert [lock.state for lock in plan.groups[0].locks] == ["overdue", "overdue"]


@pytest.mark.parametrize(("then", "state", "opens"), [(GO_ON, "opens", CLOSED + HOUR), (FAIL, "shut", None)])
def test_what_comes_after_it(runs: Path, then: str, state: str, opens: Any) -> None:
    flow = workflow("w", waiting("fit", limited(on("Nobody"), HOUR, then)))
    after = workflow("after", task("check", needs=["w.fit@run"]))
    lock = locks_of(plan_of(named(flow, after), runs), "after")[4, "w.fit"]
    assert (lock.state, lock.opens_at) == (state, opens)


class TestLastGood:
    def test_of_its_own_tag_the_first_group_has_none_and_fails_and_so_do_all(self, runs: Path) -> None:
        """What a task publishes itself never opens its own lock."""
        fit = waiting("fit", limited(on("S"), HOUR, LAST_GOOD), publish="S")
        plan = plan_of(named(workflow("w", fit)), runs)
        ends = [lock.deadline.then for group in plan.groups for lock in group.locks if lock.deadline]
        assert ends == [FAIL] * 5

    def test_once_there_is_one_the_others_go_on(self, runs: Path) -> None:
        """The first is published by another workflow that takes run 5 alone."""
        fit = waiting("fit", limited(on("S"), HOUR, LAST_GOOD), needs=["w.skim@run"])
        deliver = task("deliver", needs=["w.fit@run"], publish="S")
        start = workflow("start", task("make", publish="S"), where="run.number == 5")
        flows = named(workflow("w", task("skim"), fit, deliver), start)
        found = locks_of(plan_of(flows, runs), "w")
        said = {run: (found[run, "S"].state, found[run, "S"].deadline) for run in range(4, 9)}
        assert said[4][0] == "overdue"
        assert said[4][1] == PlannedDeadline(CLOSED + HOUR, FAIL, True)
        assert said[5][0] == "opens", "its run is covered"
        for run in (6, 7, 8):
            assert said[run] == ("overdue", PlannedDeadline(CLOSED + (run - 3) * HOUR, LAST_GOOD, True))
        # What waits for the tag has it then, whoever is asked about first.
        other = workflow("a", task("look", payloads=["S"]))
        seen = locks_of(plan_of({**named(other), **flows}, runs), "a")
        assert seen[7, "S"].opens_at == CLOSED + 4 * HOUR
        assert seen[4, "S"].state == "shut"

    def test_one_of_before_the_runs_of_the_plan_counts(self, runs: Path, database: str) -> None:
        flow = workflow("w", waiting("fit", limited(on("S"), HOUR, LAST_GOOD)))
        with new_ledger(runs) as ledger:
            inject(ledger, named(flow), {"daq": SOURCE}, runs, now=NOW)
            values: dict[str, Any] = {
                **{"campaign": "prompt", "tag": "S", "first_run": 1, "last_run": 2, "revision": 1, "content_hash": "0"},
                **{"file_name": "s", "size": 1, "workflow": "w", "task": "deliver", "state": "published"},
                **{"group_id": group_ids(ledger, "run", "w")["run-r4"], "provenance": {}, "published_at": T0},
            }
            before = locks_of(plan_of(named(flow), runs, ledger), "w")[5, "S"].deadline
            with ledger.write() as connection:
                connection.execute(insert(tables.payload).values(values))
            after = locks_of(plan_of(named(flow), runs, ledger, runs="5-8"), "w")[5, "S"].deadline
        assert before is not None
        assert after is not None
        assert (before.then, after.then) == (FAIL, LAST_GOOD)


def test_tasks_that_would_wait_for_each_other_but_for_a_deadline(runs: Path) -> None:
    """The plan says the same, whichever of the two workflows comes first."""
    one = workflow("one", waiting("fit", limited(on("B"), 2 * HOUR, GO_ON), publish="A"))
    two = workflow("two", waiting("fit", on("A"), publish="B"))

    def told(*flows: Any) -> Any:
        plan = plan_of(named(*flows), runs)
        return [
            (lock.state, lock.held_until) for name in ("one", "two") for _, lock in sorted(locks_of(plan, name).items())
        ]

    found = told(one, two)
    assert found == told(two, one)
    assert found[0] == ("overdue", CLOSED + 2 * HOUR)
    assert found[5] == ("opens", CLOSED + 2 * HOUR)
    renamed = named(workflow("two", one.tasks["fit"]), workflow("one", two.tasks["fit"]))
    turned = plan_of(renamed, runs)
    assert locks_of(turned, "two") == locks_of(plan_of(named(one, two), runs), "one")
    assert locks_of(turned, "one") == locks_of(plan_of(named(one, two), runs), "two")


def test_payloads_by_their_first_runs() -> None:
    published = FirstPublished([(5, T0 + HOUR), (3, T0 + 2 * HOUR), (9, T0)])
    assert [published.since(run) for run in (2, 3, 4, 5, 9)] == [
        None, T0 + 2 * HOUR, T0 + 2 * HOUR, T0 + HOUR, T0
    ]  # fmt: skip


def test_many_groups_are_asked_once_each(runs: Path) -> None:
    groups = plan_of(named(workflow("w", task("fit"))), runs).groups
    asked: list[str] = []

    def begins(group: Any) -> Any:
        asked.append(group.name)
        return (None if group.name != "run-r6" else T0), True

    planned = FirstPlanned(groups, begins)
    assert [planned.since(run) for run in (8, 3, 4, 5, 6, 7)] == [T0, None, None, None, T0, T0]
    assert asked == [group.name for group in groups]
