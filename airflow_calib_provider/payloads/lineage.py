"""What payloads were made from: the generations behind them, as far as they go, and what these have read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, func, select, update

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.payload_states import PUBLISHED
from airflow_calib_provider.ledger.rows import Payload
from airflow_calib_provider.ledger.used import Used

generation, group = tables.generation, tables.run_group

GroupTask = tuple[int, str]
"""The id of a group, and a task."""

_OF_PUBLICATION = ("stores", "store", "extends")
"""In a provenance: where a payload is, and which one it extends; and not what it was made from."""


class LineageStep(NamedTuple):
    """A generation behind a payload."""

    id: int
    group_id: int
    task: str
    n: int
    used: Used
    campaign: str
    workflow: str
    group_name: str

    @property
    def place(self) -> GroupTask:
        """Where it was made."""
        return self.group_id, self.task

    def made_from(self) -> set[int]:
        """The ids of the generations whose products it has read."""
        return {number for listed in self.used.get("generations", {}).values() for number in listed}


@dataclass(frozen=True)
class Lineage:
    """Generations, and the latest done one of each task of each group that has one of them.

    :ivar made: by id.
    :ivar latest: id and number.
    """

    made: dict[int, LineageStep]
    latest: dict[GroupTask, tuple[int, int]]

    def is_latest(self, made: LineageStep) -> bool:
        """Whether nothing newer has been made in its place."""
        return self.latest.get(made.place, (made.id, made.n))[0] == made.id

    def newest(self, made: LineageStep) -> LineageStep:
        """What has been made in its place since; itself, if nothing has."""
        return self.made.get(self.latest.get(made.place, (made.id, made.n))[0], made)

    def behind(self, ids: Iterable[int]) -> set[int]:
        """What would be read if these were made anew: the newest of each, of what it was made from, and so on."""
        found: set[int] = set()
        left = set(ids)
        while left:
            now = {self.newest(self.made[number]).id for number in left if number in self.made} - found
            found |= now
            left = {number for one in now for number in self.made[one].made_from()}
        return found


def lineage_of(connection: Connection, ids: Iterable[int]) -> Lineage:
    """Read the generations behind some, and those that have taken their places: two statements for each step back."""
    found = Lineage({}, {})
    left = set(ids)
    columns = (generation.c.id, generation.c.group_id, generation.c.task, generation.c.n, generation.c.used)
    named = (group.c.campaign, group.c.workflow, group.c.name)
    while left:
        query = select(*columns, *named).join(group, group.c.id == generation.c.group_id)
        rows = [LineageStep(*row) for row in connection.execute(query.where(tables.one_of(generation.c.id, left)))]
        found.made.update({row.id: row for row in rows})
        found.latest.update(_latest(connection, {row.group_id for row in rows}))
        newer = {found.latest[row.place][0] for row in rows if row.place in found.latest}
        left = ({number for row in rows for number in row.made_from()} | newer) - found.made.keys()
    return found


def note_lineage(connection: Connection, row: Payload, provenance: Mapping[str, object]) -> None:
    """Write down what the content of a payload was made from now, where that is not what it was made from first.

    Of a published one that is what would make it anew: where it is, and how it came there, stays.
    """
    if row.state == PUBLISHED:
        made_from = {name: said for name, said in provenance.items() if name not in _OF_PUBLICATION}
        provenance = {**row.provenance, **made_from}
    if provenance != row.provenance:
        made = update(tables.payload).where(tables.payload.c.id == row.id)
        connection.execute(made.values(provenance=dict(provenance)))


def ancestors_of(connection: Connection, ids: Iterable[int]) -> set[int]:
    """These generations, those that they were made from, and so on: a statement for each step back."""
    found: set[int] = set()
    left = set(ids)
    while left:
        found |= left
        used = connection.execute(select(generation.c.used).where(tables.one_of(generation.c.id, left))).scalars()
        left = {number for one in used for listed in one.get("generations", {}).values() for number in listed} - found
    return found


def _latest(connection: Connection, groups: Iterable[int]) -> dict[GroupTask, tuple[int, int]]:
    newest = (
        select(generation.c.group_id, generation.c.task, func.max(generation.c.n).label("n"))
        .where(tables.one_of(generation.c.group_id, groups), generation.c.state == "done")
        .group_by(generation.c.group_id, generation.c.task)
        .subquery()
    )
    query = select(generation.c.group_id, generation.c.task, generation.c.id, generation.c.n).join(
        newest,
        (newest.c.group_id == generation.c.group_id)
        & (newest.c.task == generation.c.task)
        & (newest.c.n == generation.c.n),
    )
    return {(row.group_id, row.task): (row.id, row.n) for row in connection.execute(query)}
