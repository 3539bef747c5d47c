"""A set of payloads on its way to the ledger and to outside stores: whole in the end, or nowhere (rule 71).

An intent is in the ledger before the first call. Then all files are brought to all stores, where nobody sees them, all
is planned, applied, read back, and one transaction says that it is published. No call to a store is made within a
transaction. What is stopped half way is *publishing*, holds for no run, and is taken further by whoever comes next. If
a store refuses, what others have got already is taken back, in the opposite order.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.reasons import Reason, render
from airflow_calib_provider.errors import (
    CalibError,
    KindError,
    LedgerDown,
    NotPublished,
    OutsideError,
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
from airflow_calib_provider.ledger.groups import group_by_id, set_task_states
from airflow_calib_provider.ledger.payload_states import APPROVED, CANDIDATE, EXPIRED, VALIDATED
from airflow_calib_provider.ledger.publications import APPLIED, INTENDED, PLANNED, REFUSED, RETURNING, Publication
from airflow_calib_provider.ledger.rows import Group, Payload
from airflow_calib_provider.outside.placing import Guard, Placement, Ref, StorePlan, WantedPlacement, undone
from airflow_calib_provider.outside.writing import WritableStore
from airflow_calib_provider.payloads import life, store
from airflow_calib_provider.payloads.base import payload_store
from airflow_calib_provider.payloads.intents import ON_ITS_WAY

_FINAL = (StoreRefused, StoreUnauthorised, StoreInvalid, KindError)
"""What no further try changes."""


def carry_out(ledger: Ledger, key: str, clock: Callable[[], datetime]) -> list[Payload]:
    """Take a set further, until it is published everywhere or nowhere.

    :returns: its payloads, published.
    :raises PayloadStoreDown: it is not whole yet: try again.
    :raises NotPublished: a store has refused it, and it is nowhere.
    """
    set_ = _Set(ledger, key, clock)
    if set_.is_over:
        return set_.ended()
    try:
        try:
            set_.hold()
        except PayloadError as error:  # a tag is another task's: nothing was begun
            return set_.refused(error)
        if set_.is_over:
            return set_.ended()
        try:
            return set_.done()
        finally:
            set_.leave()
    except (PayloadError, *_FINAL) as error:
        if isinstance(error, PayloadStoreDown | NotPublished):
            raise
        raise PayloadStoreDown(_told(error), "see `calib explain`") from error  # what was to be taken back is not yet
    except OutsideError as error:
        set_.note(error)
        raise PayloadStoreDown(_told(error), "it is tried again, by Airflow and by housekeeping") from error


class _Set:
    """A set, while a process has it."""

    def __init__(self, ledger: Ledger, key: str, clock: Callable[[], datetime]) -> None:
        self.ledger, self.key, self.clock = ledger, key, clock
        self.holder = f"{socket.gethostname()[:60]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.read()

    def read(self) -> None:
        with self.ledger.read() as connection:
            self.rows = publications.of_set(connection, self.key)
            self.group = group_by_id(connection, self.rows[0].group_id) if self.rows else None

    @property
    def of_group(self) -> Group:
        assert self.group is not None
        return self.group

    @property
    def falls_back(self) -> bool:
        """Whether it holds only until the group's own is published: its task is not told of it."""
        return any(row.wanted.get("fallback", False) for row in self.rows)

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
        with self.ledger.write() as connection:
            publications.leave(connection, self.key, self.holder)

    def ended(self) -> list[Payload]:
        """What became of one that is over."""
        with self.ledger.read() as connection:
            payloads = [life.by_id(connection, one) for one in _payloads(self.rows)]
        for row in self.rows:
            if row.state == REFUSED and row.reason is not None and not self.falls_back:
                raise _refused(row.reason)
        return payloads

    def done(self) -> list[Payload]:
        if not any(row.state == RETURNING for row in self.rows):
            try:
                self._bring()
                self._plan()
                self._apply()
                return self._publish()
            except (PayloadError, *_FINAL) as error:
                if isinstance(error, PayloadStoreDown):
                    raise
                return self.refused(error)
        return self._return()

    def refused(self, error: CalibError) -> list[Payload]:
        """Take back what was done, and say why."""
        self._turn_back(error)
        return self._return()

    def _bring(self) -> None:
        """All files, to all stores, if they can be written."""
        for row in self._in(INTENDED, PLANNED):
            outside = writable(row.store)
            if row.state == INTENDED:
                outside.ready(publications.tags_of(row))
            for item in row.wanted["items"]:
                ref = outside.ref(item["tag"], item["hash"], item["file_name"])
                with self.ledger.read() as connection:
                    content = store.content_path(life.by_id(connection, item["payload"]))
                outside.put(item["tag"], content, ref, item["file_name"])
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
        return row, outside.plan(_wanted(outside, row), had, Guard(**row.wanted["guard"])), found

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

    def _publish(self) -> list[Payload]:
        """In the ledger, at once."""
        now = self.clock()
        crash_point("publication.before_publish", self.rows[0].task)
        with self.ledger.write() as connection:
            group = group_by_id(connection, self.of_group.id)
            done = []
            for number in _payloads(self.rows):
                row = store.make_valid(connection, group, life.by_id(connection, number), now, publication=self.key)
                done.append(row)
                made = store.Published(
                    row.tag, Iov(row.first_run, row.last_run), row.revision, row.content_hash, new=True,
                    payload_id=row.id,
                )  # fmt: skip
                if not self.falls_back and len(done) == 1:  # its task is done once, whatever the set has
                    store.note_task(connection, group.id, row.task, made, now)
            for one in self.rows:
                for change in publications.plan_of(one).tags:
                    publications.note_placed(connection, one.store, change)
                publications.go(connection, group, one, "published", now, reason=None)
            publications.let_go(connection, self.key)
        crash_point("publication.after_publish", self.rows[0].task)
        return done

    def _turn_back(self, error: CalibError) -> None:
        """From now on it is to be nowhere."""
        now = self.clock()
        tags = ", ".join(dict.fromkeys(tag for row in self.rows for tag in publications.tags_of(row)))
        reason = {"code": "store_refused", "tag": tags, "said": _told(error), "hint": error.hint, "key": self.key}
        self.read()
        with self.ledger.write() as connection:
            for row in self._in(INTENDED, PLANNED, APPLIED):
                publications.go(connection, self.of_group, row, RETURNING, now, reason=reason)
        crash_point("publication.after_refusal", self.rows[0].task)
        self.read()

    def _return(self) -> list[Payload]:
        """Put back what was there, the last store first."""
        for row in reversed(self._in(RETURNING)):
            if row.plan is not None:
                back = StorePlan(tuple(undone(one) for one in publications.plan_of(row).tags))
                writable(row.store).apply(back, f"{self.key}/back")
            crash_point("publication.after_return", row.task)
        now = self.clock()
        reason = next(row.reason for row in self.rows if row.reason is not None)
        states = {item["payload"]: item["from"] for row in self.rows for item in row.wanted["items"]}
        with self.ledger.write() as connection:
            for number, state in states.items():
                target = APPROVED if state == APPROVED else EXPIRED if self.falls_back else CANDIDATE
                payload = life.go(connection, life.by_id(connection, number), target, {"reason": reason}, reason=reason)
                if state == VALIDATED:
                    life.go(connection, payload, VALIDATED, {"reason": reason})
            for row in self._in(RETURNING):
                publications.go(connection, self.of_group, row, REFUSED, now, reason=reason)
            publications.let_go(connection, self.key)
            if not self.falls_back:
                set_task_states(connection, self.of_group.id, "failed", reason, now, task=self.rows[0].task)
        crash_point("publication.after_back", self.rows[0].task)
        if self.falls_back:
            return []
        raise _refused(reason)

    def note(self, error: CalibError) -> None:
        """What it waits for, where people look."""
        if self.falls_back:
            return
        stores = [row.store for row in self.rows]
        reason = {"code": ON_ITS_WAY, "key": self.key, "stores": stores, "said": _told(error)}
        with self.ledger.write() as connection:
            set_task_states(
                connection, self.of_group.id, "processing", reason, self.clock(), task=self.rows[0].task,
                only=("processing",),
            )  # fmt: skip

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


def finish_all(ledger: Ledger, clock: Callable[[], datetime], most: int = 100) -> list[str]:
    """Take further whatever is on its way.

    :returns: what was said of those that are not whole.
    """
    with ledger.read() as connection:
        keys = publications.on_their_way(connection)
    said = []
    for key in keys[:most]:
        try:
            carry_out(ledger, key, clock)
        except LedgerDown:
            raise
        except CalibError as error:  # whatever it is, the others go on
            said.append(f"{key}: {error.message}")
    return said


def _payloads(rows: Sequence[Publication]) -> list[int]:
    return list(dict.fromkeys(item["payload"] for row in rows for item in row.wanted["items"]))


def _wanted(outside: WritableStore, row: Publication) -> list[WantedPlacement]:
    found = []
    for one in row.wanted["items"]:
        default = one["default"]
        behind = outside.ref(one["tag"], default[1], default[0]) if default is not None else None
        ref: Ref = outside.ref(one["tag"], one["hash"], one["file_name"])
        place = (one["tag"], one["first_run"], one["last_run"], ref, row.group_id)
        found.append(WantedPlacement(*place, row.wanted["after"], behind))
    return found


def _conflicts(row: Publication, plan: StorePlan) -> list[str]:
    gaps = [f"there is a gap before it, {said}" for said in plan.gaps] if row.wanted["refuse_gaps"] else []
    return [*plan.conflicts, *gaps]


def _told(error: CalibError) -> str:
    return error.message[:1000]


def _refused(reason: Reason) -> NotPublished:
    return NotPublished(render(reason), str(reason.get("hint") or ""), reason)


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
