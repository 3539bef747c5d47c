"""What the unfinished last group becomes when nothing follows (rules 8, 48)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_calib_provider.domain import breaks
from airflow_calib_provider.domain.amounts import add

if TYPE_CHECKING:
    from airflow_calib_provider.domain.grouping import Assignment, GroupDraft


def end_last(group: GroupDraft, result: Assignment, finite: bool) -> None:
    """Let the group that is forming end: by itself, or by its ``tail`` rule.

    :param finite: it may join the group before it.
    """
    rule: str = group.policy.tail
    group.policy.rules.at_last(group)
    if group.state != "forming":
        return
    before = result.groups[-2] if len(result.groups) > 1 else None
    if rule == "drop":
        group.drop("tail")
    elif rule == "previous" and finite and before is not None and breaks.may_join(before, group):
        result.groups.remove(group)
        _join(before, group)
    else:
        group.close("tail", rule="keep")


def _join(before: GroupDraft, tail: GroupDraft) -> None:
    before.last_run = tail.last_run
    before.n_runs += tail.n_runs
    before.added.extend(tail.added)
    before.end = max((t for t in (before.end, tail.end) if t), default=None)
    before.fills.extend(fill for fill in tail.fills if fill not in before.fills)
    for name, amount in tail.amounts.items():
        before.amounts[name] = add(before.amounts.get(name, 0.0), amount)
    before.close("tail", rule="previous", joined_runs=list(tail.added))
