"""Payloads that were made from what is not any more what it was, and the smallest rerun that mends them (rule 70)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.payload_states import CURRENT, PUBLISHED
from airflow_calib_provider.ledger.rows import Payload, read_rows
from airflow_calib_provider.ledger.source_changes import changed_groups
from airflow_calib_provider.payloads import store
from airflow_calib_provider.payloads.comparison import generations_of
from airflow_calib_provider.payloads.lineage import GroupTask, Lineage, lineage_of

payload = tables.payload


@dataclass(frozen=True, order=True)
class Rerun:
    """Tasks of a group that are to run again, with all that comes after them in its DAG run."""

    campaign: str
    workflow: str
    group: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class StalePayload:
    """A payload that is not made from what there is now.

    :ivar why: in words.
    :ivar reruns: what mends it, in the order in which it is to be done; what needs the first ones comes later.
    :ivar follows: stale payloads that it has read: when these are mended it is to be looked at again.
    """

    payload: Payload
    why: tuple[str, ...]
    reruns: tuple[Rerun, ...] = ()
    follows: tuple[Payload, ...] = ()


@dataclass
class _Found:
    """What is wrong with one payload."""

    why: list[str] = field(default_factory=list)
    places: list[GroupTask] = field(default_factory=list)

    def tell(self, why: str) -> None:
        if why not in self.why:
            self.why.append(why)

    def add(self, why: str, place: GroupTask) -> None:
        self.tell(why)
        if place not in self.places:
            self.places.append(place)


def stale(connection: Connection, campaign: str, tag: str | None = None) -> list[StalePayload]:
    """The payloads of a campaign that are stale, those that others have read first.

    What was published before the ids of generations were kept with it cannot be told, and is left out.

    :param tag: only that of this tag, and what that has read.
    """
    found = among(connection, [row for row in store.listed(connection, campaign) if row.state in CURRENT])
    if tag is None:
        return found
    wanted: set[int] = set()
    for one in reversed(found):  # who reads comes behind what it has read
        if one.payload.tag == tag or one.payload.id in wanted:
            wanted |= {one.payload.id, *(row.id for row in one.follows)}
    return [one for one in found if one.payload.id in wanted]


def among(connection: Connection, rows: Sequence[Payload]) -> list[StalePayload]:
    """Those of some payloads that are stale, as far as these alone tell.

    What a person has put back by a rollback is not: making it anew would undo that.
    """
    rows = [row for row in rows if "rollback" not in row.provenance]
    lineage = lineage_of(connection, {number for row in rows for number in generations_of(row)})
    read = _Read(connection, lineage)
    changed = changed_groups(connection, {made.group_id for made in lineage.made.values()})
    found = {row.id: _of(row, lineage, read, changed) for row in rows}
    return list(_in_order(rows, found, lineage, read))


class _Read:
    """The payloads that generations have read: what has become of each."""

    def __init__(self, connection: Connection, lineage: Lineage) -> None:
        self.by_generation = {made.id: made.used.get("payloads", []) for made in lineage.made.values()}
        ids = {used["id"] for listed in self.by_generation.values() for used in listed}
        query = store.with_group().where(tables.one_of(payload.c.id, ids))
        self.rows = {row.id: row for row in read_rows(connection, query, Payload)}
        groups = {row.group_id for row in self.rows.values()}
        now = select(payload.c.group_id, payload.c.tag, payload.c.content_hash, payload.c.id).where(
            tables.one_of(payload.c.group_id, groups), payload.c.state == PUBLISHED
        )
        self.now = {(row.group_id, row.tag): (row.content_hash, row.id) for row in connection.execute(now)}

    def changes(self, generation: int) -> Iterator[str]:
        """What is not any more what a generation has read."""
        for used in self.by_generation.get(generation, ()):
            row = self.rows.get(used["id"])
            if row is None or row.state == PUBLISHED:
                continue
            digest, _ = self.now.get((row.group_id, row.tag), (None, None))
            if digest != row.content_hash:
                yield f"revision {row.revision} of {row.tag} of {row.group_name}, which it has read, is {row.state}"

    def now_read(self, generation: int) -> set[int]:
        """The ids of the payloads that hold now where the generation has read one."""
        known = [self.rows[used["id"]] for used in self.by_generation.get(generation, ()) if used["id"] in self.rows]
        return {self.now[row.group_id, row.tag][1] for row in known if (row.group_id, row.tag) in self.now}


def _of(row: Payload, lineage: Lineage, read: _Read, changed: Iterable[int]) -> _Found:
    found, of_groups = _Found(), set(changed)
    direct = [lineage.made[number] for number in generations_of(row) if number in lineage.made]
    for made in direct:
        if not lineage.is_latest(made):
            newest = lineage.latest[made.place][1]
            said = f"{made.task} of {made.group_name} has generation {newest}, it was made of {made.n}"
            found.add(said, (row.group_id, row.task))
    for number in sorted(lineage.behind(one.id for one in direct)):
        made = lineage.made[number]
        for other in sorted(made.made_from()):
            used = lineage.made.get(other)
            if used is not None and not lineage.is_latest(used):
                n = lineage.latest[used.place][1]
                found.add(
                    f"{made.task} has read generation {used.n} of {used.task} of {used.group_name}, which has {n}",
                    made.place,
                )
        for said in read.changes(number):
            found.add(f"{made.task} of {made.group_name}: {said}", made.place)
        if made.group_id in of_groups:
            # A group keeps the metadata it was made with: a rerun would change nothing.
            found.tell(f"the run source says something else of the runs of {made.group_name}")
    return found


def _in_order(
    rows: Sequence[Payload], found: dict[int, _Found], lineage: Lineage, read: _Read
) -> Iterator[StalePayload]:
    """Those that are stale by themselves or by what they have read; what others have read comes first."""
    by_id = {row.id: row for row in rows}
    reads = {
        row.id: {
            other
            for number in lineage.behind(generations_of(row))
            for other in read.now_read(number)
            if other in by_id and other != row.id
        }
        for row in rows
    }
    is_stale = {number for number, one in found.items() if one.why}
    while more := {number for number, used in reads.items() if used & is_stale} - is_stale:
        is_stale |= more
    left = sorted(is_stale, key=lambda number: (by_id[number].first_run, by_id[number].tag))
    done: set[int] = set()
    while left:
        ready = [number for number in left if not reads[number] & (is_stale - done)] or left
        for number in ready:
            yield _made(by_id, found[number], number, reads[number] & is_stale, lineage)
        done |= set(ready)
        left = [number for number in left if number not in done]


def _made(by_id: dict[int, Payload], one: _Found, number: int, follows: set[int], lineage: Lineage) -> StalePayload:
    row = by_id[number]
    before = tuple(by_id[other] for other in sorted(follows))
    why = [*one.why, *(f"revision {other.revision} of {other.tag}, which it has read, is stale" for other in before)]
    return StalePayload(row, tuple(why), tuple(_reruns(row, one.places, lineage)), before)


def _reruns(row: Payload, places: Sequence[GroupTask], lineage: Lineage) -> Iterator[Rerun]:
    """The first tasks of each group, without those that come after one of them there."""
    ids = {made.place: made.id for made in lineage.made.values() if lineage.is_latest(made)}
    names = {made.group_id: (made.campaign, made.workflow, made.group_name) for made in lineage.made.values()}
    names[row.group_id] = (row.campaign, row.workflow, row.group_name)
    by_group: dict[int, list[str]] = defaultdict(list)
    for place in places:
        # The publication itself has no generation, and comes after all.
        behind = lineage.behind([ids[place]]) - {ids[place]} if place in ids else set(lineage.made)
        before = {(lineage.made[other].group_id, lineage.made[other].task) for other in behind}
        if not any(other in before for other in places if other != place and other[0] == place[0]):
            by_group[place[0]].append(place[1])
    # What others are made from runs first: its own group is that which is made from all of them.
    for group_id in sorted(by_group, key=lambda one: (one == row.group_id, one)):
        yield Rerun(*names[group_id], tuple(sorted(by_group[group_id])))
