"""Asking outside of the ledger what locks wait for: in threads, outside of any transaction, once for all (rule 60)."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from contextvars import Context, copy_context
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, or_, select

from airflow_calib_provider.errors import CalibError, KindError
from airflow_calib_provider.kinds import LOCKS
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.locks.apart import one_by_one
from airflow_calib_provider.ledger.locks.base import LockRow, ledger_lock, lock_rows
from airflow_calib_provider.ledger.locks.outside import OutsideLock
from airflow_calib_provider.ledger.outside import OutsideAnswer, Question, answers_to, claim, is_due, record
from airflow_calib_provider.outside.connections import OutsideConnection, fetched, given

lock, group = tables.lock, tables.run_group

AT_ONCE = 32
"""Questions that a process asks at the same time."""
AT_ONE_PLACE = 4
"""Of these at one host, or on one file system: one that hangs holds up nobody elsewhere."""

PATIENCE = 20.0
"""Seconds that an injection waits for answers."""
MOST = 1_000
"""Tasks of groups without a DAG run that are asked for by an injection, the oldest first."""

_LONGEST = 500
"""Characters of a trouble that are kept."""

Connect = Callable[[str], OutsideConnection | None]


@cache
def _own_kinds() -> tuple[str, ...]:
    """The kinds of locks, of this package, whose answers come from outside."""
    return tuple(name for name in LOCKS.own if isinstance(ledger_lock(name), OutsideLock))


def may_ask_outside() -> ColumnElement[bool]:
    """The condition of locks whose answers may come from outside; of other packages all, so that none is loaded."""
    return or_(lock.c.kind.in_(_own_kinds()), lock.c.kind.not_in(LOCKS.own))


def by_outside_kind(rows: Iterable[LockRow]) -> dict[str, list[LockRow]]:
    """Those of these locks whose answers come from outside, by their kind; not those whose kind is not there."""
    of_kind: dict[str, list[LockRow]] = defaultdict(list)
    for row in rows:
        of_kind[row.kind].append(row)
    return {kind: some for kind, some in of_kind.items() if _is_outside(kind)}


def _is_outside(kind: str) -> bool:
    try:
        return isinstance(ledger_lock(kind), OutsideLock)
    except KindError:  # told as ``lock_unknown`` wherever somebody looks at the lock
        return False


def outside_lock(kind: str) -> OutsideLock:
    """A kind of lock whose answers come from outside.

    :raises KindError: it is not one, or cannot be loaded.
    """
    found = ledger_lock(kind)
    if not isinstance(found, OutsideLock):
        raise KindError(f"the lock {kind!r} is not asked outside", "is it of another version?")
    return found


def questions_of(connection: Connection, tasks: Iterable[tuple[int, str]]) -> list[Question]:
    """What the locks of these tasks ask, each question once."""
    wanted = set(tasks)
    if not wanted:
        return []
    rows = lock_rows(connection, {group_id for group_id, _ in wanted}, may_ask_outside())
    found: dict[str, Question] = {}
    for kind, some in by_outside_kind(row for row in rows if row[:2] in wanted).items():
        asked, _ = one_by_one(partial(outside_lock(kind).asked, connection), some)  # what it raises tells the look
        for one in asked:
            if one.question is not None:
                other = found.get(one.question.digest)
                if other is None or one.question.every < other.every:
                    found[one.question.digest] = one.question
    return list(found.values())


class _Asking(NamedTuple):
    """A question that waits to be asked."""

    question: Question
    before: OutsideAnswer | None
    context: Context


class Asker:
    """Asks for all that waits in a process.

    :param connect: looks an Airflow connection up, in the thread that asks; ``None``: as this process does.
    """

    def __init__(self, ledger: Ledger, connect: Connect | None = None) -> None:
        self._ledger = ledger
        self._connect = connect
        self._guard = threading.Lock()
        self._done: list[tuple[Question, OutsideAnswer]] = []
        self._busy: set[str] = set()
        self._queues: dict[str, deque[_Asking]] = defaultdict(deque)
        self._threads: Counter[str] = Counter()

    def tick(self, tasks: Sequence[tuple[int, str]]) -> None:
        """Record what was answered, and begin to ask what is due for these tasks. It waits for no answer."""
        self.record()
        self.start(tasks)

    def record(self) -> int:
        """Record what was answered meanwhile.

        :returns: how many answers.
        """
        with self._guard:
            answers, self._done = self._done, []
        if answers:
            with self._ledger.write() as connection:
                record(connection, answers, datetime.now(UTC))
        return len(answers)

    def start(self, tasks: Sequence[tuple[int, str]]) -> int:
        """Begin to ask what is due for these tasks.

        :returns: how many questions.
        """
        now = datetime.now(UTC)
        with self._ledger.read() as connection:
            questions = questions_of(connection, tasks)
            known = answers_to(connection, [one.digest for one in questions], kept=False)
        with self._guard:
            due = [one for one in questions if one.digest not in self._busy and is_due(one, known.get(one.digest), now)]
        if not due:
            return 0
        with self._ledger.write() as connection:
            claimed = claim(connection, due, now)
        names = {name for one, _ in claimed if (name := _connection(one))}
        with fetched(names) if names and self._connect is None else nullcontext(), self._guard:
            for one, before in claimed:
                self._busy.add(one.digest)
                self._queues[_place(one)].append(_Asking(one, before, copy_context()))
            self._send_out()
        return len(claimed)

    def is_busy(self) -> bool:
        """Whether something is being asked."""
        with self._guard:
            return bool(self._busy)

    def finish(self, patience: float) -> int:
        """Wait for answers, and record them; what takes longer is left to itself.

        :returns: how many answers.
        """
        until = time.monotonic() + patience
        while self.is_busy() and time.monotonic() < until:
            time.sleep(0.02)
        return self.record()

    def _send_out(self) -> None:
        """Let threads ask what waits to be asked, as far as there is room."""
        for place, queue in self._queues.items():
            while len(queue) > self._threads[place] < AT_ONE_PLACE and self._threads.total() < AT_ONCE:
                self._threads[place] += 1
                threading.Thread(target=self._work, args=(place,), name=f"asks {place}"[:60], daemon=True).start()

    def _work(self, place: str) -> None:
        """Ask one after the other at a place."""
        while True:
            with self._guard:
                if not self._queues[place]:
                    self._threads[place] -= 1
                    if not self._threads[place]:
                        del self._threads[place], self._queues[place]
                    self._send_out()
                    return
                one = self._queues[place].popleft()
            answer = one.context.run(self._ask, one.question, one.before)
            with self._guard:
                self._done.append((one.question, answer))
                self._busy.discard(one.question.digest)

    def _ask(self, question: Question, before: OutsideAnswer | None) -> OutsideAnswer:
        try:
            return self._answer(question, before)
        except CalibError as error:
            return _trouble(error.message, before)
        except Exception as error:  # noqa: BLE001 - whatever it is: the lock stays shut, and says so
            return _trouble(f"{type(error).__name__}: {error}", before)

    def _answer(self, question: Question, before: OutsideAnswer | None) -> OutsideAnswer:
        kind: Any = outside_lock(question.kind)
        name = kind.connection(question.asked)
        with given(name, self._connect) if name and self._connect is not None else nullcontext():
            found: OutsideAnswer = kind.ask(question.asked, before, datetime.now(UTC))
        return found


def _connection(question: Question) -> str:
    try:
        return outside_lock(question.kind).connection(question.asked)
    except Exception:  # noqa: BLE001 - it raises again when it is asked, which is told as its answer
        return ""


def _place(question: Question) -> str:
    try:
        return outside_lock(question.kind).place(question.asked)
    except Exception:  # noqa: BLE001 - at one place with all of its kind of which nobody can say where they are asked
        return question.kind


def ask_for_queued(ledger: Ledger, patience: float = PATIENCE) -> int:
    """Ask for groups that wait in the ledger, for which no task does; whoever takes longer is heard the next time.

    :returns: how many answers there were.
    """
    queued = (group.c.opening.in_(["queued", "ready"]), group.c.closed_at.is_not(None), may_ask_outside())
    query = select(lock.c.group_id, lock.c.task).join(group, group.c.id == lock.c.group_id).where(*queued)
    with ledger.read() as connection:
        tasks = [(row[0], row[1]) for row in connection.execute(query.distinct().order_by(lock.c.group_id).limit(MOST))]
    if not tasks:
        return 0
    asker = Asker(ledger)
    asker.start(tasks)
    return asker.finish(patience)


def _trouble(said: str, before: OutsideAnswer | None) -> OutsideAnswer:
    """There is no answer: what the last one was made of is kept, so that nothing begins anew."""
    return OutsideAnswer(False, f"cannot be asked: {said}"[:_LONGEST], before.data if before is not None else None)
