"""What was asked outside of the ledger, and what was answered: a row for each question (rule 60)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import Connection, String, bindparam, cast, delete, insert, null, select, update

from airflow_calib_provider.ledger import tables

table = tables.outside_answer

KEPT = timedelta(days=30)
"""How long an answer is kept that nobody asks for any more."""

_AT_ONCE = 5_000
"""Questions in a statement, whose length is limited."""


@dataclass(frozen=True)
class Question:
    """What is asked outside of the ledger. Whoever asks the same shares the answer.

    :ivar kind: the lock's.
    :ivar asked: what its kind needs to know to ask it.
    :ivar what: it, for people.
    :ivar every: how old an answer may become before it is asked again.
    """

    kind: str
    asked: Mapping[str, Any]
    what: str = field(compare=False)
    every: timedelta = field(compare=False)

    @cached_property
    def digest(self) -> str:
        """By which its row is found."""
        text = json.dumps([self.kind, self.asked], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class OutsideAnswer:
    """What was answered.

    :ivar opens: whether it opens locks.
    :ivar said: why not, for people; the same as long as nothing has changed.
    :ivar data: what the kind keeps of it, as JSON has it.
    """

    opens: bool
    said: str = ""
    data: Any = None


class Answered(NamedTuple):
    """The row of a question.

    :ivar asked_at: when somebody began to ask it last.
    :ivar answered_at: ``None``: there was no answer yet.
    :ivar changed_at: since when the answer is this one.
    :ivar kept: what the kind keeps of it, as it stands in the row: JSON.
    """

    question: str
    opens: bool
    said: str
    asked_at: datetime
    answered_at: datetime | None
    changed_at: datetime | None
    kept: str | None

    @property
    def answer(self) -> OutsideAnswer:
        """What was answered."""
        return OutsideAnswer(self.opens, self.said, None if self.kept is None else json.loads(self.kept))


def answers_to(connection: Connection, digests: Collection[str], *, kept: bool = True) -> dict[str, Answered]:
    """What is known of questions, by their digests.

    :param kept: with what their kinds keep of them, which may be long.
    """
    found: dict[str, Answered] = {}
    wanted = sorted(set(digests))
    query = _WITH_KEPT if kept else _WITHOUT
    for begin in range(0, len(wanted), _AT_ONCE):
        for row in connection.execute(query, {"questions": wanted[begin : begin + _AT_ONCE]}).all():
            found[row[0]] = Answered._make(row)
    return found


_HERE = table.c.question.in_(bindparam("questions", expanding=True, literal_execute=True))
_COLUMNS = (
    table.c.question,
    table.c.opens,
    table.c.said,
    table.c.asked_at,
    table.c.answered_at,
    table.c.changed_at,
)
_WITHOUT = select(*_COLUMNS, null()).where(_HERE)
_WITH_KEPT = select(*_COLUMNS, cast(table.c.data, String)).where(_HERE)


def is_due(question: Question, known: Answered | None, now: datetime) -> bool:
    """Whether a question is to be asked again."""
    return known is None or now - known.asked_at >= question.every or known.asked_at > now


def claim(
    connection: Connection, questions: Iterable[Question], now: datetime
) -> list[tuple[Question, OutsideAnswer | None]]:
    """Take the questions that are due, so that nobody else asks them now.

    :returns: each with its last answer.
    """
    of_digest = {question.digest: question for question in questions}
    known = answers_to(connection, of_digest)
    due = {digest: one for digest, one in of_digest.items() if is_due(one, known.get(digest), now)}
    new = [
        {"question": digest, "kind": one.kind, "asked": dict(one.asked), "asked_at": now, "opens": False, "said": ""}
        for digest, one in due.items()
        if digest not in known
    ]
    if new:
        connection.execute(insert(table), new)
    again = sorted(digest for digest in due if digest in known)
    for begin in range(0, len(again), _AT_ONCE):
        some = {"questions": again[begin : begin + _AT_ONCE]}
        connection.execute(update(table).where(_HERE).values(asked_at=now), some)
    return [(one, known[digest].answer if digest in known else None) for digest, one in due.items()]


def record(connection: Connection, answers: Sequence[tuple[Question, OutsideAnswer]], now: datetime) -> None:
    """Write what was answered."""
    known = answers_to(connection, [question.digest for question, _ in answers])
    for question, answer in answers:
        before = known.get(question.digest)
        if before is None:
            continue  # it was cleaned up meanwhile: it is asked anew
        values: dict[str, Any] = {"answered_at": now}
        if before.answered_at is None or before.answer != answer:
            values |= {"opens": answer.opens, "said": answer.said, "data": answer.data, "changed_at": now}
        connection.execute(update(table).where(table.c.question == question.digest).values(values))


def forget(connection: Connection, now: datetime) -> int:
    """Remove the answers that nobody has asked for in a long time.

    :returns: how many.
    """
    return connection.execute(delete(table).where(table.c.asked_at < now - KEPT)).rowcount
