"""Putting runs into groups: pure functions of the policy, what was assigned before, the runs and the clock (rules 2–8).

Nothing here reads a database or a clock, so that the property of rule 6 can be tested: with equal horizon and clock
history any order of arrival without late runs gives the same groups.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, JsonValue

from airflow_calib_provider.domain import breaks
from airflow_calib_provider.domain.amounts import add, amount, is_amount
from airflow_calib_provider.domain.failed_runs import FailedRuns
from airflow_calib_provider.domain.model import Model, Name
from airflow_calib_provider.domain.run import FILL
from airflow_calib_provider.domain.run_facts import RunFacts as RunFacts
from airflow_calib_provider.domain.tails import end_last
from airflow_calib_provider.errors import CalibError, KindError
from airflow_calib_provider.kinds import EACH_RUN, GROUPINGS

if TYPE_CHECKING:
    from airflow_calib_provider.domain.reasons import Reason

LATE: Reason = {"code": "late"}
"""Why a group of late runs opened."""


class Grouping(Model):
    """How the runs of a task are put together (rules 2–8), normalized from the forms that YAML offers.

    :ivar kind: one of :data:`airflow_calib_provider.kinds.GROUPINGS`.
    :ivar label: part of the DAG's id and of every group's name; the kind unless ``name`` says otherwise.
    :ivar minimum: the least amount of each field (``at_least``).
    :ivar at_most: the largest amount of each field.
    :ivar short: what becomes of a group that ends with less than the minimum.
    :ivar break_on: fields of which a change ends a group.
    :ivar break_after: a pause after which a run begins another group.
    :ivar max_wait: after this time past its last run's end a group closes although nothing else has ended it.
    :ivar late_runs: what becomes of runs that arrive after higher ones were assigned.
    :ivar failed_runs: when a group goes on without runs that have failed in a needed task; ``None``: never.
    """

    kind: str
    label: Name
    minimum: dict[str, float] = Field(default_factory=dict)
    at_most: dict[str, float] = Field(default_factory=dict)
    short: Literal["next", "keep", "drop"] = "keep"
    break_on: tuple[str, ...] = ()
    break_after: timedelta | None = None
    max_wait: timedelta | None = None
    tail: Literal["keep", "drop", "previous"] = "keep"
    late_runs: Literal["ignore", "new_group"] = "ignore"
    failed_runs: FailedRuns | None = None
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """What only the kind knows; ``amounts`` are those that its groups are to reach."""

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

    @property
    def awaits(self) -> str:
        """The task of the same workflow, grouped by run, without whose values no run is assigned; empty: none."""
        return "" if self.kind == EACH_RUN else self.rules.awaits(self)

    @property
    def summed(self) -> tuple[str, ...]:
        """The fields that are added up."""
        return tuple(dict.fromkeys((*self.minimum, *self.at_most, *self.goal)))

    @property
    def goal(self) -> Mapping[str, float]:
        """What its groups are to reach by themselves."""
        found = self.options.get("amounts")
        return {name: amount(least) for name, least in found.items()} if isinstance(found, dict) else {}

    @classmethod
    def of_json(cls, stored: Mapping[str, object]) -> Grouping:
        """The policy that a group's row keeps."""
        return cls.model_validate_json(json.dumps(stored))


@dataclass
class GroupDraft:
    """A group as it is or as it is going to be.

    :ivar id: the ledger's id, ``None`` while it is not stored.
    :ivar added: runs that this assignment adds.
    :ivar state: ``forming``, ``closed`` or ``dropped``.
    :ivar late: it is of runs that arrived late (rule 50).
    :ivar open_reason: why it opened.
    :ivar marks: what its kind, and what ends groups whatever their kind, remember of its runs: all of it follows from
        the runs in their order.
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
    late: bool = False
    open_reason: Reason | None = None
    marks: dict[str, JsonValue] = field(default_factory=dict)

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
        for name in self.policy.summed:
            self.amounts[name] = self.amount_with(name, run)
        fill = run.fields.get(FILL)
        if fill is not None and fill not in self.fills:
            self.fills.append(fill)
        breaks.remember(self, run)
        self.policy.rules.took(self, run)

    def amount_with(self, name: str, run: RunFacts | None = None) -> float:
        """What its runs sum up to, and this one."""
        return add(self.amounts.get(name, 0.0), 0.0 if run is None else amount(run.fields[name]))

    @property
    def has_enough(self) -> bool:
        """Whether it has of every field at least what its policy asks for."""
        return all(self.amounts.get(name, 0.0) >= least for name, least in self.policy.minimum.items())

    def close(self, why: str, **params: Any) -> None:
        """It never changes again (rule 3)."""
        self.state = "closed"
        self.close_reason = {"code": why, "amounts": dict(self.amounts), **params}

    def drop(self, why: str = "") -> None:
        """Its runs end as skipped (rule 8)."""
        self.state = "dropped"
        self.close_reason = {"code": "dropped", "amounts": dict(self.amounts), "minimum": dict(self.policy.minimum)}
        if why:
            self.close_reason["why"] = why

    def finish(self, why: str, *, for_good: bool = False, **params: Any) -> None:
        """Its end has come: it closes, or, where it has too little, becomes what ``short`` says (rule 48).

        :param for_good: no run may join it any more, whatever ``short`` says.
        """
        if self.has_enough or self.policy.short == "keep" or (for_good and self.policy.short == "next"):
            self.close(why, **params)
        elif self.policy.short == "drop":
            self.drop(why)


class GroupingRules:
    """When groups of a kind end. A rule closes the group (:meth:`GroupDraft.close`), drops it, or leaves it open.

    :ivar single: every run is a group of its own, so that nothing ever forms.
    :ivar until: when a forming group closes, in words.
    :ivar waits_from_end: ``max_wait`` counts from the end of the group's last run: without one it never ends a group.
    :ivar cuts: its policies follow data that may part groups (:meth:`cut`), and without which none would end: a forming
        one does so when the policy of now is of another kind.
    :ivar reader: ``module:function``, the module relative to the package: the policy with what it says of other files,
        from the policy and the folder of the workflow's file, at every injection; empty: it says nothing of any.
    """

    single: bool = False
    waits_from_end: bool = True
    cuts: bool = False
    reader: str = ""
    until: str = "closes when it is complete"

    def ends(self, options: Mapping[str, Any]) -> str:
        """When a forming group closes, in words.

        :param options: those of its policy.
        """
        return self.until

    def stored(self, policy: Grouping) -> Grouping:
        """What a group keeps of the policy that it opens with."""
        return policy

    def live(self, policy: Grouping, now: Grouping) -> Grouping:
        """The policy of a group that is forming, with what is data of that of now, which is of this kind."""
        return policy

    def refuses(self, policy: Grouping, run: RunFacts) -> Reason | None:
        """Why a run is in no group, though it has all fields; ``None``: it is in one."""
        return None

    def reached(self, group: GroupDraft, bound: int) -> None:
        """All runs below this one are assigned."""

    def cut(self, group: GroupDraft, now: Grouping) -> int | None:
        """From which of its runs on a forming group is another one by the policy of now; ``None``: it is as it was."""
        return None

    def awaits(self, policy: Grouping) -> str:
        """The task of the same workflow, grouped by run, without whose values no run is assigned; empty: none."""
        return ""

    def values(self, policy: Grouping) -> Sequence[str]:
        """The names of these values; none: the task is to be done."""
        return ()

    def needed(self, policy: Grouping) -> Sequence[str]:
        """The fields without which a run cannot be grouped, besides those that are added up, or that break groups."""
        return ()

    def opens(self, policy: Grouping, run: RunFacts) -> Mapping[str, JsonValue]:
        """What a group begins with its first run, for the reason why it opened."""
        return {}

    def took(self, group: GroupDraft, run: RunFacts) -> None:
        """The group has this run, the newest of those that it has; what is to be remembered of it goes into marks."""

    def before(self, group: GroupDraft, run: RunFacts) -> None:
        """A further run comes into sight, which may be none of the workflow's."""

    def after(self, group: GroupDraft) -> None:
        """A run was added."""

    def by_clock(self, group: GroupDraft, now: datetime) -> None:
        """Nothing more is to be assigned now."""
        wait, due = group.policy.max_wait, self.due(group)
        if wait is not None and due is not None and now >= due:
            group.finish("max_wait", max_wait=wait.total_seconds())

    def due(self, group: GroupDraft) -> datetime | None:
        """From when on :meth:`by_clock` ends a group if nothing comes before; ``None``: never."""
        wait = group.policy.max_wait
        return group.end + wait if wait is not None and group.end is not None else None

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


def assign(
    policy: Grouping,
    forming: GroupDraft | None,
    runs: Sequence[RunFacts],
    now: datetime,
    *,
    final: bool = False,
    finite: bool = False,
    before: Reason | None = None,
    bound: int | None = None,
    gone: str = "",
) -> Assignment:
    """Assign runs, in number order, to the forming group and to new ones.

    :param policy: for new groups; the forming one keeps the policy that it opened with (rule 11).
    :param runs: all runs of the source that are new below the horizon, selected or not, by ascending number.
    :param final: no run will follow: the unfinished last group meets its ``tail`` rule (rule 8).
    :param finite: the campaign is finite, so that a tail may join the group before it.
    :param before: how the last group ended, if none is forming: :func:`after_group`.
    :param bound: all runs below are assigned then.
    :param gone: the task whose values the forming group had, if nobody reports them any more.
    :raises KindError: a grouping has failed, or is not there.
    """
    try:
        if forming is not None and forming.policy.kind == policy.kind:
            forming.policy = policy.rules.live(forming.policy, policy)
        elif forming is not None and forming.policy.rules.cuts:
            forming.finish("regrouped", for_good=True)  # what would end it is not there any more
        elif forming is not None and gone:
            forming.finish("task_gone", for_good=True, task=gone)  # nor is it here
        result = _assigned(policy, forming, runs, before)
        current = _if_forming(result.groups[-1]) if result.groups else None
        if current is not None and bound is not None:
            current.policy.rules.reached(current, bound)
            current = _if_forming(current)
        if current is not None:
            current.policy.rules.by_clock(current, now)
            if final and current.state == "forming":
                end_last(current, result, finite)
        return result
    except CalibError:
        raise
    except Exception as error:  # whatever it is, it is the trouble of this grouping: all others go on
        kinds = sorted({policy.kind, forming.policy.kind if forming is not None else policy.kind})
        said = f"the grouping {policy.label} ({' or '.join(kinds)}) has failed: {type(error).__name__}: {error}"
        raise KindError(said, "its author is to be told") from error


def assign_late(policy: Grouping, forming: GroupDraft | None, runs: Sequence[RunFacts], now: datetime) -> Assignment:
    """Assign runs that arrived late to groups among themselves (rule 50). Nothing follows them: none is left forming.

    :param forming: of late runs, which an injection that died has left half written.
    :param runs: those that nothing is decided about, by ascending number.
    :raises KindError: as :func:`assign`.
    """
    found = assign(policy, forming, runs, now, final=True, before=LATE)
    for draft in found.groups:
        draft.late = True
    return found


def after_group(first_run: int, close_reason: Mapping[str, Any] | None) -> Reason:
    """Why a group opens: the one before it, which is named by its first run, has ended, and why that has."""
    ended = close_reason or {}
    return {"code": "after", "first_run": first_run, "why": str(ended.get("why") or ended.get("code", ""))}


def _assigned(
    policy: Grouping, forming: GroupDraft | None, runs: Sequence[RunFacts], before: Reason | None
) -> Assignment:
    result = Assignment()
    current: GroupDraft | None = None
    if forming is not None:
        result.groups.append(forming)
        current = _if_forming(forming)
    for run in runs:
        if current is not None:
            _end_before(current, run)
            current = _if_forming(current)
        if not run.selected:
            continue
        asked = current.policy if current else policy
        missing = missing_field(asked, run) or asked.rules.refuses(asked, run)
        if missing:
            result.refused[run.number] = missing
            continue
        if current is None:
            if result.groups and before != LATE:
                before = after_group(result.groups[-1].first_run, result.groups[-1].close_reason)
            opened = {**(before or {"code": "first"}), **policy.rules.opens(policy, run)}
            current = GroupDraft(policy, open_reason=opened)
            result.groups.append(current)
        current.add(run)
        _end_with(current)
        current = _if_forming(current)
    return result


def _end_before(group: GroupDraft, run: RunFacts) -> None:
    """What a further run ends: a break comes first, then the largest amount, then the kind's own end (rule 48)."""
    if (broken := breaks.broken(group, run)) is not None:
        group.finish(for_good=True, by=run.number, **broken)
        return
    joins = run.selected and missing_field(group.policy, run) is None
    over = breaks.exceeded(group, run) if joins and group.policy.at_most else None
    if over is not None:
        group.finish("at_most", for_good=True, by=run.number, field=over)
    else:
        group.policy.rules.before(group, run)


def _end_with(group: GroupDraft) -> None:
    """What the newest run of a group ends: one that is too much alone is a group of its own."""
    over = breaks.exceeded(group) if group.n_runs == 1 else None
    if over is not None:
        group.finish("at_most", for_good=True, alone=True, field=over)
    else:
        group.policy.rules.after(group)


def missing_field(policy: Grouping, run: RunFacts) -> Reason | None:
    """Why a run cannot be grouped, for want of a field; ``None``: it can."""
    summed = policy.summed
    for name in (*summed, *policy.break_on, *policy.rules.needed(policy)):
        value = run.start if name == "start" else run.fields.get(name)
        if value is None or (name in summed and not is_amount(value)):
            return {"code": "field_missing", "field": name, "needed_by": f"the grouping {policy.label}"}
    return None


def _if_forming(group: GroupDraft) -> GroupDraft | None:
    return group if group.state == "forming" else None
