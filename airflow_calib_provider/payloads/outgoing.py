"""What is on its way to outside stores as one set: whole in the end, or nothing of it (rule 71).

An intent is in the ledger before the first call. Then all is planned, applied, read back, and one transaction says that
it is done. No call to a store is made within a transaction. What is stopped half way is taken further by whoever comes
next. If a store refuses, what others have got already is taken back, in the opposite order.
"""

from __future__ import annotations

import os
import socket
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import ClassVar

from sqlalchemy import Connection

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import (
    CalibError,
    KindError,
    PayloadError,
    PayloadStoreDown,
    StoreBusy,
    StoreInvalid,
    StoreRefused,
    StoreUnauthorised,
)
from airflow_calib_provider.kinds import CONDITIONS_STORES, DEFAULT_STORE
from airflow_calib_provider.ledger import publications
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import group_by_id
from airflow_calib_provider.ledger.publications import APPLIED, INTENDED, PLANNED, REFUSED, RETURNING, Publication
from airflow_calib_provider.ledger.rows import Group, Payload
from airflow_calib_provider.outside.connections import outside_connection
from airflow_calib_provider.outside.placing import Guard, Placement, StorePlan, WantedPlacement
from airflow_calib_provider.outside.writing import WritableStore
from airflow_calib_provider.payloads import intents, life
from airflow_calib_provider.payloads.base import payload_store

FINAL = (StoreRefused, StoreUnauthorised, StoreInvalid, KindError)
"""What no further try changes."""


class OutgoingSet(ABC):
    """A set, while a process has it.

    :cvar whole: the state of what was done in a store, when all of it is.
    """

    whole: ClassVar[str]

    def __init__(self, ledger: Ledger, key: str, clock: Callable[[], datetime]) -> None:
        self.ledger, self.key, self.clock = ledger, key, clock
        self.holder = f"{socket.gethostname()[:60]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.read()

    def read(self) -> None:
        """See how far it is."""
        with self.ledger.read() as connection:
            self.rows = publications.of_set(connection, self.key)
            self.group = group_by_id(connection, self.rows[0].group_id) if self.rows else None

    @property
    def of_group(self) -> Group:
        """Whose it is."""
        assert self.group is not None
        return self.group

    @property
    def is_over(self) -> bool:
        """Whether it is whole, or refused."""
        return all(row.state not in publications.ON_ITS_WAY for row in self.rows)

    def hold(self) -> None:
        """Have its tags, and see how far it is by now; of one that is over nothing is held."""
        with self.ledger.write() as connection:
            self.rows = publications.of_set(connection, self.key)
            if not self.is_over:
                publications.hold(connection, self.of_group, self.rows, self.holder, self.clock(), _is_alive)

    def leave(self) -> None:
        """Let another process have it."""
        with self.ledger.write() as connection:
            publications.leave(connection, self.key, self.holder)

    def ended(self) -> list[Payload]:
        """What became of one that is over."""
        with self.ledger.read() as connection:
            payloads = [life.by_id(connection, one) for one in self.payloads()]
        for row in self.rows:
            if row.state == REFUSED and row.reason is not None:
                self._tell_refused(row.reason)
        return payloads

    def done(self) -> list[Payload]:
        """Take it as far as it goes."""
        if not any(row.state == RETURNING for row in self.rows):
            try:
                self._bring()
                self._plan()
                self._apply()
                return self._complete()
            except (PayloadError, *FINAL) as error:
                if isinstance(error, PayloadStoreDown):
                    raise
                return self.refused(error)
        return self._return()

    def refused(self, error: CalibError) -> list[Payload]:
        """Take back what was done, and say why."""
        self._turn_back(error)
        return self._return()

    @abstractmethod
    def payloads(self) -> list[int]:
        """The ids of all that belong to it."""

    @abstractmethod
    def note(self, error: CalibError) -> None:
        """Say what it waits for, where people look."""

    @abstractmethod
    def _to_bring(self, outside: WritableStore, row: Publication) -> None:
        """Bring files to a store."""

    @abstractmethod
    def _planned_at(
        self, outside: WritableStore, row: Publication, had: dict[str, Sequence[Placement]], guard: Guard
    ) -> StorePlan:
        """What changes in a store."""

    @abstractmethod
    def _say_done(self, connection: Connection, group: Group, now: datetime) -> list[Payload]:
        """In the ledger, at once with the rows of its stores."""

    @abstractmethod
    def _why_refused(self, error: CalibError) -> Reason:
        """The reason of what is to be nowhere."""

    @abstractmethod
    def _say_refused(self, connection: Connection, reason: Reason, now: datetime) -> None:
        """In the ledger, at once with the rows of its stores."""

    @abstractmethod
    def _tell_refused(self, reason: Reason) -> None:
        """Raise what whoever has asked for it is told, if anybody is."""

    def _bring(self) -> None:
        """All files, to all stores, if they can be written."""
        for row in self._in(INTENDED, PLANNED):
            outside = writable(row.store)
            if row.state == INTENDED:
                outside.ready(publications.tags_of(row))
            self._to_bring(outside, row)
            for item in row.wanted["items"]:
                if (default := item["default"]) is not None:
                    kept = payload_store(DEFAULT_STORE).path(default[1])
                    outside.put(item["tag"], kept, outside.ref(item["tag"], default[1], default[0]), default[0])
            self.hold()
            if self.is_over:
                raise StoreBusy("another process has ended it meanwhile", "it is looked at again")
        crash_point("publication.after_put", self.rows[0].task)

    def _plan(self) -> None:
        """All stores, before anything is changed in any."""
        made: list[tuple[Publication, StorePlan, dict[str, list[Placement]]]] = []
        for row in self._in(INTENDED):
            made.append(self._planned(row))
        if not made:
            return
        conflicts = [f"{row.store}: {said}" for row, plan, _ in made for said in _conflicts(row, plan)]
        if conflicts:
            raise StoreRefused("; ".join(conflicts)[:2000], "see `calib payload check`, and `calib payload list`")
        now = self.clock()
        with self.ledger.write() as connection:
            for row, plan, found in made:
                for tag, placed in found.items():
                    publications.note_found(connection, row.store, tag, placed, now)
                written = publications.plan_as_json(plan)
                publications.go(connection, self.of_group, row, PLANNED, now, plan=written, reason=None)
        crash_point("publication.after_plan", self.rows[0].task)
        self.read()

    def _planned(self, row: Publication) -> tuple[Publication, StorePlan, dict[str, list[Placement]]]:
        outside = writable(row.store)
        had: dict[str, Sequence[Placement]] = {}
        found: dict[str, list[Placement]] = {}
        for tag in publications.tags_of(row):
            with self.ledger.read() as connection:
                known = publications.expected(connection, row.store, tag)
            if known is None:
                known = found[tag] = [Placement.found(one) for one in outside.current(tag)]
            had[tag] = known
        return row, self._planned_at(outside, row, had, Guard(**row.wanted["guard"])), found

    def _apply(self) -> None:
        """One store after the other, as they stand in the spec."""
        for row in self._in(PLANNED):
            crash_point("publication.before_apply", row.task)
            receipt = writable(row.store).apply(publications.plan_of(row), self.key)
            crash_point("publication.after_apply", row.task)
            with self.ledger.write() as connection:
                now = self.clock()
                said = {"key": receipt.key, "note": receipt.note}
                publications.go(connection, self.of_group, row, APPLIED, now, receipt=said, reason=None)
                publications.hold(connection, self.of_group, self.rows, self.holder, now, _is_alive)
            crash_point("publication.after_receipt", row.task)
        self.read()

    def _complete(self) -> list[Payload]:
        """In the ledger, at once."""
        now = self.clock()
        crash_point("publication.before_publish", self.rows[0].task)
        with self.ledger.write() as connection:
            group = group_by_id(connection, self.of_group.id)
            done = self._say_done(connection, group, now)
            for one in self.rows:
                for change in publications.plan_of(one).tags:
                    publications.note_placed(connection, one.store, change)
                publications.go(connection, group, one, self.whole, now, reason=None)
            publications.let_go(connection, self.key)
        crash_point("publication.after_publish", self.rows[0].task)
        return done

    def _turn_back(self, error: CalibError) -> None:
        """From now on it is to be nowhere."""
        now = self.clock()
        reason = self._why_refused(error)
        self.read()
        with self.ledger.write() as connection:
            for row in self._in(INTENDED, PLANNED, APPLIED):
                publications.go(connection, self.of_group, row, RETURNING, now, reason=reason)
        crash_point("publication.after_refusal", self.rows[0].task)
        self.read()

    def _return(self) -> list[Payload]:
        """Put back what was there, the last store first.

        One in which that is refused does not keep the others from being put back; it is asked again.
        """
        refused: list[CalibError] = []
        for row in reversed(self._in(RETURNING)):
            if row.plan is not None:
                try:
                    writable(row.store).take_back(publications.plan_of(row), self.key)
                except FINAL as error:
                    refused.append(error)
            crash_point("publication.after_return", row.task)
        if refused:
            raise refused[0]
        now = self.clock()
        reason = next(row.reason for row in self.rows if row.reason is not None)
        with self.ledger.write() as connection:
            self._say_refused(connection, reason, now)
            for row in self._in(RETURNING):
                publications.go(connection, self.of_group, row, REFUSED, now, reason=reason)
            publications.let_go(connection, self.key)
        crash_point("publication.after_back", self.rows[0].task)
        self._tell_refused(reason)
        return []

    def _tags(self) -> str:
        return ", ".join(dict.fromkeys(tag for row in self.rows for tag in publications.tags_of(row)))

    def _in(self, *states: str) -> list[Publication]:
        return [row for row in self.rows if row.state in states]


def writable(name: str) -> WritableStore:
    """An outside store that can be written.

    :param name: as ``kind:place``.
    :raises KindError: it is not there, or can only be read.
    """
    kind, _, place = name.partition(":")
    made = CONDITIONS_STORES.member(kind)(place)
    if not isinstance(made, WritableStore):
        raise KindError(f"the store {kind!r} can only be read", "publish to another one")
    return made


def require_connections(rows: Iterable[Payload]) -> None:
    """See to it that this process knows how stores are reached, before it begins what it could not go on with.

    :param rows: what is to be published there, or taken back.
    :raises OutsideError: a connection is not there, or not to be seen from here.
    """
    for name in dict.fromkeys(target.store for row in rows for target in intents.targets_of(row)):
        outside = writable(name)
        if used := outside.connection(outside.place):
            outside_connection(used)


def wanted_at(outside: WritableStore, row: Publication) -> list[WantedPlacement]:
    """What is to hold in a store, or, of a withdrawal, does."""
    found = []
    for one in row.wanted["items"]:
        default = one["default"]
        behind = outside.ref(one["tag"], default[1], default[0]) if default is not None else None
        ref = outside.ref(one["tag"], one["hash"], one["file_name"])
        place = (one["tag"], one["first_run"], one["last_run"], ref, row.group_id)
        found.append(WantedPlacement(*place, row.wanted["after"], behind))
    return found


def _conflicts(row: Publication, plan: StorePlan) -> list[str]:
    gaps = [f"there is a gap before it, {said}" for said in plan.gaps] if row.wanted["refuse_gaps"] else []
    return [*plan.conflicts, *gaps]


def told(error: CalibError) -> str:
    """What an error says, as a reason keeps it."""
    return error.message[:1000]


def _is_alive(holder: str) -> bool:
    """Whether a process still is; of another machine nobody knows."""
    host, number, _ = (*holder.split(":"), "", "")[:3]
    if host != socket.gethostname()[:60] or not number.isdigit():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
