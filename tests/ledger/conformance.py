"""What every kind of lock must do. Its tests subclass :class:`LockConformance` and override fixtures only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert, select

from airflow_calib_provider.domain.reasons import Cause, render
from airflow_calib_provider.kinds import LOCKS
from airflow_calib_provider.ledger import tables, waiting
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.locks.base import ledger_lock
from airflow_calib_provider.mirror.history import awaited_in
from tests.ledger.making import facts, group_ids, new_ledger, put_runs, task, workflow

FLOW = workflow("flow", task("fit"))


@contextmanager
def statements(ledger: Ledger) -> Iterator[list[str]]:
    """The statements that are executed meanwhile."""
    seen: list[str] = []

    def listen(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            seen.append(statement)

    event.listen(ledger.engine, "before_cursor_execute", listen)
    yield seen
    event.remove(ledger.engine, "before_cursor_execute", listen)


class LockConformance:
    """Groups of one run each, whose task ``fit`` has one lock of the kind, which is shut at first."""

    @pytest.fixture
    def kind(self) -> str:
        """The name of the kind."""
        raise NotImplementedError

    @pytest.fixture
    def parameters(self) -> dict[str, Any]:
        """Of a lock that is shut."""
        raise NotImplementedError

    @pytest.fixture
    def opens(self, ledger: Ledger) -> Callable[[Iterable[int]], None]:
        """Does what opens the locks of the groups of these runs, in the ledger."""
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, tmp_path: Path, database: str) -> Iterator[Ledger]:
        made = new_ledger(tmp_path)
        put_runs(made, FLOW, [facts(number, 1) for number in range(1, 41)])
        yield made
        made.close()

    @pytest.fixture
    def locked(self, ledger: Ledger, kind: str, parameters: dict[str, Any]) -> list[waiting.Key]:
        """The waits."""
        return self.with_locks(ledger, kind, parameters)

    def with_locks(self, ledger: Ledger, kind: str, parameters: dict[str, Any]) -> list[waiting.Key]:
        """Give each task a lock."""
        keys = [(group, "fit") for group in group_ids(ledger, "run", "flow").values()]
        assert len(keys) == 40
        row = {"task": "fit", "position": 0, "kind": kind, "parameters": parameters, "deadline": None}
        with ledger.write() as connection:
            connection.execute(insert(tables.lock), [{"group_id": group, **row} for group, _ in keys])
        return keys

    def look(self, ledger: Ledger, keys: list[waiting.Key]) -> list[waiting.Look]:
        with ledger.read() as connection:
            found = waiting.look(connection, keys)
        assert keys
        return [found[key] for key in keys]

    def test_it_is_in_the_table(self, kind):
        assert kind in LOCKS
        assert ledger_lock(kind).kind == kind

    def test_shut_with_a_reason_for_people(self, ledger, locked):
        for look in self.look(ledger, locked):
            assert look.state == "waiting"
            reason = look.reason
            assert json.loads(json.dumps(reason)) == reason, "a reason is stored as JSON"
            text = render(reason)
            assert text
            assert not text.startswith("{"), "its code has no words"
            assert Cause("the task", reason).release, "nobody says what would open it"
            (awaited,) = awaited_in(reason)
            assert awaited.name, "the mirror has no name for it"

    def test_it_opens(self, ledger, locked, opens):
        opens(range(1, 41))
        assert {look.state for look in self.look(ledger, locked)} == {"open"}

    def test_one_look_at_all_of_them(self, ledger, locked):
        counts = []
        for n in (1, len(locked)):
            with statements(ledger) as seen:
                self.look(ledger, locked[:n])
            counts.append(len(seen))
        assert counts[0] == counts[1], "a statement for each lock"

    def test_looking_changes_nothing(self, ledger, locked):
        def rows() -> list[Any]:
            with ledger.read() as connection:
                tables_ = (tables.lock, tables.group_task, tables.run_group, tables.event)
                return [connection.execute(select(table)).all() for table in tables_]

        before = rows()
        assert self.look(ledger, locked) == self.look(ledger, locked)
        assert rows() == before

    def test_it_is_shut_beside_one_that_is_open(self, ledger, locked):
        """All of a task's locks must be open."""
        with ledger.write() as connection:
            row = {"task": "fit", "position": 1, "kind": "task", "deadline": None}
            needs = {"workflow": "flow", "grouping": "run", "task": "fit"}
            connection.execute(insert(tables.lock), [{"group_id": locked[0][0], **row, "parameters": needs}])
        look = self.look(ledger, locked[:1])[0]
        assert look.state == "waiting"
        assert look.reason["code"] == "several"
