"""What ends groups whatever their kind: a change of a field, a pause, and the largest amount (rule 48)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_calib_provider.domain.grouping import GroupDraft, RunFacts

_FIELDS = "fields"
"""Among the marks of a group: the fields that break groups, as all of its runs have them."""
_BEGIN = "begin"
"""And when the first of its runs began, where a pause breaks groups."""


def remember(group: GroupDraft, run: RunFacts) -> None:
    """Note what all further runs are compared with, from the first one."""
    policy = group.policy
    if group.n_runs > 1:
        return
    if policy.break_on:
        group.marks[_FIELDS] = {name: run.fields[name] for name in policy.break_on}  # type: ignore[misc]
    if policy.break_after is not None and run.start is not None:
        group.marks[_BEGIN] = run.start.isoformat()


def broken(group: GroupDraft, run: RunFacts) -> dict[str, Any] | None:
    """Why a group ends before a run, selected or not, that is of other conditions, or comes after a pause."""
    had = _had(group)
    for name in group.policy.break_on:
        now = run.fields.get(name)
        if now is not None and now != had.get(name):
            return {"why": "break_on", "field": name, "was": had.get(name), "is": now}
    pause = group.policy.break_after
    if pause is not None and run.start is not None and group.end is not None and run.start - group.end > pause:
        return {"why": "break_after", "pause": (run.start - group.end).total_seconds()}
    return None


def exceeded(group: GroupDraft, run: RunFacts | None = None) -> str | None:
    """The field of which a group has more than it may have; with this run, if one is named."""
    at_most = group.policy.at_most
    return next((name for name, most in at_most.items() if group.amount_with(name, run) > most), None)


def may_join(before: GroupDraft, tail: GroupDraft) -> bool:
    """Whether the last runs may join the group before: no break parts them, and it does not become too large."""
    if before.state != "closed" or _had(before) != _had(tail):
        return False
    begin, pause = tail.marks.get(_BEGIN), before.policy.break_after
    if isinstance(begin, str) and pause is not None and before.end is not None:
        gap = datetime.fromisoformat(begin) - before.end
        if gap > pause:
            return False
    most = before.policy.at_most.items()
    return all(before.amounts.get(name, 0.0) + tail.amounts.get(name, 0.0) <= limit for name, limit in most)


def _had(group: GroupDraft) -> dict[str, Any]:
    found = group.marks.get(_FIELDS, {})
    return found if isinstance(found, dict) else {}
