"""CircleAnswers about tasks that may wait for each other in a circle, which a deadline or another lock opens.

Within a circle the answer depends on who asks: what waits for itself never begins. So an answer that came of a circle
is kept together with the tasks of it, and holds only while none of them is being asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from airflow_calib_provider.planning.records import PlannedLock

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")


class _Kept(NamedTuple, Generic[Key, T]):
    answer: T
    circle: frozenset[Key]


class CircleAnswers(Generic[Key]):
    """How the locks of tasks stand, and when tasks could begin, each found out once where that is possible."""

    def __init__(self) -> None:
        self._begins: dict[Key, _Kept[Key, datetime | None]] = {}
        self._opens: dict[Key, _Kept[Key, list[PlannedLock]]] = {}
        self._asked: dict[Key, None] = {}  # in the order of the questions
        self._circle: set[Key] = set()

    def of_begin(self, key: Key, find: Callable[[], datetime | None]) -> datetime | None:
        """When a task could begin; it could not, where that is asked in order to answer the same."""
        if key in self._asked:
            asked = list(self._asked)
            self._circle.update(asked[asked.index(key) :])
            return None
        return self._kept_or_found(self._begins, key, find)

    def of_open(self, key: Key, find: Callable[[], list[PlannedLock]]) -> list[PlannedLock]:
        """How the locks of a task stand, also while it is asked when the task could begin."""
        return self._kept_or_found(self._opens, key, find)

    def aside(self, find: Callable[[], T]) -> tuple[T, bool]:
        """An answer whose circles do not concern whoever asks, as long as they have ended.

        :returns: it, and whether it holds whoever asks.
        """
        found, circle = self._found(find)
        holds = circle.isdisjoint(self._asked)
        if not holds:
            self._circle |= circle
        return found, holds

    def _kept_or_found(self, kept: dict[Key, _Kept[Key, T]], key: Key, find: Callable[[], T]) -> T:
        others = self._asked.keys() - {key}
        if key in kept and kept[key].circle.isdisjoint(others):
            self._circle |= kept[key].circle
            return kept[key].answer
        new = key not in self._asked
        self._asked[key] = None
        found, circle = self._found(find)
        if new:
            del self._asked[key]
        if circle.isdisjoint(others):
            kept[key] = _Kept(found, frozenset(circle))
        self._circle |= circle
        return found

    def _found(self, find: Callable[[], T]) -> tuple[T, set[Key]]:
        before, self._circle = self._circle, set()
        found = find()
        circle, self._circle = self._circle, before
        return found, circle
