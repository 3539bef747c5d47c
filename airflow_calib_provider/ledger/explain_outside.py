"""What was asked outside of the ledger for a task that waits: when last and when next, and what was answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from airflow_calib_provider.domain.quantities import format_time
from airflow_calib_provider.ledger.asking import by_outside_kind, may_ask_outside, outside_lock
from airflow_calib_provider.ledger.locks.apart import one_by_one
from airflow_calib_provider.ledger.locks.base import lock_rows
from airflow_calib_provider.ledger.locks.outside import OutsideLock
from airflow_calib_provider.ledger.outside import Answered, Question, answers_to

SHOWN = 5
"""Questions of a task that are told, those that were not answered first."""


def asked_outside(connection: Connection, group_id: int, tasks: Collection[str]) -> dict[str, list[str]]:
    """Task → a line for each question that its locks ask, by a few statements."""
    rows = lock_rows(connection, [group_id], may_ask_outside())
    asked: dict[str, dict[str, Question]] = defaultdict(dict)
    for kind, some in by_outside_kind(row for row in rows if row.task in tasks).items():
        questions, _ = one_by_one(partial(outside_lock(kind).asked, connection), some)  # what it raises tells the look
        for one in questions:
            if one.question is not None:
                asked[one.lock.task].setdefault(one.question.digest, one.question)
    known = answers_to(connection, {digest for of_task in asked.values() for digest in of_task})
    return {task: _lines(of_task, known) for task, of_task in asked.items()}


def _lines(questions: dict[str, Question], known: dict[str, Answered]) -> list[str]:
    def is_open(digest: str) -> bool:
        return digest in known and known[digest].opens

    ordered = sorted(questions, key=lambda digest: (is_open(digest), questions[digest].what))
    lines = [_line(questions[digest], known.get(digest)) for digest in ordered[:SHOWN]]
    more = len(ordered) - SHOWN
    return [*lines, f"and {more} more questions"] if more > 0 else lines


def _line(question: Question, known: Answered | None) -> str:
    about = f"{question.kind} {question.what}"
    if known is None:
        return f"{about}: not asked yet"
    again = f"asked again from {_time(known.asked_at + question.every)} on"
    if known.answered_at is None:
        return f"{about}: asked at {_time(known.asked_at)}, no answer yet; {again}"
    told = "; ".join(filter(None, (_told(outside_lock(question.kind), known), known.said)))
    since = f", so since {_time(known.changed_at)}" if known.changed_at is not None else ""
    return f"{about}: answered at {_time(known.answered_at)}{since}{': ' if told else ''}{told}; {again}"


def _told(lock: OutsideLock, known: Answered) -> str:
    try:
        return lock.told(known.answer.data)
    except Exception as error:  # noqa: BLE001 - another version of its kind has kept it: all else is told
        return f"what was kept of the answer cannot be read ({type(error).__name__})"


def _time(at: datetime) -> str:
    return format_time(at)
