"""A set of payloads on its way to the ledger and to outside stores: whole in the end, or nowhere (rule 71).

All files are brought to all stores first, where nobody sees them; the steps are those of :mod:`.outgoing`. What is
stopped half way is *publishing*, holds for no run, and is taken further by whoever comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.reasons import Reason, render
from airflow_calib_provider.errors import (
    CalibError,
    LedgerDown,
    NotPublished,
    NotWithdrawn,
    OutsideError,
    OutsideStoreDown,
    PayloadError,
    PayloadStoreDown,
)
from airflow_calib_provider.ledger import publications
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import set_task_states
from airflow_calib_provider.ledger.payload_states import APPROVED, CANDIDATE, EXPIRED, VALIDATED
from airflow_calib_provider.ledger.publications import Publication
from airflow_calib_provider.ledger.rows import Group, Payload
from airflow_calib_provider.outside.placing import Guard, Placement, StorePlan
from airflow_calib_provider.outside.writing import WritableStore
from airflow_calib_provider.payloads import life, store
from airflow_calib_provider.payloads.intents import DECIDED, ON_ITS_WAY, REST, WITHDRAWAL
from airflow_calib_provider.payloads.outgoing import FINAL, OutgoingSet, told, wanted_at
from airflow_calib_provider.payloads.withdrawing import WithdrawnSet


def carry_out(ledger: Ledger, key: str, clock: Callable[[], datetime]) -> list[Payload]:
    """Take a set further, until it is published, or taken back, everywhere or nowhere.

    :returns: its payloads, as they are then.
    :raises PayloadStoreDown: it is not whole yet: try again.
    :raises NotPublished: a store has refused it, and it is nowhere.
    :raises NotWithdrawn: a store does not give it back, and it is everywhere.
    """
    set_ = _of_kind(ledger, key, clock)
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
    except (PayloadError, *FINAL) as error:
        if isinstance(error, PayloadStoreDown | NotPublished | NotWithdrawn):
            raise
        raise OutsideStoreDown(told(error), "see `calib explain`") from error  # what was to be taken back is not yet
    except OutsideError as error:
        set_.note(error)
        raise OutsideStoreDown(told(error), "it is tried again, by Airflow and by housekeeping") from error


def _of_kind(ledger: Ledger, key: str, clock: Callable[[], datetime]) -> OutgoingSet:
    with ledger.read() as connection:
        taken_back = any(WITHDRAWAL in row.wanted for row in publications.of_set(connection, key))
    return WithdrawnSet(ledger, key, clock) if taken_back else PublishedSet(ledger, key, clock)


class PublishedSet(OutgoingSet):
    """What is published."""

    whole = "published"

    @property
    def falls_back(self) -> bool:
        """Whether it holds only until the group's own is published: its task is not told of it."""
        return any(row.wanted.get("fallback", False) for row in self.rows)

    def payloads(self) -> list[int]:
        """Those that are to hold."""
        return list(self._before)

    @property
    def _before(self) -> dict[int, str]:
        """Each, and its state before; what goes to no store is among them."""
        found = {item["payload"]: item["from"] for row in self.rows for item in row.wanted["items"]}
        return {**found, **{number: state for row in self.rows for number, state in row.wanted.get(REST, ())}}

    def note(self, error: CalibError) -> None:
        """In the reason of the task."""
        if self.falls_back:
            return
        stores = [row.store for row in self.rows]
        reason = {"code": ON_ITS_WAY, "key": self.key, "stores": stores, "said": told(error)}
        with self.ledger.write() as connection:
            set_task_states(
                connection, self.of_group.id, "processing", reason, self.clock(), task=self.rows[0].task,
                only=("processing",),
            )  # fmt: skip

    def _to_bring(self, outside: WritableStore, row: Publication) -> None:
        for item in row.wanted["items"]:
            ref = outside.ref(item["tag"], item["hash"], item["file_name"])
            with self.ledger.read() as connection:
                content = store.content_path(life.by_id(connection, item["payload"]))
            outside.put(item["tag"], content, ref, item["file_name"])

    def _planned_at(
        self, outside: WritableStore, row: Publication, had: dict[str, Sequence[Placement]], guard: Guard
    ) -> StorePlan:
        return outside.plan(wanted_at(outside, row), had, guard)

    def _say_done(self, connection: Connection, group: Group, now: datetime) -> list[Payload]:
        done = []
        decided = {number: said for row in self.rows for number, said in row.wanted.get(DECIDED, {}).items()}
        for number in self.payloads():
            said = {"publication": self.key, **decided.get(str(number), {})}
            row = store.make_valid(connection, group, life.by_id(connection, number), now, **said)
            done.append(row)
            made = store.Published(
                row.tag, Iov(row.first_run, row.last_run), row.revision, row.content_hash, new=True,
                payload_id=row.id,
            )  # fmt: skip
            if not self.falls_back and len(done) == 1:  # its task is done once, whatever the set has
                store.note_task(connection, group.id, row.task, made, now)
        return done

    def _why_refused(self, error: CalibError) -> Reason:
        return {
            **{"code": "store_refused", "tag": self._tags(), "said": told(error), "hint": error.hint},
            "key": self.key,
        }

    def _say_refused(self, connection: Connection, reason: Reason, now: datetime) -> None:
        for number, state in self._before.items():
            target = APPROVED if state == APPROVED else EXPIRED if self.falls_back else CANDIDATE
            payload = life.go(connection, life.by_id(connection, number), target, {"reason": reason}, reason=reason)
            if state == VALIDATED:
                life.go(connection, payload, VALIDATED, {"reason": reason})
        if not self.falls_back:
            set_task_states(connection, self.of_group.id, "failed", reason, now, task=self.rows[0].task)

    def _tell_refused(self, reason: Reason) -> None:
        if not self.falls_back:
            raise NotPublished(render(reason), str(reason.get("hint") or ""), reason)


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
