"""What every outside store of payloads does that can be written.

Whoever writes plans first (:meth:`WritableStore.plan`), which changes nothing, and then applies the plan. To apply it
again does what is missing of it: a store is asked what it has before anything is done there, and again afterwards.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import ClassVar

from airflow_calib_provider.errors import NoSuchTag, StoreInvalid, StoreRefused, StoreUnknown
from airflow_calib_provider.outside.conditions import ConditionsStore, PlacedPayload, look_up
from airflow_calib_provider.outside.placing import (
    NO_GUARD,
    Capabilities,
    Guard,
    Placement,
    Ref,
    StorePlan,
    TagPlan,
    WantedPlacement,
    make_plan,
    make_withdrawal,
    undone,
)

TRIES = 3
"""How often a change is looked at again that did not come to what it should."""


_ENDING = re.compile(r"\.[A-Za-z0-9_]{1,20}")


@dataclass(frozen=True)
class TagChange:
    """What a tag has, and what it is to have.

    :ivar current: as the store says it now.
    """

    current: tuple[PlacedPayload, ...]
    target: tuple[PlacedPayload, ...]

    @property
    def missing(self) -> list[PlacedPayload]:
        """What is not there yet."""
        return [one for one in self.target if one not in self.current]

    @property
    def extra(self) -> list[PlacedPayload]:
        """What must go."""
        return [one for one in self.current if one not in self.target]


@dataclass(frozen=True)
class Receipt:
    """What a store has after a plan was applied.

    :ivar key: of the publication.
    :ivar tags: what it was asked to place, by tag.
    :ivar note: what people need to find it there, such as a commit; empty: nothing.
    """

    key: str
    tags: Mapping[str, tuple[Placement, ...]]
    note: str = ""


class WritableStore(ConditionsStore):
    """An outside store that is written through an Airflow connection: its place is ``connection/name``.

    :cvar name: of the kind, in specs.
    :cvar place_key: the key of a spec that says where in it, :cvar place_default: and what is meant without it;
        empty: it must be stated.
    :cvar last_run: the largest run number that one can hold.
    """

    name: ClassVar[str]
    place_key: ClassVar[str]
    place_default: ClassVar[str] = ""
    last_run: ClassVar[int] = 2**63 - 2

    @classmethod
    def fault(cls, place: str) -> str:
        """It begins with a connection."""
        connection, _, inside = place.partition("/")
        if (
            not connection
            or not connection.isascii()
            or not connection.replace("-", "_").replace(".", "_").isidentifier()
        ):
            return "does not begin with the name of a connection"
        if not inside and not cls.place_default:
            return f"has no {cls.place_key} behind the connection and a slash"
        return "" if place.isprintable() and " " not in place else "has a space, or a sign that is not printable"

    @classmethod
    def connection(cls, place: str) -> str:
        """What stands before the first slash."""
        return place.partition("/")[0]

    @property
    def inside(self) -> str:
        """Where in the store: what stands behind the first slash."""
        return self.place.partition("/")[2] or self.place_default

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What it can do, as it is set up.

        :raises OutsideError: its connection does not say.
        """

    def ready(self, tags: Sequence[str]) -> None:
        """See whether tags can be written now, before anything is sent.

        :raises StoreRefused: one is frozen, or is not there and not made by us.
        """

    @abstractmethod
    def ref(self, tag: str, digest: str, file_name: str) -> Ref:
        """Where a content of this hash will be; nothing is asked."""

    @abstractmethod
    def put(self, tag: str, content: Path, ref: Ref, file_name: str) -> None:
        """Bring a file into the store, where nobody sees it yet; if it is there, nothing is done.

        :param file_name: what it was called by whoever made it.
        :raises StoreError: it cannot be brought there.
        """

    @abstractmethod
    def change(self, changes: Mapping[str, TagChange], key: str) -> str:
        """Let tags have what they are to have; all files are there. What is there already stays.

        :returns: the receipt's note.
        :raises StoreError: it was not done, or perhaps not all of it.
        """

    def current(self, tag: str) -> list[PlacedPayload]:
        """As :meth:`listing`; a tag that is not there has nothing."""
        try:
            return self.listing(tag)
        except NoSuchTag:
            return []

    def altered(self, tag: str, listing: Sequence[PlacedPayload], *, quickly: bool = False) -> list[str]:
        """Whose content is not any more what its hash says, for people; of a store that keeps none: of nothing.

        :param listing: as the store has just said it.
        :param quickly: contents need not be read: what was changed since we last wrote the tag is enough.
        """
        return []

    def plan(
        self, wanted: Sequence[WantedPlacement], expected: Mapping[str, Sequence[Placement]], guard: Guard = NO_GUARD
    ) -> StorePlan:
        """What is to be done so that tags have what is wanted.

        :param expected: what the ledger says that they have; the plan has a conflict where that is not so.
        """
        listings = {one.tag: self.current(one.tag) for one in wanted}
        return self._with_altered(make_plan(wanted, expected, listings, self.capabilities(), guard), listings)

    def plan_withdrawal(
        self, taken: Sequence[WantedPlacement], expected: Mapping[str, Sequence[Placement]], guard: Guard = NO_GUARD
    ) -> StorePlan:
        """What is to be done so that tags have nothing of a group any more.

        :param taken: what was wanted when it was published.
        :param expected: as of :meth:`plan`.
        """
        listings = {one.tag: self.current(one.tag) for one in taken}
        return self._with_altered(make_withdrawal(taken, expected, listings, self.capabilities(), guard), listings)

    def _with_altered(self, plan: StorePlan, listings: Mapping[str, Sequence[PlacedPayload]]) -> StorePlan:
        altered = [
            f"{tag} was changed there: {said}"
            for tag, listing in listings.items()
            for said in self.altered(tag, listing, quickly=True)
        ]
        return replace(plan, conflicts=(*plan.conflicts, *altered)) if altered else plan

    def apply(self, plan: StorePlan, key: str) -> Receipt:
        """Do what a plan says, as far as it is not done; again is no trouble.

        :param key: of the publication.
        :raises StoreError: it is not done, or not all of it.
        """
        if plan.conflicts:
            raise StoreInvalid(f"a plan with conflicts was to be applied: {plan.conflicts[0]}")
        parts = [plan.tags] if self.capabilities().atomic_sets else [(one,) for one in plan.tags]
        notes = []
        for part in parts:
            notes.append(self._applied(part, key))
        placed = {one.tag: one.insert for one in plan.tags}
        return Receipt(key, placed, ", ".join(dict.fromkeys(filter(None, notes))))

    def take_back(self, plan: StorePlan, key: str) -> None:
        """Put back what was there before a plan, of whatever of it is there.

        A tag that has nothing of the plan any more, as somebody has put something else there, stays as it is.

        :param key: of the publication.
        :raises StoreError: it is not done, or somebody has put something else beside what is to be taken back.
        """
        back = tuple(undone(one) for one in plan.tags if not _has_nothing_of(one, self.current(one.tag)))
        self.apply(StorePlan(back), f"{key}/back")

    def _applied(self, part: Sequence[TagPlan], key: str) -> str:
        note = ""
        for _ in range(TRIES):
            changes = {one.tag: to_do(one, self.current(one.tag)) for one in part}
            due = {tag: change for tag, change in changes.items() if change.missing or change.extra}
            if not due:
                return note
            try:
                note = self.change(due, key)
            except StoreUnknown as error:
                unknown: StoreUnknown | None = error
            else:
                unknown = None
        for one in part:
            left = to_do(one, self.current(one.tag))
            if left.missing or left.extra:
                if unknown is not None:
                    raise unknown
                said = ", ".join(Placement.found(item).says() for item in [*left.missing, *left.extra][:3])
                raise StoreRefused(f"{one.tag}: the store has made something else of it, see {said}")
        return note

    def replace(self, receipt: Receipt, by: Mapping[str, Ref]) -> Receipt:
        """Let other files hold where a publication has put its own: a way back to former ones.

        :param by: for each tag.
        """
        tags = []
        for tag, placed in receipt.tags.items():
            made = tuple(Placement(one.first_run, one.last_run, by[tag], one.firm_last, one.group_id) for one in placed)
            tags.append(TagPlan(tag, placed, made))
        return self.apply(StorePlan(tuple(tags)), f"{receipt.key}-replaced")

    def look_up(self, tag: str, run: int, as_of: datetime | None = None) -> PlacedPayload | None:
        """What holds for a run.

        :param as_of: what held at this time; only where the store keeps that.
        :raises StoreInvalid: it does not.
        """
        if as_of is not None:
            raise StoreInvalid(f"a store of the kind {self.name} does not say what it had earlier")
        return look_up(self.current(tag), run)


def to_do(plan: TagPlan, listing: Sequence[PlacedPayload]) -> TagChange:
    """What is left to do of a plan.

    :raises StoreRefused: something is there that neither was there before nor comes from the plan.
    """
    insert = {one.key: one for one in plan.insert}
    remove = {one.key: one for one in plan.remove if one.key not in insert}
    ours = {(one.ref.file, one.ref.hash) for one in (*plan.insert, *plan.remove)}
    kept = []
    for one in listing:
        key = Placement.found(one).key
        if key in insert or key in remove:
            continue
        if any(_overlap(one, other) for other in (*insert.values(), *remove.values())):
            if (one.file, one.hash) not in ours:
                said = f"{plan.tag} was changed there while it was published: it has {Placement.found(one).says()}"
                raise StoreRefused(said, "see who else writes there; `calib payload check` shows the differences")
            continue  # what a store has left of one that it has cut by itself
        kept.append(one)
    made = [PlacedPayload(one.first_run, one.last_run, one.ref.file, one.ref.hash) for one in insert.values()]
    target = sorted([*kept, *made], key=lambda one: one.first_run)
    return TagChange(tuple(listing), tuple(target))


def _has_nothing_of(plan: TagPlan, listing: Sequence[PlacedPayload]) -> bool:
    """Whether somebody has put something else there, and no content of the plan is left."""
    made = {one.ref for one in plan.insert} - {one.ref for one in plan.remove}
    if any(Ref(one.file, one.hash) in made for one in listing):
        return False
    try:
        to_do(undone(plan), listing)
    except StoreRefused:
        return True
    return False


def _overlap(one: PlacedPayload, other: Placement) -> bool:
    begins = other.last_run is None or one.first_run <= other.last_run
    return begins and (one.last_run is None or one.last_run >= other.first_run)


def ending_of(file_name: str) -> str:
    """The ending of a file's name, if it may stand wherever a store writes it: in refs, lines and addresses."""
    suffix = PurePosixPath(file_name).suffix
    return suffix if _ENDING.fullmatch(suffix) and suffix != ".lock" else ""


def place_of(connection: str, inside: str) -> str:
    """The place of a store behind a connection."""
    return f"{connection}/{inside}" if inside else connection
