"""The words for locks of which one is enough, and for those that are not waited for any longer (rules 60, 61)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow_calib_provider.domain.quantities import format_duration, format_time


def _publish_by(params: Mapping[str, Any]) -> str:
    left = int(params["left"])
    lasts = format_duration(timedelta(seconds=max(60, abs(left)) // 60 * 60))
    fallback = "; then the payload before the group takes its place" if params.get("then") == "fallback" else ""
    if left <= 0:
        return f"it was to be published by {params['was']}: {lasts} ago{fallback}"
    near = ", which is near" if params["state"] == "near" else ""
    return f"it is to be published by {params['was']}: {lasts} are left{near}{fallback}"


TEXTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "lock_unknown": lambda p: f"the lock {p['lock']!r} is of a package that is not installed, or cannot be loaded",
    "publish_by": _publish_by,
    "lock_trouble": lambda p: f"the lock {p['lock']!r} cannot be looked at: {p['said']}",
}
"""Of what is no kind's own."""

RELEASES = {
    "lock_unknown": "installing that package wherever the ledger is looked at",
    "lock_trouble": "what the message asks for; it is looked at again by itself",
    "any_of": "one of these",
    "publish_by": "its publication, which waits for what is told of its tasks",
    "deadline_passed": (
        "what was waited for; or another deadline in the spec, and the next calib_inject; then `calib retry`"
    ),
}

_THEN = {
    "fail": "then the task fails",
    "go_on": "then it goes on without",
    "last_good": "then it takes the last good payload",
}


def until(reason: Mapping[str, Any]) -> str:
    """Until when a lock is waited for, to be put behind what is said of it; empty where that is for ever."""
    deadline = reason.get("deadline")
    if not deadline:
        return ""
    near = ", which is near" if deadline["near"] else ""
    return f" (until {format_time(deadline['at'])}{near}; {_THEN.get(deadline['then'], deadline['then'])})"


def passed(reason: Mapping[str, Any]) -> str:
    """That a deadline has passed, and what is missing besides."""
    lacking = f", and no payload of {reason['tag']} is there from before the group" if reason.get("tag") else ""
    return f"the deadline has passed ({reason['was']}){lacking}"


def gone_on(locks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a task does without, for its log: a line for each lock whose deadline has passed."""
    said = {"go_on": "it goes on without", "last_good": "it takes the last good payload"}
    return [
        f"{one['lock']} {one['what']} is not there, and its deadline has passed ({one['was']}): {said[one['then']]}"
        for one in locks
    ]
