"""Trouble of a single lock that its kind did not foresee: it is told of that lock, and the others stand as they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from airflow_calib_provider.ledger.locks.base import LedgerLock, LockRow, Look, Standing

_LONGEST = 500
"""Characters of a trouble that are told."""

_PATIENCE = 5.0
"""Seconds after which those that raise are no longer told from the others: what they ask may be silent for all."""

_TROUBLE = "trouble"
"""The status of a lock that cannot be looked at; in place of what is waited for stands why."""

T = TypeVar("T")


class _Fault(NamedTuple):
    """What became of a lock that cannot be looked at."""

    lock: LockRow
    said: str


def one_by_one(
    look: Callable[[Sequence[LockRow]], Iterable[T]], locks: Sequence[LockRow]
) -> tuple[list[T], list[_Fault]]:
    """What is found of locks, all at once; where one of them raises, the others without it, and what it raised.

    Those that raise are found by halves, so that one among many costs few further looks.

    :raises SQLAlchemyError: the database is in trouble, which is nobody's own.
    """
    return _halved(look, locks, time.monotonic() + _PATIENCE)


def _halved(
    look: Callable[[Sequence[LockRow]], Iterable[T]], locks: Sequence[LockRow], until: float
) -> tuple[list[T], list[_Fault]]:
    try:
        return list(look(locks)), []
    except SQLAlchemyError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is: the lock stays shut, and says so
        if len(locks) == 1 or time.monotonic() >= until:
            return [], [_Fault(lock, said_of(error)) for lock in locks]
    middle = len(locks) // 2
    found, faults = _halved(look, locks[:middle], until)
    more, further = _halved(look, locks[middle:], until)
    return [*found, *more], [*faults, *further]


def standing_of(look: Callable[[Sequence[LockRow]], Iterable[Standing]], locks: Sequence[LockRow]) -> list[Standing]:
    """How locks of a kind stand; one that cannot be looked at is shut, with why."""
    found, faults = one_by_one(look, locks)
    return [*found, *(shut(fault.lock, fault.said) for fault in faults)]


def shut(row: LockRow, said: str) -> Standing:
    """How a lock stands that cannot be looked at."""
    return Standing(row.group_id, row.task, row.position, row.kind, said, _TROUBLE, None)


def look_of(kind: LedgerLock, rows: Sequence[Standing]) -> Look:
    """How a lock stands; of which its kind can make nothing is shut, with why.

    :param rows: at least one.
    """
    what, status = rows[0][4:6]
    if status == _TROUBLE:
        return in_trouble(kind.kind, what)
    try:
        return kind.look(what, rows)
    except Exception as error:  # noqa: BLE001 - whatever it is: the lock stays shut, and says so
        return in_trouble(kind.kind, said_of(error))


def in_trouble(kind: str, said: str) -> Look:
    """A lock that cannot be looked at: no error of its task, as the next look may be another."""
    return Look("waiting", {"code": "lock_trouble", "lock": kind, "said": said})


def said_of(error: Exception) -> str:
    """What was raised, for people."""
    return f"{type(error).__name__}: {error}"[:_LONGEST]
