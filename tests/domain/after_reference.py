"""What becomes of groups when runs fail, are skipped, and a person amends, worked out by the simplest means.

Everything is told in words of the rules alone (docs/semantics.md: 20, 21, 49, 51); what is tested is not imported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction

from tests.domain.grouping_reference import Made, Outcome


@dataclass(frozen=True)
class Failing:
    """What a group does about runs that have failed (49); of ``wait`` there is none.

    :ivar most: as it is written: ``"0.3"`` of 10 runs are three.
    """

    most: str = "1"
    after: timedelta = timedelta()


@dataclass
class Work:
    """How the task of single runs stands, of each run: ``new``, ``done``, or when it failed; and who is skipped."""

    done: set[int] = field(default_factory=set)
    failed: dict[int, datetime] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Stands:
    """How a task of a group stands before it begins.

    :ivar state: ``open``, ``waiting``, or ``skipped``: there is nothing to do.
    :ivar without: when it is open, the runs that have failed, and that it goes on without; those of before, too.
    :ivar runs: of which it is made then.
    """

    state: str
    without: frozenset[int] = frozenset()
    runs: tuple[int, ...] = ()


def stands(
    failing: Failing | None,
    runs: Sequence[int],
    of_run: Mapping[int, str],
    work: Work,
    left_out: Collection[int],
    by_others: Collection[int],
    now: datetime,
) -> Stands:
    """Rules 20, 21 and 49, of one task of a closed group.

    :param of_run: what became of each run in the grouping of single runs, whose task is needed.
    :param left_out: runs that it began without before; :param by_others: likewise, of the group's other tasks.
    """
    if all(run in work.skipped for run in runs):
        return Stands("skipped")
    failed, holds = set(), False
    for run in runs:
        if run in work.skipped or run in left_out:
            continue
        if of_run[run] != "grouped":
            holds = True  # late, refused or removed there: only a skip opens that
        elif run in work.failed:
            failed.add(run)
        elif run not in work.done:
            holds = True
    if failing is None and failed:
        holds = True
    if failing is not None and failed:
        allowed = min(int(Fraction(failing.most) * len(runs)), len(runs) - 1)
        many = len(failed | set(left_out) | set(by_others)) > allowed
        early = any(now < work.failed[run] + failing.after for run in failed)
        holds = holds or many or early
    without = frozenset(left_out) | failed
    made_of = tuple(run for run in runs if run not in without and run not in work.skipped)
    if holds or not made_of:
        return Stands("waiting")
    return Stands("open", without, made_of)


@dataclass
class Editions:
    """What persons have made of closed groups (51); groups are named by the first run that they had at first.

    :ivar runs: of the groups that were amended, or have lost runs to one that was.
    :ivar absorbed: groups of late runs that have lost all of theirs.
    :ivar removed: runs that are in no group, until they are added to one.
    """

    runs: dict[int, list[int]] = field(default_factory=dict)
    absorbed: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)

    def groups(self, found: Outcome) -> dict[int, Made]:
        """The groups that the rules give, as persons have changed them, by name."""
        made = {}
        for one in found.groups:
            name = one.runs[0]
            state, why = ("dropped", "absorbed") if name in self.absorbed else (one.state, one.why)
            made[name] = Made(list(self.runs.get(name, one.runs)), state, why, one.late)
        return made

    def states(self, found: Outcome) -> dict[int, str]:
        """What became of each run."""
        states = dict(found.states)
        for one in self.groups(found).values():
            if one.state == "closed":
                states.update(dict.fromkeys(one.runs, "grouped"))
        return {**states, **dict.fromkeys(self.removed, "removed")}

    def amend(self, found: Outcome, name: int, add: Collection[int], remove: Collection[int]) -> None:
        """Give a group its next edition."""
        for other, one in self.groups(found).items():
            if other == name:
                self.runs[other] = sorted({*one.runs, *add} - set(remove))
            elif set(one.runs) & set(add):
                self.runs[other] = [run for run in one.runs if run not in add]
                if one.state == "closed" and not self.runs[other]:
                    self.absorbed.add(other)
        self.removed = (self.removed | set(remove)) - set(add)


def may_add(editions: Editions, found: Outcome, name: int, run: int, left_out: Collection[int], work: Work) -> bool:
    """Whether a run may be added to a closed group: it is late in whatever way, was removed, or was left out of it."""
    made, state = editions.groups(found), editions.states(found).get(run)
    if run in made[name].runs:
        return run in left_out and (run not in work.failed or run in work.skipped)
    return state in ("late", "removed") or any(one.late and run in one.runs for one in made.values())
