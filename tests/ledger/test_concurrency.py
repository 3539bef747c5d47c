"""Eight processes at once on one SQLite file: nobody is told that it is locked, and nothing exists twice."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import openings, schema, tables, waiting
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.openings import OpeningLimits
from tests import processes
from tests.jobsets.world import World
from tests.ledger.making import SOURCE, T0, count, fill, task, workflow, write_runs

NOW = T0 + timedelta(days=100)
PROCESSES = 8


def flows(folder: Path) -> dict[str, Any]:
    made = [
        workflow(
            name,
            task("skim"),
            task("fit", fill(50, short="next"), needs=[f"{name}.skim@run"]),
            file=str(folder / "w.yaml"),
        )
        for name in ("ecal", "track")
    ]
    return {flow.name: flow for flow in made}


def _everything(number: int, folder: Path, start: Any, out: multiprocessing.Queue[Any]) -> None:
    """What all system DAGs, task processes and triggerers of an installation do, all together."""
    claimed = []
    try:
        ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
        start.wait()
        schema.upgrade(ledger)
        for turn in range(4):
            inject(ledger, flows(folder), {"daq": SOURCE}, folder, now=NOW, limits=OpeningLimits(max_open=1000))
            with ledger.write() as connection:
                items = openings.claim(connection, f"p{number}", NOW, limit=7)
            for item in items:
                with ledger.write() as connection:
                    openings.opened(connection, item.group_id, f"p{number}", NOW)
            claimed += [item.group_id for item in items]
            with ledger.read() as connection:
                groups = connection.execute(select(tables.run_group.c.id)).scalars().all()
            waiting.look_and_record(ledger, [(group, "fit") for group in groups])
            assert turn < 9
        out.put(claimed)
    except BaseException as error:
        out.put(repr(error))
        raise


def _together(target: Any, *arguments: Any) -> list[Any]:
    start, out = processes.context().Barrier(PROCESSES), processes.context().Queue()
    started = [processes.process(target, n, *arguments, start, out) for n in range(PROCESSES)]
    for process in started:
        process.start()
    answers = [out.get(timeout=180) for _ in started]
    for process in started:
        process.join()
    assert [answer for answer in answers if isinstance(answer, str)] == []
    return answers


def test_eight_processes(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": number} for number in range(1, 41)])
    claimed = Counter(group for mine in _together(_everything, tmp_path) for group in mine)
    assert set(claimed.values()) == {1}
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert count(ledger, tables.run) == 40
    assert count(ledger, tables.membership) == 2 * 2 * 40
    with ledger.read() as connection:
        seen = connection.execute(
            select(tables.event.c.entity, tables.event.c.workflow, tables.event.c.task, tables.event.c.group_name,
                   tables.event.c.run, tables.event.c.to_state).where(tables.event.c.from_state.is_(None))
        ).all()  # fmt: skip
    names = [tuple(row) for row in seen if row.entity in ("run", "run_group", "group_task", "dag_run_request")]
    assert len(names) == len(set(names))
    ledger.close()


def _watch(number: int, folder: Path, ids: list[int], start: Any, out: multiprocessing.Queue[Any]) -> None:
    os.environ["CALIB_HOME"] = str(folder)
    try:
        world = World(folder)
        start.wait()
        out.put([world.finish(generation, 120).state for generation in ids])
    except BaseException as error:
        out.put(repr(error))
        raise


def test_eight_watchers(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    world = World(tmp_path, "[ $CALIB_ATTEMPT = 2 ]", 5, retries=2)
    generation = world.begin().generation_id
    world.ledger.close()
    assert _together(_watch, tmp_path, [generation]) == [["done"]] * PROCESSES
    attempts = [(row.job_index, row.n, row.state) for row in world.rows(tables.attempt)]
    assert attempts == [(index, n, "failed" if n == 1 else "succeeded") for index in range(5) for n in (1, 2)]
    world.ledger.close()
