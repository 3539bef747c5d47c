"""Why a group opened, and why it closed, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_calib_provider.domain.listing import listed, of_runs
from airflow_calib_provider.domain.quantities import format_duration, format_number, format_time, value_text

if TYPE_CHECKING:
    from airflow_calib_provider.domain.reasons import Reason


def why_closed(reason: Reason | None) -> str:
    """The words for what a group's row keeps; of a kind of another package its code, with what stands beside it."""
    if reason is None:
        return ""
    text = _TEXTS.get(str(reason["code"]))
    # A kind of another package may call its reasons as ours are called, without what ours have.
    with suppress(KeyError):
        if text is not None:
            return text(reason)
    more = [f"{name} {value}" for name, value in reason.items() if name not in ("code", "amounts")]
    return ", ".join([str(reason["code"]), *more])


def why_opened(reason: Reason | None) -> str:
    """The words for what a group's row keeps; empty where that is not known."""
    if reason is None:
        return ""
    code = str(reason["code"])
    text = _OPENED.get(code)
    said = text(reason) if text is not None else code
    more = [f"{name} {value}" for name, value in reason.items() if name not in ("code", "first_run", "why")]
    return f"{said} ({', '.join(more)})" if more else said


def ended_by(reason: Any) -> str:
    """A word for why a group closed: the code, without what stands beside it."""
    return str((reason or {}).get("why") or (reason or {}).get("code", "")).replace("_", " ")


def life(reason: Mapping[str, Any]) -> str:
    """Why a group opened, and why it has closed."""
    opened, closed = why_opened(reason.get("opened")), why_closed(reason.get("closed"))
    said = [f"why it opened: {opened}" if opened else "", f"why it closed: {closed}" if closed else ""]
    return "; ".join(filter(None, said))


def _amounts(amounts: Mapping[str, float]) -> str:
    return " and ".join(f"{format_number(amount)} {name}" for name, amount in amounts.items())


def _dropped(reason: Mapping[str, Any]) -> str:
    if not reason.get("minimum") or reason.get("why") == "tail":
        return "dropped, as nothing follows"
    has = _amounts({name: reason["amounts"].get(name, 0.0) for name in reason["minimum"]})
    return f"dropped with {has}, of {_amounts(reason['minimum'])}"


def _at_most(reason: Mapping[str, Any]) -> str:
    if reason.get("alone"):
        return f"its one run has more {reason['field']} than a group may have"
    return f"with run {reason['by']} it would have more {reason['field']} than it may have"


def _break_on(reason: Mapping[str, Any]) -> str:
    now, before = (value_text(reason[name]) for name in ("is", "was"))
    return f"{reason['field']} is {now} from run {reason['by']} on, and was {before}"


def _break_after(reason: Mapping[str, Any]) -> str:
    return f"run {reason['by']} starts after a pause of {format_duration(timedelta(seconds=reason['pause']))}"


def _tail(reason: Mapping[str, Any]) -> str:
    if reason.get("rule") == "previous":
        return f"the last one: {listed(reason['joined_runs'])} joined it, as too few were left"
    return "the last one: no run follows"


_TEXTS = {
    "by_hand": lambda _: "a person named its runs",
    "run": lambda _: "every run is a group",
    "reached": lambda reason: f"{_amounts(reason['amounts'])} reached",
    "later_fill": lambda reason: f"run {reason['by']} is of a later fill",
    "max_wait": lambda reason: f"nothing else ended it for {format_duration(timedelta(seconds=reason['max_wait']))}",
    "at_most": _at_most,
    "break_on": _break_on,
    "break_after": _break_after,
    "enough": lambda reason: f"{_amounts(reason['values'])}, of {reason['task']}, are enough",
    "counted": lambda reason: f"it has its {reason['runs']} runs",
    "last_fill": lambda _: "the last fill: no run follows",
    "later_window": lambda reason: f"run {reason['by']} is of a later window",
    "last_window": lambda _: "the last window: no run follows",
    "boundary": lambda reason: f"run {reason['boundary']} begins another group",
    "last_boundary": lambda _: "the last boundary: no run follows",
    "regrouped": lambda _: "its grouping has no boundaries any more",
    "task_gone": lambda reason: f"nobody reports its values any more: {reason['task']} is no task of each run",
    "tail": _tail,
    "dropped": _dropped,
}

_AFTER = {
    "run": "every run is a group",
    "at_most": "the one before could have no more",
    "enough": "it had enough",
    "break_on": "a field changed that groups have in common",
    "break_after": "it came after a pause",
    "max_wait": "the one before waited for nothing more",
    "later_fill": "a later fill began",
    "later_window": "a later window began",
    "boundary": "a boundary parts them",
    "regrouped": "the grouping has no boundaries any more",
    "task_gone": "nobody reports the values of the one before any more",
}


def _after(reason: Mapping[str, Any]) -> str:
    why = str(reason.get("why", ""))
    return f"its first run came when the group of run {reason['first_run']} was over: {_AFTER.get(why, 'it was whole')}"


_OPENED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "first": lambda _: "it is the first one",
    "after": _after,
    "late": lambda _: "its runs arrived late",
    "by_hand": lambda _: "a person named its runs",
}


def _ended_with(params: Mapping[str, Any]) -> str:
    minimum = params.get("minimum") or {}
    if not minimum:
        return "the group was dropped: it did not reach its minimum"
    has = params["amounts"]
    amounts = ", ".join(
        f"{format_number(has.get(name, 0))} of {format_number(least)} {name}" for name, least in minimum.items()
    )
    return f"the group was dropped: it ended with {amounts}"


_STANDS = {
    "not_assigned": "has no group of it yet",
    "new": "has not begun for it",
    "waiting": "waits",
    "processing": "runs",
    "late": "has no group of it, as it came late there",
}


def _held(params: Mapping[str, Any], said: str) -> str:
    """Which run holds a grouping that waits for values, and why."""
    there = f" in {params['base']}" if params.get("base") else ""
    group = f" ({params['group']})" if params.get("group") else ""
    return (
        f"no run from {params['run']} on is put into groups of {params['grouping']}, as the values of run "
        f"{params['run']} are not known: {params['workflow']}.{params['task']}{there} {said}{group}"
    )


def _failed_for(params: Mapping[str, Any]) -> str:
    what = "has failed for it" if params["failed"] == params["task"] else f"cannot begin, as {params['failed']} failed"
    until = f"; it goes on without it from {format_time(params['until'])} on" if params.get("until") else ""
    return f"{what}: {params['said']}{until}"


def _not_reported(params: Mapping[str, Any]) -> str:
    reported = f"it reports {listed(params['reported'])}" if params["reported"] else "it reports no values"
    return f"is done for it, and has not reported {listed(params['missing'])}; {reported}"


TEXTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "dropped": _ended_with,
    "before_boundaries": lambda p: f"refused: it is before the first boundary of {p['grouping']}, run {p['first']}",
    "boundary_cuts": lambda p: (
        f"the boundary {p['boundary']} of {p['grouping']} would cut the closed group {p['group']}, of "
        f"{of_runs(p['first_run'], p['last_run'])}: nothing more is put into groups of {p['grouping']}"
    ),
    "value_awaited": lambda p: _held(p, _STANDS.get(p["state"], f"is {p['state']} there")),
    "value_failed": lambda p: _held(p, _failed_for(p)),
    "value_not_reported": lambda p: _held(p, _not_reported(p)),
    "not_read": lambda p: f"nothing more is put into groups of {p['grouping']}: {p['said']}",
}
"""Of groups, and of reasons why a run is in none."""

RELEASES = {
    "value_awaited": (
        "the end of that task: `calib explain` says what holds it; to go on without the values of the run, `calib skip`"
    ),
    "value_failed": "`calib retry`; or, to go on without the values of the run, `calib skip`",
    "value_not_reported": (
        "a job that reports it, and a clear of the task in Airflow; or a corrected condition in the file; or, to go on "
        "without the values of the run, `calib skip`"
    ),
    "before_boundaries": "a campaign of its own, after a boundary before it was given",
    "boundary_cuts": "the boundary taken back, or one beside the group; a campaign of its own groups all of it anew",
    "not_read": "the file, when it can be read: every calib_inject tries",
}
"""What would end such a wait."""
