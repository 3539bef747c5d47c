"""Taking back what was published: here, and from outside stores by the steps of :mod:`.outgoing` (rules 70, 71).

A set is taken back as a whole. Until the last store has given it back it holds here, too, so that all say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from airflow_calib_provider.domain.reasons import Reason, render
from airflow_calib_provider.errors import CalibError, NotWithdrawn, PayloadError
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import group_by_id
from airflow_calib_provider.ledger.payload_states import PUBLISHED, WITHDRAWN
from airflow_calib_provider.ledger.publications import Publication
from airflow_calib_provider.ledger.rows import Group, Payload, read_rows
from airflow_calib_provider.outside.placing import Guard, Placement, StorePlan
from airflow_calib_provider.outside.writing import WritableStore
from airflow_calib_provider.payloads import intents, life, store
from airflow_calib_provider.payloads.outgoing import OutgoingSet, told, wanted_at

payload = tables.payload


def withdraw(ledger: Ledger, payload_id: int, *, person: str, reason: str, now: datetime) -> str | None:
    """Take a payload back, with its set: what outside stores have, too, is on its way from there then.

    :returns: the key of that, for :func:`.publication.carry_out`; ``None``: it is taken back, and holds for no run.
    :raises NotFound: there is none.
    :raises PayloadError: it is not published, or no reason is given.
    :raises PayloadStoreDown: another revision is on its way to outside stores.
    """
    reason = stated(reason)
    with ledger.write() as connection:
        row = life.by_id(connection, payload_id)
        if row.state == WITHDRAWN:
            return None
        if row.state != PUBLISHED:
            said = f"revision {row.revision} of {row.tag} is {row.state}: there is nothing to be taken back"
            raise PayloadError(said, "`calib payload list --history` shows all revisions")
        if (key := intents.withdrawal_of(row)) is not None:
            return key
        everything = of_task(connection, row)
        intents.refuse_on_its_way(*everything)
        rows = [one for one in everything if one.state == PUBLISHED]
        if any(intents.targets_of(one) for one in rows):
            group = group_by_id(connection, row.group_id)
            return intents.intend_withdrawal(connection, group, rows, now, person=person, reason=reason)
        for one in rows:
            _end(connection, one, now, person=person, reason=reason)
    return None


def set_of(connection: Connection, row: Payload) -> list[Payload]:
    """A payload that is published, and first, with the others of its set that are."""
    if row.state != PUBLISHED:
        return [row]
    return [row, *(one for one in of_task(connection, row) if one.state == PUBLISHED and one.id != row.id)]


def stated(reason: str) -> str:
    """:raises PayloadError: it says nothing."""
    if not reason.strip():
        raise PayloadError("a reason is needed", 'say why: --reason "..."')
    return reason.strip()


class WithdrawnSet(OutgoingSet):
    """What is taken back."""

    whole = "withdrawn"

    def payloads(self) -> list[int]:
        """Those that hold, and are to hold no more; of some a store may have nothing."""
        return [int(one) for one in self.rows[0].wanted[intents.WITHDRAWAL]["payloads"]]

    def note(self, error: CalibError) -> None:
        """In the reasons of the payloads."""
        stores = [row.store for row in self.rows]
        reason = {"code": intents.WITHDRAWING, "key": self.key, "stores": stores, "person": self._who[0]}
        with self.ledger.write() as connection:
            intents.note_reason(connection, self.payloads(), {**reason, "said": told(error)})

    @property
    def _who(self) -> tuple[str, str]:
        said = self.rows[0].wanted[intents.WITHDRAWAL]
        return str(said["person"]), str(said["reason"])

    def _to_bring(self, outside: WritableStore, row: Publication) -> None:
        """Nothing: what goes on again is there."""

    def _planned_at(
        self, outside: WritableStore, row: Publication, had: dict[str, Sequence[Placement]], guard: Guard
    ) -> StorePlan:
        return outside.plan_withdrawal(wanted_at(outside, row), had, guard)

    def _say_done(self, connection: Connection, group: Group, now: datetime) -> list[Payload]:
        person, reason = self._who
        rows = [life.by_id(connection, one) for one in self.payloads()]
        return [_end(connection, row, now, person=person, reason=reason, publication=self.key) for row in rows]

    def _why_refused(self, error: CalibError) -> Reason:
        said = {"tag": self._tags(), "said": told(error), "hint": error.hint}
        return {"code": "withdrawal_refused", **said, "key": self.key}

    def _say_refused(self, connection: Connection, reason: Reason, now: datetime) -> None:
        intents.note_reason(connection, self.payloads(), reason)

    def _tell_refused(self, reason: Reason) -> None:
        raise NotWithdrawn(render(reason), str(reason.get("hint") or ""))


def of_task(connection: Connection, row: Payload) -> list[Payload]:
    """All that the task of a payload has made for its group, in that order: of one tag, or of a set."""
    here = (payload.c.group_id == row.group_id, payload.c.task == row.task)
    query = store.with_group().where(*here).order_by(payload.c.id)
    return read_rows(connection, query, Payload)


def _end(connection: Connection, row: Payload, now: datetime, *, person: str, reason: str, **said: object) -> Payload:
    """It holds for no run any more."""
    life.decide(connection, row, life.PayloadDecision("withdrawal", "done", person, reason), now)
    return life.go(connection, row, WITHDRAWN, {"superseded_at": now}, by=person, comment=reason, **said)
