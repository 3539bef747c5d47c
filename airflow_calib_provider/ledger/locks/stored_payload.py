"""Locks on the payloads of outside stores: a tag is listed once for all that ask for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import Connection

from airflow_calib_provider.kinds import CONDITIONS_STORES
from airflow_calib_provider.ledger.locks.base import SATISFIED, LockRow
from airflow_calib_provider.ledger.locks.outside import NOT_ASKED, OutsideLock
from airflow_calib_provider.ledger.outside import Answered, OutsideAnswer, Question, answers_to
from airflow_calib_provider.outside.conditions import PlacedPayload, before, checked, look_up

NOT_THERE = "no payload there yet"


class StoredPayloadLock(OutsideLock):
    """Open when each run of the group lies in an interval that the store lists for the tag."""

    kind = "stored_payload"
    keeps = True

    def asks_each_run(self, parameters: Mapping[str, Any]) -> bool:
        """Each run must be covered; all ask the same."""
        return True

    def questions(self, parameters: Mapping[str, Any], variables: Mapping[str, object]) -> Question:
        """What the store has under the tag."""
        return _question(parameters["store"], parameters["tag"], parameters["what"], parameters["every"])

    def told(self, data: Any) -> str:
        """How many there are."""
        return f"{len(data):,} intervals are listed" if isinstance(data, list) else ""

    def place(self, asked: Mapping[str, Any]) -> str:
        """The store."""
        return str(asked["store"])

    def connection(self, asked: Mapping[str, Any]) -> str:
        """That of the store."""
        kind, _, place = str(asked["store"]).partition(":")
        return str(CONDITIONS_STORES.member(kind).connection(place))

    def ask(self, asked: Mapping[str, Any], before: OutsideAnswer | None, now: datetime) -> OutsideAnswer:
        """List the tag."""
        kind, _, place = str(asked["store"]).partition(":")
        # A store of another package may not have looked: by a listing out of order a run is looked up in vain.
        listing = checked(asked["tag"], CONDITIONS_STORES.member(kind)(place).listing(asked["tag"]))
        data = [[one.first_run, one.last_run, one.file, one.hash] for one in listing]
        return OutsideAnswer(True, "", data)

    def status(self, known: Answered, run: int | None) -> str:
        """By the last listing that there was: a store that is away takes nothing back."""
        if known.kept is None:
            return known.answer.said or NOT_ASKED
        if run is not None and look_up(_listing(known), run) is not None:
            return SATISFIED
        return known.answer.said or NOT_THERE

    def lacks_last_good(self, connection: Connection, locks: Sequence[LockRow]) -> set[tuple[int, str, int]]:
        """Where the store lists nothing that begins at or before the group's first run."""
        known = answers_to(connection, {self.questions(row.parameters, {}).digest for row in locks})
        found = set()
        for row in locks:
            answered = known.get(self.questions(row.parameters, {}).digest)
            if answered is None or before(_listing(answered), row.group.first_run) is None:
                found.add((row.group_id, row.task, row.position))
        return found

    def outside_payloads(
        self, connection: Connection, parameters: Mapping[str, Any], runs: Iterable[int], *, last_good: bool
    ) -> tuple[list[PlacedPayload], list[int]]:
        """As the last listing has them."""
        question = self.questions(parameters, {})
        answered = answers_to(connection, [question.digest]).get(question.digest)
        listing = _listing(answered) if answered is not None else ()
        found: dict[int, PlacedPayload] = {}
        missing = []
        for run in runs:
            one = look_up(listing, run)
            if one is None:
                missing.append(run)
                one = before(listing, run) if last_good else None
            if one is not None:
                found[one.first_run] = one
        return [found[first] for first in sorted(found)], missing


def _listing(known: Answered) -> Sequence[PlacedPayload]:
    return _read(known.kept) if known.kept is not None else ()


@lru_cache(256)
def _read(text: str) -> tuple[PlacedPayload, ...]:
    """A listing, which may be long: it is read once, and not for each run of each group."""
    return tuple(PlacedPayload(*one) for one in json.loads(text))


@cache
def _question(store: str, tag: str, what: str, every: int) -> Question:
    return Question(StoredPayloadLock.kind, {"store": store, "tag": tag}, what, timedelta(seconds=every))


LOCK = StoredPayloadLock()
