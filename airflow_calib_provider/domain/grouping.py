"""Putting runs into groups: pure functions of the policy, what was assigned before, the runs and the clock (rules 2–8).

Nothing here reads a database or a clock, so that the property of rule 6 can be tested: with equal horizon and clock
history any order of arrival without late runs gives the same groups.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, JsonValue

from airflow_calib_provider.domain.model import Model, Name
from airflow_calib_provider.domain.run import FILL
from airflow_calib_provider.errors import CalibError, KindError
from airflow_calib_provider.kinds import EACH_RUN, GROUPINGS

if TYPE_CHECKING:
    from airflow_calib_provider.domain.reasons import Reason

_LARGEST = sys.float_info.max


class Grouping(Model):
    """How the runs of a task are put together (rules 2–8), normalized from the forms that YAML offers.

    :ivar kind: one of :data:`airflow_calib_provider.kinds.GROUPINGS`.
    :ivar label: part of the DAG's id and of every group's name; the kind unless ``name`` says otherwise.
    :ivar minimum: for fills, the least amount of each field; for sums, the one field and its amount.
    :ivar max_wait: after this time past its last run's end a fill closes although no later fill was seen.
    """

    kind: str
    label: Name
    minimum: dict[str, float] = Field(default_factory=dict)
    short: Literal["next", "keep", "drop"] = "keep"
    max_wait: timedelta | None = None
    tail: Literal["keep", "drop", "previous"] = "keep"
    late_runs: Literal["ignore", "new_group"] = "ignore"
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """What only the kind knows."""

    @property
    def rules(self) -> GroupingRules:
        """The rules of its kind.

        :raises KindError: there is no such kind, or it cannot be loaded.
        """
        return rules_of(self.kind)

    @property
    def is_single(self) -> bool:
        """Whether every run is a group of its own. Of the kind for which that is so by name nothing is imported."""
        return self.kind == EACH_RUN or self.rules.single

    @classmethod
    def of_json(cls, stored: Mapping[str, object]) -> Grouping:
        """The policy that a group's row keeps."""
        return cls.model_validate_json(json.dumps(stored))


@dataclass(frozen=True)
class RunFacts:
    """What grouping needs to know of one run.

    :ivar selected: whether it enters the workflow; a run that does not still marks the end of an earlier fill.
    """

    number: int
    start: datetime | None
    end: datetime | None
    fields: Mapping[str, object]
    selected: bool = True


@dataclass
class GroupDraft:
    """A group as it is or as it is going to be.

    :ivar id: the ledger's id, ``None`` while it is not stored.
    :ivar added: runs that this assignment adds.
    :ivar state: ``forming``, ``closed`` or ``dropped``.
    """

    policy: Grouping
    id: int | None = None
    first_run: int = 0
    last_run: int = 0
    n_runs: int = 0
    start: datetime | None = None
    end: datetime | None = None
    amounts: dict[str, float] = field(default_factory=dict)
    fills: list[object] = field(default_factory=list)
    added: list[int] = field(default_factory=list)
    state: str = "forming"
    close_reason: Reason | None = None

    def add(self, run: RunFacts) -> None:
        """Take in a run."""
        if not self.n_runs:
            self.first_run = run.number
            self.start = run.start
        self.last_run = max(self.last_run, run.number)
        self.n_runs += 1
        self.added.append(run.number)
        self.start = min((t for t in (self.start, run.start) if t), default=None)
        self.end = max((t for t in (self.end, run.end) if t), default=None)
        for name in self.policy.minimum:
            self.amounts[name] = _sum(self.amounts.get(name, 0.0), _amount(run.fields[name]))
        fill = run.fields.get(FILL)
        if fill is not None and fill not in self.fills:
            self.fills.append(fill)

    @property
    def has_enough(self) -> bool:
        """Whether it has of every field at least what its policy asks for."""
        return all(self.amounts.get(name, 0.0) >= least for name, least in self.policy.minimum.items())

    def close(self, why: str, **params: Any) -> None:
        """It never changes again (rule 3)."""
        self.state = "closed"
        self.close_reason = {"code": why, "amounts": dict(self.amounts), **params}

    def drop(self) -> None:
        """Its runs end as skipped (rule 8)."""
        self.state = "dropped"
        self.close_reason = {"code": "dropped", "amounts": dict(self.amounts), "minimum": dict(self.policy.minimum)}


class GroupingRules:
    """When groups of a kind end. A rule closes the group (:meth:`GroupDraft.close`), drops it, or leaves it open.

    :ivar single: every run is a group of its own, so that nothing ever forms.
    :ivar until: when a forming group closes, in words.
    """

    single: bool = False
    until: str = "closes when it is complete"

    def needed(self, policy: Grouping) -> Sequence[str]:
        """The fields without which a run cannot be grouped, besides those of ``policy.minimum``."""
        return ()

    def before(self, group: GroupDraft, run: RunFacts) -> None:
        """A further run comes into sight, which may be none of the workflow's."""

    def after(self, group: GroupDraft) -> None:
        """A run was added."""

    def by_clock(self, group: GroupDraft, now: datetime) -> None:
        """Nothing more is to be assigned now."""

    def due(self, group: GroupDraft) -> datetime | None:
        """From when on :meth:`by_clock` ends a group if nothing comes before; ``None``: never."""
        return None

    def at_last(self, group: GroupDraft) -> None:
        """Nothing will ever follow; a group that is left forming meets its ``tail`` rule."""


@cache
def rules_of(kind: str) -> GroupingRules:
    """The rules of a kind.

    :raises KindError: there is no such kind, or it cannot be loaded.
    """
    found = GROUPINGS.member(kind)
    if not isinstance(found, GroupingRules):
        said = f"the {GROUPINGS.what} {kind!r} is a {type(found).__name__}"
        raise KindError(said, f"its author is to make it a {GroupingRules.__name__}")
    return found


@dataclass
class Assignment:
    """What an assignment does.

    :ivar groups: the touched groups in the order of their first runs: the one that was forming, and new ones.
    :ivar refused: runs that cannot be grouped, each with its reason (rule 7).
    """

    groups: list[GroupDraft] = field(default_factory=list)
    refused: dict[int, Reason] = field(default_factory=dict)


def horizon(
    runs: Iterable[tuple[int, bool, datetime | None, datetime | None]],
    now: datetime,
    *,
    settle: timedelta | None = None,
    incomplete_after: timedelta | None = None,
    passed: frozenset[int] = frozenset(),
) -> int:
    """The exclusive bound below which runs are assigned (rule 2).

    :param runs: number, completed, start and end of every run that a complete read of the source listed.
    :param settle: completed runs whose end is more recent than this hold the bound back.
    :param incomplete_after: runs not completed for longer than this since their start are passed.
    :param passed: runs that a person skipped.
    :returns: the lowest run that holds, else the highest completed or passed one + 1, else 0.
    """
    highest = -1
    holding: int | None = None
    for number, completed, start, end in runs:
        stuck = incomplete_after is not None and start is not None and now - start > incomplete_after
        settling = completed and settle is not None and end is not None and now - end < settle
        if number in passed or (completed and not settling) or (not completed and stuck):
            highest = max(highest, number)
        elif holding is None or number < holding:
            holding = number
    return holding if holding is not None else highest + 1


def assign(
    policy: Grouping,
    forming: GroupDraft | None,
    runs: Sequence[RunFacts],
    now: datetime,
    *,
    final: bool = False,
    finite: bool = False,
) -> Assignment:
    """Assign runs, in number order, to the forming group and to new ones.

    :param policy: for new groups; the forming one keeps the policy that it opened with (rule 11).
    :param runs: all runs of the source that are new below the horizon, selected or not, by ascending number.
    :param final: no run will follow: the unfinished last group meets its ``tail`` rule (rule 8).
    :param finite: the campaign is finite, so that a tail may join the group before it.
    :raises KindError: a grouping of another package has failed, or is not there.
    """
    try:
        return _assigned(policy, forming, runs, now, final=final, finite=finite)
    except CalibError:
        raise
    except Exception as error:
        kinds = {policy.kind, forming.policy.kind if forming is not None else policy.kind}
        if kinds <= GROUPINGS.own.keys():
            raise
        said = f"the grouping {policy.label} ({' or '.join(sorted(kinds))}) has failed: {type(error).__name__}: {error}"
        raise KindError(said, "its author is to be told") from error


def _assigned(
    policy: Grouping, forming: GroupDraft | None, runs: Sequence[RunFacts], now: datetime, *, final: bool, finite: bool
) -> Assignment:
    result = Assignment()
    current = forming
    if forming is not None:
        result.groups.append(forming)
    for run in runs:
        if current is not None:
            current.policy.rules.before(current, run)
            current = _if_forming(current)
        if not run.selected:
            continue
        missing = missing_field(current.policy if current else policy, run)
        if missing:
            result.refused[run.number] = missing
            continue
        if current is None:
            current = GroupDraft(policy)
            result.groups.append(current)
        current.add(run)
        current.policy.rules.after(current)
        current = _if_forming(current)
    if current is not None:
        current.policy.rules.by_clock(current, now)
        if final and current.state == "forming":
            _tail(current, result, finite)
    return result


def missing_field(policy: Grouping, run: RunFacts) -> Reason | None:
    """Why a run cannot be grouped, for want of a field; ``None``: it can."""
    for name in (*policy.minimum, *policy.rules.needed(policy)):
        value = run.fields.get(name)
        if value is None or (name in policy.minimum and not _is_amount(value)):
            return {"code": "field_missing", "field": name, "needed_by": f"the grouping {policy.label}"}
    return None


def _amount(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _if_forming(group: GroupDraft) -> GroupDraft | None:
    return group if group.state == "forming" else None


def _tail(group: GroupDraft, result: Assignment, finite: bool) -> None:
    rule: str = group.policy.tail
    group.policy.rules.at_last(group)
    if group.state != "forming":
        return
    before = result.groups[-2] if len(result.groups) > 1 else None
    if rule == "drop":
        group.drop()
    elif rule == "previous" and finite and before is not None and before.state == "closed":
        result.groups.remove(group)
        _join(before, group)
    else:
        group.close("tail", rule="keep")


def _sum(amount: float, more: float) -> float:
    """A sum that can be stored: JSON has no infinity."""
    return max(-_LARGEST, min(amount + more, _LARGEST))


def _join(before: GroupDraft, tail: GroupDraft) -> None:
    before.last_run = tail.last_run
    before.n_runs += tail.n_runs
    before.added.extend(tail.added)
    before.end = max((t for t in (before.end, tail.end) if t), default=None)
    before.fills.extend(fill for fill in tail.fills if fill not in before.fills)
    for name, amount in tail.amounts.items():
        before.amounts[name] = _sum(before.amounts.get(name, 0.0), amount)
    before.close("tail", rule="previous", joined_runs=list(tail.added))
