"""The state machine: legal moves happen with exactly one event each, illegal ones leave nothing."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Table, insert, select

from airflow_calib_provider.errors import IllegalTransition
from airflow_calib_provider.ledger import tables, transitions
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.transitions import GRAPHS, Move, Subject, move, now_ns
from tests import processes
from tests.ledger.making import T0, count, new_ledger

STATES = sorted({state for graph in GRAPHS.values() for targets in graph.values() for state in targets})
ENTITIES: dict[str, Table] = {"job": tables.job, "attempt": tables.attempt, "round": tables.round_}


def key_of(entity: str, index: int) -> dict[str, int]:
    if entity == "round":
        return {"generation_id": 1, "step": 0, "n": index}
    key = {"generation_id": 1, "step": 0, "job_index": index}
    return key | ({"n": 1} if entity == "attempt" else {})


def columns_of(entity: str, index: int) -> dict[str, Any]:
    if entity == "job":
        return {"attempt": 0, "failures": 0, "losses": 0, "definition": {}}
    if entity == "attempt":
        return {"round": 0}
    return {"key": f"k{index}", "cursor": "", "planned_at": T0, "submitted_at": None}


def prepare(ledger: Ledger) -> None:
    """A generation for the jobs to belong to."""
    with ledger.write() as connection:
        group = {"campaign": "c", "workflow": "w", "grouping": "run", "name": "run-r1", "first_run": 1, "last_run": 1}
        blank = {"policy": {}, "amounts": {}, "fills": [], "opened_at": T0, "state": "closed"}
        connection.execute(insert(tables.run_group).values(id=1, **group, **blank))
        nothing = {name: [] for name in ("inputs", "runs", "excluded_runs")} | {"used": {}, "products": {}}
        connection.execute(
            insert(tables.generation).values(
                id=1,
                group_id=1,
                task="t",
                n=1,
                state="running",
                max_tries=0,
                backend="local",
                spec_hash="h",
                definitions_hash="d",
                retries=0,
                quorum=1.0,
                folder="f",
                dag_run_id="r",
                started_at=T0,
                **nothing,
            )
        )


class StateMachine(RuleBasedStateMachine):
    """Random moves, several per transaction; a model says which of them are legal."""

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.ledger = new_ledger(self.folder)
        prepare(self.ledger)
        self.states: dict[tuple[str, int], str] = {}
        self.events = 0

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            shutil.rmtree(self.folder)

    @rule(
        entity=st.sampled_from(sorted(ENTITIES)),
        wanted=st.dictionaries(st.integers(0, 3), st.sampled_from(STATES), min_size=1, max_size=3),
        lie=st.sampled_from([None, None, None, "submitted", "finished"]),
    )
    def try_moves(self, entity: str, wanted: dict[int, str], lie: str | None) -> None:
        """``lie``: the state that the mover believes the first row to be in."""
        moves, legal = [], True
        creating = (entity, min(wanted)) not in self.states
        for index, target in wanted.items():
            here = self.states.get((entity, index))
            if (here is None) != creating:
                continue
            source = lie if lie and here is not None and not moves else here
            legal &= source == here and target in GRAPHS[entity].get(source, frozenset())
            columns = columns_of(entity, index) if here is None else {}
            moves.append(Move(key_of(entity, index), source, target, Subject(job_index=index), columns))
        try:
            with self.ledger.write() as connection:
                move(connection, ENTITIES[entity], moves)
        except IllegalTransition:
            assert not legal
        else:
            assert legal
            self.states |= {(entity, m.subject.job_index or 0): m.target for m in moves}
            self.events += len(moves)

    @precondition(lambda self: any(key[0] == "job" and value == "waiting" for key, value in self.states.items()))
    @rule()
    def fail_after_the_move(self) -> None:
        """What was moved in a transaction that fails later has not happened."""
        index = next(key[1] for key, value in self.states.items() if key[0] == "job" and value == "waiting")
        with suppress(ZeroDivisionError), self.ledger.write() as connection:
            move(connection, tables.job, [Move(key_of("job", index), "waiting", "submitted", Subject())])
            raise ZeroDivisionError

    @invariant()
    def ledger_is_as_the_model(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with self.ledger.read() as connection:
            for entity, table in ENTITIES.items():
                index = table.c.n if entity == "round" else table.c.job_index
                stored = {(entity, row[0]): row[1] for row in connection.execute(select(index, table.c.state))}
                assert stored == {key: state for key, state in self.states.items() if key[0] == entity}
        assert count(self.ledger, tables.event) == self.events


TestStateMachine = StateMachine.TestCase
TestStateMachine.settings = settings(max_examples=25, stateful_step_count=25)


def test_events_tell_the_states_in_order(ledger: Ledger) -> None:
    prepare(ledger)
    with ledger.write() as connection:
        move(
            connection,
            tables.job,
            [Move(key_of("job", 0), None, "waiting", Subject(job_index=0), columns_of("job", 0))],
        )
        move(connection, tables.job, [Move(key_of("job", 0), "waiting", "submitted", Subject(job_index=0, attempt=1))])
    with ledger.read() as connection:
        rows = connection.execute(select(tables.event).order_by(tables.event.c.id)).all()
    assert [(row.from_state, row.to_state, row.attempt) for row in rows] == [
        (None, "waiting", None),
        ("waiting", "submitted", 1),
    ]
    assert rows[0].at < rows[1].at


def test_clock_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "_clock", 0)  # and as it was after this test: others measure waits by it
    times = iter([2_000_000_000 * 10**9, 5, 5])
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    assert now_ns() < now_ns() < now_ns()


def test_every_state_of_every_graph_can_be_reached() -> None:
    for entity, graph in GRAPHS.items():
        reached: set[str | None] = {None}
        while more := {target for state in reached for target in graph.get(state, frozenset())} - reached:
            reached |= more
        assert set(graph) <= reached, entity


def _die_in_a_transaction(url: str) -> None:
    with Ledger(url).write() as connection:
        moves = [Move(key_of("job", i), None, "waiting", Subject(), columns_of("job", i)) for i in range(500)]
        move(connection, tables.job, moves)
        os.kill(os.getpid(), signal.SIGKILL)


def test_dying_in_a_transaction_leaves_nothing(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    prepare(ledger)
    ledger.close()
    url = ledger.url.render_as_string(hide_password=False)
    assert processes.run(_die_in_a_transaction, url).returncode == -signal.SIGKILL
    again = Ledger(url)
    assert count(again, tables.job) == count(again, tables.event) == 0
