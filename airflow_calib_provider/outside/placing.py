"""What a publication does to the intervals of a tag, worked out before anything is done: pure functions.

An interval is *firm* as far as its group reaches. What a store goes on serving beyond that, until the next one begins,
is not: the next publication may cut it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.outside.conditions import PlacedPayload

After = Literal["hold", "default", "next"]
"""What holds behind the last run of a group: its payload until the next one begins, a default, or whatever comes."""


@dataclass(frozen=True)
class Capabilities:
    """What a store can do.

    :ivar ends: an interval has an end of its own; otherwise it goes on until the next one begins.
    :ivar overlap: what the store does with one that overlaps another: it refuses it, cuts what is there without a word,
        or hides it behind the new one.
    :ivar atomic_sets: several tags change at once, or none.
    :ivar snapshot: it says what it had at an earlier time.
    :ivar last_run: the largest run number that it can hold.
    """

    ends: bool
    overlap: Literal["refuse", "cut", "hide"]
    atomic_sets: bool
    snapshot: bool
    last_run: int


@dataclass(frozen=True)
class Ref:
    """A file in a store.

    :ivar file: where it is there.
    :ivar hash: SHA-256 of its content, hexadecimal.
    """

    file: str
    hash: str


@dataclass(frozen=True)
class Placement:
    """An interval of a tag, and how far it is meant.

    :ivar last_run: ``None``: open.
    :ivar firm_last: the last run that it is published for; below ``first_run``: for none, as a default;
        ``None``: all of its runs.
    :ivar group_id: whose it is; ``None``: it was there before we wrote the tag.
    """

    first_run: int
    last_run: int | None
    ref: Ref
    firm_last: int | None = None
    group_id: int | None = None

    @classmethod
    def found(cls, one: PlacedPayload) -> Placement:
        """One that was there already; of an open one only the beginning is firm."""
        firm = one.first_run if one.last_run is None else None
        return cls(one.first_run, one.last_run, Ref(one.file, one.hash), firm)

    @property
    def key(self) -> tuple[int, int | None, str, str]:
        """What a store says of it."""
        return self.first_run, self.last_run, self.ref.file, self.ref.hash

    def firm_to(self) -> int | None:
        """The last run that nobody else may take; ``None``: it has no end."""
        return self.last_run if self.firm_last is None else self.firm_last

    def says(self) -> str:
        """For people."""
        last = "…" if self.last_run is None else self.last_run
        return f"[{self.first_run}, {last}] {self.ref.hash[:12] or self.ref.file}"


@dataclass(frozen=True)
class TagPlan:
    """What becomes of a tag.

    :ivar remove: what is there and will not be, :ivar insert: and the other way round.
    """

    tag: str
    remove: tuple[Placement, ...] = ()
    insert: tuple[Placement, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not self.remove and not self.insert


@dataclass(frozen=True)
class StorePlan:
    """What a publication does to a store.

    :ivar tags: for each tag what becomes of it, in the order in which it is done.
    :ivar conflicts: why it must not be done, for people; empty: it may.
    :ivar cuts: intervals that go on beyond their group and end earlier by this.
    :ivar gaps: runs before the new ones that no interval covers.
    :ivar moved: the first run that is written, where it was moved up since earlier ones were processed already.
    """

    tags: tuple[TagPlan, ...]
    conflicts: tuple[str, ...] = ()
    cuts: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    moved: int | None = None


@dataclass(frozen=True)
class WantedPlacement:
    """What is to hold under a tag, for the runs of a group.

    :ivar default: the file that holds behind the group's last run, with ``after: default``.
    """

    tag: str
    first_run: int
    last_run: int
    ref: Ref
    group_id: int
    after: After = "next"
    default: Ref | None = None


@dataclass(frozen=True)
class Guard:
    """What must not change.

    :ivar safe_run: below it nothing is changed: these runs were processed already.
    :ivar move: what begins below it begins there instead; otherwise it is refused.
    """

    safe_run: int | None = None
    move: bool = False


@dataclass
class _Laying:
    """One tag, while it is planned."""

    tag: str
    before: Sequence[Placement]
    conflicts: list[str] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    moved: int | None = None


NO_GUARD = Guard()


def make_plan(
    wanted: Sequence[WantedPlacement],
    expected: Mapping[str, Sequence[Placement]],
    listings: Mapping[str, Sequence[PlacedPayload]],
    can: Capabilities,
    guard: Guard = NO_GUARD,
) -> StorePlan:
    """What is to be done so that each tag has what is wanted.

    :param expected: of each tag, what the ledger says that it has.
    :param listings: and what the store says.
    """
    tags, conflicts, cuts, gaps = [], [], [], []
    moved: int | None = None
    for one in wanted:
        before = sorted(expected.get(one.tag, ()), key=lambda placed: placed.first_run)
        laying = _Laying(one.tag, before)
        laying.conflicts += [f"{one.tag} was changed there: {said}" for said in drift(before, listings[one.tag])]
        after = _laid(laying, one, can, guard)
        tags.append(difference(one.tag, before, after))
        conflicts += laying.conflicts
        cuts += laying.cuts
        gaps += laying.gaps
        moved = laying.moved if moved is None else moved
    return StorePlan(tuple(tags), tuple(conflicts), tuple(cuts), tuple(gaps), moved)


def make_withdrawal(
    taken: Sequence[WantedPlacement],
    expected: Mapping[str, Sequence[Placement]],
    listings: Mapping[str, Sequence[PlacedPayload]],
    can: Capabilities,
    guard: Guard = NO_GUARD,
) -> StorePlan:
    """What is to be done so that no tag has anything of a group any more; what it has cut goes on again.

    :param taken: what was wanted when it was published.
    :param expected: of each tag, what the ledger says that it has.
    :param listings: and what the store says.
    """
    tags, conflicts, gaps = [], [], []
    moved: int | None = None
    for one in taken:
        before = sorted(expected.get(one.tag, ()), key=lambda placed: placed.first_run)
        laying = _Laying(one.tag, before)
        laying.conflicts += [f"{one.tag} was changed there: {said}" for said in drift(before, listings[one.tag])]
        tags.append(difference(one.tag, before, _without(laying, one, can, guard)))
        conflicts += laying.conflicts
        gaps += laying.gaps
        moved = laying.moved if moved is None else moved
    return StorePlan(tuple(tags), tuple(conflicts), (), tuple(gaps), moved)


def drift(expected: Iterable[Placement], listing: Iterable[PlacedPayload]) -> list[str]:
    """How a store differs from what the ledger says of it, for people."""
    ours = {one.key: one for one in expected}
    theirs = {Placement.found(one).key: Placement.found(one) for one in listing}
    gone = [f"{one.says()} is not there any more" for key, one in ours.items() if key not in theirs]
    return gone + [f"{one.says()} is not ours" for key, one in theirs.items() if key not in ours]


def difference(tag: str, before: Sequence[Placement], after: Sequence[Placement]) -> TagPlan:
    """How one listing becomes another."""
    had, has = set(before), set(after)
    remove = tuple(one for one in before if one not in has)
    return TagPlan(tag, remove, tuple(one for one in after if one not in had))


def applied(before: Sequence[Placement], change: TagPlan) -> list[Placement]:
    """A listing after a change."""
    gone = set(change.remove)
    kept = [one for one in before if one not in gone]
    return sorted([*kept, *change.insert], key=lambda one: one.first_run)


def undone(change: TagPlan) -> TagPlan:
    """The change that takes a change back."""
    return TagPlan(change.tag, change.insert, change.remove)


def _laid(laying: _Laying, one: WantedPlacement, can: Capabilities, guard: Guard) -> list[Placement]:
    """What the tag has when the interval is there."""
    first = _first(laying, one, guard)
    if one.last_run > can.last_run:
        laying.conflicts.append(f"run {one.last_run} is beyond the last one that the store can hold, {can.last_run}")
    if laying.moved is not None and first > one.last_run:
        laying.conflicts.append(f"all runs to {one.last_run} of {one.tag} were processed already")
        return list(laying.before)
    rest = []
    for placed in laying.before:
        if placed.group_id == one.group_id:
            rest += _below(placed, laying.moved)
        elif _overlaps(placed, first, one.last_run):
            rest += _cut(laying, placed, first, one.last_run)
        else:
            rest.append(placed)
    _note_gap(laying, rest, first)
    made = Placement(first, one.last_run, one.ref, one.last_run, one.group_id)
    return _closed([*rest, made, *_behind(rest, one)], made, one.after, can)


def _first(laying: _Laying, one: WantedPlacement, guard: Guard) -> int:
    safe = guard.safe_run
    had = [placed.first_run for placed in laying.before if placed.group_id == one.group_id]
    begins = min([one.first_run, *had])
    if safe is None or begins >= safe:
        return one.first_run
    if not guard.move:
        said = f"{one.tag} would change from run {begins} on, and runs below {safe} were processed already"
        laying.conflicts.append(said)
        return one.first_run
    laying.moved = safe
    return max(one.first_run, safe)


def _without(laying: _Laying, one: WantedPlacement, can: Capabilities, guard: Guard) -> list[Placement]:
    """What the tag has when nothing of the group is there any more, but for what was processed, if that is to stay."""
    own = [placed for placed in laying.before if placed.group_id == one.group_id]
    if not own:
        return list(laying.before)
    begins, safe = own[0].first_run, guard.safe_run
    if safe is not None and begins < safe:
        if not guard.move or safe > one.last_run:
            said = f"{one.tag} would change from run {begins} on, and runs below {safe} were processed already"
            laying.conflicts.append(said)
            return list(laying.before)
        begins = laying.moved = safe
    rest = [placed for placed in laying.before if placed.group_id != one.group_id]
    kept = [left for placed in own for left in _below(placed, laying.moved)]
    gone_on = [] if kept else _going_on(rest, begins, one)
    there = [placed for placed in [*rest, *kept] if not any(placed.first_run == new.first_run for new in gone_on)]
    after = _closed([*there, *gone_on], None, one.after, can)
    if not any(_overlaps(placed, begins, one.last_run) for placed in after):
        laying.gaps.append(f"{one.tag}: [{begins}, {one.last_run}]")
    return after


def _going_on(rest: Sequence[Placement], begins: int, one: WantedPlacement) -> list[Placement]:
    """What goes on where a group has ended it: what was open before we came, what is held, or a default."""
    before = max((placed for placed in rest if placed.first_run < begins), key=lambda it: it.first_run, default=None)
    if before is None or before.firm_last is None or before.last_run != begins - 1:
        return []
    is_default = before.firm_last < before.first_run
    if before.group_id is None or is_default or before.firm_last < before.last_run or one.after == "hold":
        return [replace(before, last_run=None)]
    if one.after == "default" and one.default is not None:
        return [Placement(begins, None, one.default, before.firm_last, before.group_id)]
    return []


def _below(placed: Placement, safe: int | None) -> list[Placement]:
    """What stays of a group's former interval: what was processed with it."""
    if safe is None or placed.first_run >= safe:
        return []
    last = safe - 1 if placed.last_run is None else min(placed.last_run, safe - 1)
    return [replace(placed, last_run=last, firm_last=last)]


def _overlaps(placed: Placement, first: int, last: int) -> bool:
    return placed.first_run <= last and (placed.last_run is None or placed.last_run >= first)


def _cut(laying: _Laying, placed: Placement, first: int, last: int) -> list[Placement]:
    """What stays of another interval: what is firm of it is in nobody's way, or it is a conflict."""
    firm = placed.firm_to()
    if placed.first_run <= last and (firm is None or firm >= first):
        laying.conflicts.append(f"{laying.tag} has {placed.says()} for some of the runs [{first}, {last}]")
        return [placed]
    laying.cuts.append(f"{laying.tag}: {placed.says()} ends with run {first - 1}")
    return [replace(placed, last_run=first - 1)] if placed.first_run < first else []


def _note_gap(laying: _Laying, rest: Sequence[Placement], first: int) -> None:
    ends = [one.last_run for one in rest if one.first_run < first and one.last_run is not None]
    if ends and max(ends) < first - 1:
        laying.gaps.append(f"{laying.tag}: [{max(ends) + 1}, {first - 1}]")


def _behind(rest: Sequence[Placement], one: WantedPlacement) -> list[Placement]:
    """The default behind a group, where nothing begins there."""
    if one.after != "default" or any(placed.first_run == one.last_run + 1 for placed in rest):
        return []
    if one.default is None:
        raise OutsideError(f"{one.tag} has no default", "name it with `default`")
    return [Placement(one.last_run + 1, None, one.default, one.last_run, one.group_id)]


def _closed(placed: Sequence[Placement], made: Placement | None, after: After, can: Capabilities) -> list[Placement]:
    """With ends where the next ones begin, of what is open or must be."""
    ordered = sorted(placed, key=lambda one: one.first_run)
    found = []
    for number, one in enumerate(ordered):
        following = ordered[number + 1].first_run if number + 1 < len(ordered) else None
        goes_on = not can.ends or one.last_run is None or (one is made and after == "hold")
        last = (None if following is None else following - 1) if goes_on else one.last_run
        found.append(one if last == one.last_run else replace(one, last_run=last))
    return found


def refs_of(changes: Iterable[TagPlan]) -> list[Ref]:
    """The files that must be in a store before it is changed."""
    return list(dict.fromkeys(one.ref for change in changes for one in change.insert))
