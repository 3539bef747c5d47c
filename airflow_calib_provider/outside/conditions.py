"""What every outside store of payloads does, as far as it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_calib_provider.errors import OutsideError

MOST = 10_000
"""Intervals of a tag that are read."""


@dataclass(frozen=True)
class PlacedPayload:
    """A payload in an outside store.

    :ivar last_run: ``None``: until the next one begins, or for ever.
    :ivar file: where its content is.
    :ivar hash: of the content, as the store writes it; empty: it does not say.
    """

    first_run: int
    last_run: int | None
    file: str
    hash: str = ""


class ConditionsStore(ABC):
    """An outside store of payloads.

    :param place: what stands behind the kind's name in a spec.
    """

    def __init__(self, place: str) -> None:
        self.place = place

    @classmethod
    @abstractmethod
    def fault(cls, place: str) -> str:
        """Why there can be no store at a place; empty: there can."""

    @classmethod
    def connection(cls, place: str) -> str:
        """The Airflow connection that is used there; empty: none."""
        return ""

    @abstractmethod
    def listing(self, tag: str) -> list[PlacedPayload]:
        """All payloads of a tag, by first run. It may take long.

        :raises NoSuchTag: there is nothing under this tag.
        :raises OutsideError: the store, or the tag, cannot be read.
        """


def checked(tag: str, found: Sequence[PlacedPayload]) -> list[PlacedPayload]:
    """A listing in the order of the runs, whose open ends are closed where the next one begins.

    :raises OutsideError: it has too many, an interval ends before it begins, or two overlap.
    """
    if len(found) > MOST:
        raise OutsideError(f"the tag {tag} has {len(found):,} intervals, of which {MOST:,} may be read")
    ordered = sorted(found, key=lambda one: one.first_run)
    made: list[PlacedPayload] = []
    for number, one in enumerate(ordered):
        after = ordered[number + 1].first_run if number + 1 < len(ordered) else None
        last = one.last_run
        if last is not None and last < one.first_run:
            raise OutsideError(f"an interval of {tag} ends with run {last}, before it begins with {one.first_run}")
        if after is not None and (after == one.first_run or (last is not None and last >= after)):
            raise OutsideError(f"two intervals of {tag} overlap: those from run {one.first_run} and from run {after}")
        if last is None and after is not None:
            last = after - 1
        made.append(PlacedPayload(one.first_run, last, one.file, one.hash))
    return made


def look_up(listing: Sequence[PlacedPayload], run: int) -> PlacedPayload | None:
    """The payload that covers a run.

    :param listing: as :func:`checked` gives it.
    """
    found = before(listing, run)
    return found if found is not None and (found.last_run is None or run <= found.last_run) else None


def before(listing: Sequence[PlacedPayload], run: int) -> PlacedPayload | None:
    """The last payload that begins at or before a run."""
    place = bisect_right(listing, run, key=lambda one: one.first_run)
    return listing[place - 1] if place else None
