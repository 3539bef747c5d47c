"""Injectors, watchers, publishers and readers of events at the same time, as threads and as processes."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from sqlalchemy import func, select

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.observation import AttemptState, Observation
from airflow_calib_provider.domain.reducer import RetryLimits, reduce
from airflow_calib_provider.errors import IllegalTransition
from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import generations, groups, observed, rounds, tables, waiting
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.transitions import Move, Subject, append_events, move
from airflow_calib_provider.payloads.store import publish
from tests import processes
from tests.ledger.making import (
    SOURCE,
    T0,
    count,
    facts,
    fill,
    group_ids,
    new_ledger,
    put_runs,
    task,
    workflow,
    write_runs,
)
from tests.postgres.places import ledger_url

NOW = T0 + timedelta(days=100)
WATCHED = workflow("watched", task("fit"), task("deliver", publish="Scale", file="x"))
RUNS, JOBS, REVISIONS, INJECTED = 4, 5, 2, 20
PATIENCE = 180.0
Role = Callable[[Ledger, Path, int], Any]


def flows(folder: Path) -> dict[str, Any]:
    """What the injectors fill."""
    file = str(folder / "w.yaml")
    made = [workflow(name, task("skim"), task("fit", fill(50), needs=[f"{name}.skim@run"]), file=file) for name in "ab"]
    return {flow.name: flow for flow in made}


def begin(ledger: Ledger, group: int) -> int:
    """A generation whose jobs were submitted."""
    with ledger.write() as connection:
        new = generations.NewGeneration(
            group, "fit", 0, "local", "h", None, "d", [], [], [], {}, 0, 1.0, {}, f"f/{group}", "r", [{}] * JOBS
        )
        number = generations.create(connection, new, T0)
        row = generations.by_id(connection, number)
        rounds.plan(connection, row, T0)
        for item in rounds.in_states(connection, [number], ["planned"]):
            rounds.note_submitted(connection, row, item, T0)
    return number


# --- Who is there


def injector(ledger: Ledger, folder: Path, number: int) -> Any:
    """Injects again and again, while the source has more and more runs."""
    errors = []
    for known in range(5, INJECTED + 1, 5):
        if number == 0:
            new = folder / "runs.new"
            write_runs(new, [{"number": run} for run in range(1, known + 1)])
            new.replace(folder / "runs.csv")
        errors += inject(ledger, flows(folder), {"daq": SOURCE}, folder, now=NOW).errors
        with ledger.read() as connection:
            ids = connection.execute(select(tables.run_group.c.id).order_by(func.random())).scalars().all()
        waiting.look_and_record(ledger, [(one, "fit") for one in ids])
    errors += inject(ledger, flows(folder), {"daq": SOURCE}, folder, now=NOW).errors
    return errors


def watcher(ledger: Ledger, folder: Path, number: int) -> Any:
    """Brings all job sets to their ends, together with the other watchers; what it was the first to store."""
    stored: list[tuple[int, str]] = []
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with ledger.read() as connection:
            rows = generations.running(connection)
            rows = rows if number % 2 else rows[::-1]
            ids = [row.id for row in rows]
            jobs = generations.jobs_of(connection, ids)
            submitted = {item.generation_id: item for item in rounds.in_states(connection, ids, ["submitted"])}
        if not rows:
            return stored
        for row in rows:
            mine = [generations.as_job(job) for job in jobs if job.generation_id == row.id]
            step(ledger, row, submitted.get(row.id), mine if number % 2 else mine[::-1], stored)
        time.sleep(0.005)
    raise TimeoutError("the job sets did not end")


def step(ledger: Ledger, row: Any, item: Any, jobs: list[Any], stored: list[tuple[int, str]]) -> None:
    """One step of one job set."""
    running = all(job.state == "running" for job in jobs)
    state = AttemptState.SUCCEEDED if running else AttemptState.RUNNING
    try:
        with ledger.write() as connection:
            if item is None or all(job.state == "succeeded" for job in jobs):
                generations.end(connection, row, "done", {"code": "done"}, NOW)
                stored.append((row.id, "done"))
                return
            changes = []
            for job in jobs:
                seen = Observation(job.index, job.attempt, state, NOW, exit_code=0 if running else None)
                values = [("scale", 1.0, 0.1)] if running else []
                changes.append(observed.JobChange(job, reduce(job, seen, RetryLimits(0)), seen, values=values))
            if observed.apply(connection, row, item, changes, f"{item.cursor}x"):
                stored.append((row.id, str(state)))
    except IllegalTransition:
        pass  # another watcher ended it


def publisher(ledger: Ledger, folder: Path, number: int) -> Any:
    """Publishes for every group: what all of them publish, and once what nobody else does."""
    new = Counter[int]()
    ids = list(group_ids(ledger, "run", "watched").values())
    for content in [*(f"common {n}" for n in range(REVISIONS)), f"own {number}"]:
        file = folder / f"payload-{number}"
        file.write_text(content)
        for run, group in enumerate(ids, start=1) if number % 2 else reversed([*enumerate(ids, start=1)]):
            iov = Iov(run, run)
            done = publish(
                ledger, tag="Scale", file=file, group_id=group, task="deliver", iov=iov, provenance={}, now=NOW
            )
            new[group] += done.new
    return dict(new)


def reader(ledger: Ledger, folder: Path, number: int) -> Any:
    """Reads the events by a cursor, as a mirror does, until told that all else has ended."""
    seen: list[int] = []
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ended = (folder / "ended").exists()
        with ledger.read() as connection:
            after = tables.event.c.id > (seen[-1] if seen else 0)
            ids = connection.execute(select(tables.event.c.id).where(after).order_by(tables.event.c.id)).scalars().all()
            seen += ids
            # One view: what is there does not change between two statements.
            assert connection.execute(select(func.count()).select_from(tables.event)).scalar() == len(seen)
        if ended and not ids:
            return seen
        time.sleep(0.005)
    raise TimeoutError("the others did not end")


ROLES: dict[str, Role] = {"injector": injector, "watcher": watcher, "publisher": publisher, "reader": reader}
CAST = [("injector", 0), ("injector", 1), ("watcher", 0), ("watcher", 1), ("watcher", 2), ("publisher", 0)]
CAST += [("publisher", 1), ("reader", 0)]


def play(role: str, number: int, url: str, folder: Path, start: Any, out: Any) -> None:
    """One of them, from its begin to its end."""
    os.environ["CALIB_HOME"] = str(folder)
    try:
        ledger = Ledger(url)
        start.wait()
        out.put((role, number, ROLES[role](ledger, folder, number)))
        ledger.close()
    except BaseException as error:  # noqa: BLE001
        out.put((role, number, error.__class__.__name__ + ": " + str(error)))


def perform(kind: str, url: str, folder: Path) -> dict[tuple[str, int], Any]:
    """All of them at once, as threads or as processes; what each of them says."""
    if kind == "processes":
        start, out = processes.context().Barrier(len(CAST)), processes.context().Queue()
        players = [processes.process(play, *one, url, folder, start, out) for one in CAST]
    else:
        start, out = threading.Barrier(len(CAST)), Queue()  # type: ignore[assignment]
        players = [threading.Thread(target=play, args=(*one, url, folder, start, out), daemon=True) for one in CAST]  # type: ignore[misc]
    for player in players:
        player.start()
    said: dict[tuple[str, int], Any] = {}
    for _ in CAST:
        if len(said) == len(CAST) - 1:
            (folder / "ended").touch()
        role, number, answer = out.get(timeout=PATIENCE)
        said[role, number] = answer
    for player in players:
        player.join()
    return said


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_everybody_at_once(database: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    ledger = new_ledger(tmp_path)
    put_runs(ledger, WATCHED, [facts(number) for number in range(1, RUNS + 1)])
    write_runs(tmp_path / "runs.csv", [{"number": 1}])
    started = [begin(ledger, group) for group in group_ids(ledger, "run", "watched").values()]
    ledger.close()
    said = perform(kind, ledger_url(tmp_path), tmp_path)
    assert {who: answer for who, answer in said.items() if isinstance(answer, str)} == {}
    assert said["injector", 0] == said["injector", 1] == []
    again = Ledger(ledger_url(tmp_path))

    # Each step of each job set was stored once, by one of the watchers.
    stored = Counter(item for number in range(3) for item in said["watcher", number])
    assert stored == {(number, name): 1 for number in started for name in ("running", "succeeded", "done")}
    assert count(again, tables.job, tables.job.c.state == "succeeded") == RUNS * JOBS
    assert count(again, tables.value) == RUNS * JOBS
    of_jobs = count(again, tables.event, tables.event.c.entity == "job")
    assert of_jobs == RUNS * JOBS * len(("waiting", "submitted", "running", "succeeded"))

    # Each new content is one revision, and one of each group holds.
    revisions = said["publisher", 0] | {}
    for group, number in said["publisher", 1].items():
        revisions[group] += number
    with again.read() as connection:
        rows = connection.execute(select(tables.payload).order_by(tables.payload.c.revision)).all()
    assert Counter(row.group_id for row in rows) == revisions
    assert Counter(row.group_id for row in rows if row.state == "published") == dict.fromkeys(revisions, 1)
    for group, number in revisions.items():
        assert [row.revision for row in rows if row.group_id == group] == list(range(1, number + 1))

    # Every run is in one group of each grouping.
    assert count(again, tables.membership, tables.membership.c.workflow != "watched") == 2 * 2 * INJECTED
    with again.read() as connection:
        names = connection.execute(
            select(tables.event.c.entity, tables.event.c.workflow, tables.event.c.task, tables.event.c.group_name,
                   tables.event.c.run, tables.event.c.to_state)
            .where(tables.event.c.from_state.is_(None), tables.event.c.entity.in_(["run", "run_group", "group_task"]))
        ).all()  # fmt: skip
        events = connection.execute(select(tables.event.c.id).order_by(tables.event.c.id)).scalars().all()
    assert len(names) == len(set(names))

    # A cursor missed no event: none became visible after one with a higher number.
    assert said["reader", 0] == events
    again.close()


def test_two_that_do_the_same(ledger: Ledger) -> None:
    """One of them does it; the others are told."""
    put_runs(ledger, WATCHED, [facts(number) for number in range(1, 4)])
    ids = sorted(group_ids(ledger, "run", "watched").values())
    start, said = threading.Barrier(6), Queue[str]()

    def end(number: int) -> None:
        key = ids if number % 2 else ids[::-1]  # in an order in which two could wait for each other
        moves = [Move({"group_id": one, "task": "fit"}, "new", "processing", Subject(), {"since": T0}) for one in key]
        start.wait()
        try:
            with ledger.write() as connection:
                for item in moves:
                    move(connection, tables.group_task, [item])
                    time.sleep(0.02)
            said.put("done")
        except Exception as error:  # noqa: BLE001
            said.put(f"{error.__class__.__name__}: {error}")

    threads = [threading.Thread(target=end, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = Counter(said.get() for _ in threads)
    assert answers.pop("done") == 1
    [(text, times)] = answers.items()
    assert text == (
        "IllegalTransition: 1 of 1 group_task rows are no longer in the state they were read in; another process was "
        "faster; look again"
    )
    assert times == 5
    assert count(ledger, tables.event, tables.event.c.entity == "group_task", tables.event.c.from_state == "new") == 3


def test_opposite_orders_are_no_deadlock(ledger: Ledger) -> None:
    put_runs(ledger, WATCHED, [facts(number) for number in range(1, 9)])
    ids = sorted(group_ids(ledger, "run", "watched").values())
    start, errors = threading.Barrier(4), Queue[BaseException]()

    def change(number: int) -> None:
        start.wait()
        try:
            for turn in range(10):
                with ledger.write() as connection:
                    for one in ids if number % 2 else ids[::-1]:
                        reason = {"code": f"{number} {turn}"}
                        groups.set_task_states(connection, one, "failed", reason, T0, task="fit")
        except BaseException as error:  # noqa: BLE001
            errors.put(error)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(errors.queue) == []
    assert count(ledger, tables.event, tables.event.c.to_state == "failed") == 4 * 10 * len(ids)


def test_events_become_visible_in_their_order(ledger: Ledger) -> None:
    """A transaction that is slow does not let the events of a later one be seen before its own."""
    begun = threading.Event()

    def slowly() -> None:
        with ledger.write() as connection:
            append_events(connection, [{"entity": "run", "subject": Subject(run=1)}])
            begun.set()
            time.sleep(0.5)

    thread = threading.Thread(target=slowly)
    thread.start()
    begun.wait()
    with ledger.write() as connection:
        append_events(connection, [{"entity": "run", "subject": Subject(run=2)}])
    with ledger.read() as connection:
        runs = connection.execute(select(tables.event.c.run).order_by(tables.event.c.id)).scalars().all()
    thread.join()
    assert runs == [1, 2]


def test_a_view_is_one_moment(ledger: Ledger) -> None:
    """What is read in one block does not change in between, and keeps no writer from writing."""
    with ledger.read() as reading:
        before = reading.execute(select(func.count()).select_from(tables.event)).scalar()
        with ledger.write() as connection:
            append_events(connection, [{"entity": "run", "subject": Subject(run=1)}])
        assert reading.execute(select(func.count()).select_from(tables.event)).scalar() == before
    assert count(ledger, tables.event) == (before or 0) + 1
