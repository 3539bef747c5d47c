"""Groups as the rules say, worked out anew from the whole history by the simplest means: slow, and nobody's code.

Everything is told in words of the rules alone (docs/semantics.md: 2–8, 47, 48, 50); what is tested is not imported.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Asked:
    """What a grouping asks for.

    :ivar own: of ``count`` how many runs, of ``sum`` field and amount, of ``window`` every, at and zone, of ``until``
        the least ``count``, and what must be true of the values of all runs (``enough``).
    """

    kind: str
    own: Mapping[str, Any] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    short: str = "keep"
    tail: str = "keep"
    break_on: tuple[str, ...] = ()
    break_after: timedelta | None = None
    max_wait: timedelta | None = None
    late: str = "ignore"


@dataclass(frozen=True)
class One:
    """A run, as it was when it was assigned."""

    number: int
    start: datetime | None
    end: datetime | None
    fields: Mapping[str, Any]
    selected: bool = True
    found: tuple[float, ...] | None = None
    """What the jobs of a task reported of it; ``None``: it adds nothing."""


@dataclass
class Made:
    """A group."""

    runs: list[int]
    state: str
    why: str | None
    late: bool = False


@dataclass(frozen=True)
class Clock:
    """An injection is at its end."""

    now: datetime
    bound: int | None = None


Step = One | Clock


def needs(asked: Asked) -> set[str]:
    """The fields without which a run is refused."""
    own = {"fill": {"fill"}, "sum": {asked.own.get("field", "")}, "window": {"start"}}.get(asked.kind, set())
    return {*own, *asked.at_least, *asked.at_most, *asked.break_on}


def amounts_of(asked: Asked) -> set[str]:
    """The fields that are added up."""
    return {*asked.at_least, *asked.at_most, *([asked.own["field"]] if asked.kind == "sum" else [])}


def is_refused(asked: Asked, run: One) -> bool:
    """Something that the grouping needs is not there, or no number where one is needed; or it is in no interval."""
    if asked.kind == "boundaries" and run.number < asked.own["runs"][0]:
        return True
    return has_no_field(asked, run)


def has_no_field(asked: Asked, run: One) -> bool:
    """Something that the grouping needs is not there, or no number where one is needed."""
    for name in needs(asked):
        value = run.start if name == "start" else run.fields.get(name)
        if value is None:
            return True
        if name in amounts_of(asked) and (
            isinstance(value, bool | str) or value != value or abs(value) == float("inf")
        ):
            return True
    return False


def takes(asked: Asked, run: One) -> bool:
    """Whether a run is put into groups at all."""
    return run.selected and not is_refused(asked, run)


def total(members: Sequence[One], name: str) -> float:
    """What the runs sum up to."""
    return reduce(operator.add, (float(one.fields[name]) for one in members), 0.0)


def has_enough(asked: Asked, members: Sequence[One]) -> bool:
    """Whether the group has what ``at_least`` asks for."""
    return all(total(members, name) >= least for name, least in asked.at_least.items())


def is_too_much(asked: Asked, members: Sequence[One]) -> bool:
    """Whether the group exceeds ``at_most``."""
    return any(total(members, name) > most for name, most in asked.at_most.items())


def end_of(members: Sequence[One]) -> datetime | None:
    """The end of a group's data."""
    return max((one.end for one in members if one.end is not None), default=None)


def is_broken(asked: Asked, members: Sequence[One], run: One) -> str | None:
    """A change of a field, or a pause; a run that is not selected tells of it, too."""
    for name in asked.break_on:
        now = run.fields.get(name)
        if now is not None and now != members[0].fields[name]:
            return "break_on"
    end = end_of(members)
    if asked.break_after is None or end is None or run.start is None:
        return None
    return "break_after" if run.start - end > asked.break_after else None


def window_of(asked: Asked, at: datetime) -> tuple[datetime, datetime]:
    """Begin and end of the window in which a moment lies: all local times are written down, day after day."""
    zone, every = ZoneInfo(asked.own["zone"]), asked.own["every"]
    hour, minute = map(int, asked.own["at"].split(":"))
    day, begins = timedelta(days=1), []
    first = at.astimezone(zone).date() - max(every, day) * 2
    for n in range(int(max(every, day) / day) * 4 + 4):
        date = first + n * day
        if every >= day and (date - datetime(1970, 1, 1).date()).days % (every // day):
            continue
        midnight = datetime(date.year, date.month, date.day)
        times = [midnight + timedelta(hours=hour, minutes=minute) + k * every for k in range(max(1, day // every))]
        # Those beyond midnight are of the same list, a day earlier.
        begins += [midnight + (time - midnight) % day for time in times]
    instants = sorted({time.replace(tzinfo=zone).astimezone(UTC) for time in begins})
    begin = max(time for time in instants if time <= at)
    return begin, min(time for time in instants if time > at)


def newest_window(asked: Asked, members: Sequence[One]) -> tuple[datetime, datetime]:
    """The window that is forming: that of the first run, or a later one that a run has brought."""
    window = window_of(asked, members[0].start)
    for one in members[1:]:
        if one.start >= window[1]:
            window = window_of(asked, one.start)
    return window


def ends_before(asked: Asked, members: Sequence[One], run: One) -> str | None:
    """The kind's own end, where a further run brings it."""
    if asked.kind == "fill":
        fill, fills = run.fields.get("fill"), [one.fields["fill"] for one in members]
        known = list(dict.fromkeys(fills))
        return "later_fill" if fill is not None and fill != known[-1] else None
    if asked.kind == "window":
        late = run.start is not None and run.start >= newest_window(asked, members)[1]
        return "later_window" if late else None
    if asked.kind == "boundaries":
        end = next_boundary(asked, members)
        return "boundary" if end is not None and run.number >= end else None
    return None


def next_boundary(asked: Asked, members: Sequence[One]) -> int | None:
    """Where the interval of the newest run ends."""
    return min((one for one in asked.own["runs"] if one > members[-1].number), default=None)


def ends_with(asked: Asked, members: Sequence[One]) -> str | None:
    """The kind's own end, where the last run brings it."""
    if asked.kind == "run":
        return "run"
    if asked.kind == "count":
        return "counted" if len(members) >= asked.own["runs"] else None
    if asked.kind == "until":
        valued = [one.found for one in members if one.found is not None]
        is_enough = bool(valued) and len(valued) >= asked.own["count"] and asked.own["enough"](valued)
        return "enough" if is_enough else None
    if asked.kind == "sum":
        return "reached" if total(members, asked.own["field"]) >= asked.own["amount"] else None
    return None


def ends_by_clock(asked: Asked, members: Sequence[One], clock: Clock) -> str | None:
    """``max_wait``: after the end of the last run, of windows after the end of the window; or the next boundary."""
    end, now = next_boundary(asked, members) if asked.kind == "boundaries" else None, clock.now
    if end is not None and clock.bound is not None and clock.bound >= end:
        return "boundary"
    if asked.max_wait is None:
        return None
    since = newest_window(asked, members)[1] if asked.kind == "window" else end_of(members)
    return "max_wait" if since is not None and now >= since + asked.max_wait else None


def outcome(asked: Asked, members: Sequence[One], *, can_go_on: bool) -> str | None:
    """What becomes of a group whose end has come; ``None``: it takes what follows."""
    if has_enough(asked, members):
        return "closed"
    if asked.short == "drop":
        return "dropped"
    return None if asked.short == "next" and can_go_on else "closed"


def groups(asked: Asked, steps: Sequence[Step], *, final: bool = False, finite: bool = False) -> list[Made]:
    """All groups of a history: one after the other, each looked for from its first run on."""
    found: list[tuple[Made, list[One]]] = []
    place = 0
    while True:
        begin = next((n for n in range(place, len(steps)) if _begins(asked, steps[n])), None)
        if begin is None:
            break
        made, members, place = _one_group(asked, steps, begin)
        found.append((made, members))
    if final and found and found[-1][0].state == "forming":
        _last(asked, found, finite)
    return [made for made, _ in found]


def _begins(asked: Asked, step: Step) -> bool:
    return isinstance(step, One) and takes(asked, step)


def _one_group(asked: Asked, steps: Sequence[Step], begin: int) -> tuple[Made, list[One], int]:
    """:returns: the group, its runs, and where what follows it begins."""
    members: list[One] = []
    for place in range(begin, len(steps)):
        for why, can_go_on, after in _ends(asked, members, steps[place]):
            if (state := outcome(asked, [*members, *after], can_go_on=can_go_on)) is not None:
                members += after
                return Made([one.number for one in members], state, why), members, place + bool(after)
            break
        step = steps[place]
        if isinstance(step, One) and takes(asked, step):
            members.append(step)
    return Made([one.number for one in members], "forming", None), members, len(steps)


def _ends(asked: Asked, members: list[One], step: Step) -> Iterable[tuple[str, bool, list[One]]]:
    """The first end that a step brings, if any: why, whether a short group may go on, and the run that is in it."""
    if isinstance(step, Clock):
        if why := ends_by_clock(asked, members, step):
            yield why, True, []
        return
    if members:
        if why := is_broken(asked, members, step):
            yield why, False, []
            return
        if takes(asked, step) and is_too_much(asked, [*members, step]):
            yield "at_most", False, []
            return
        if (why := ends_before(asked, members, step)) and outcome(asked, members, can_go_on=True):
            yield why, True, []
            return
    if takes(asked, step):
        if not members and is_too_much(asked, [step]):
            yield "at_most", False, [step]
        elif why := ends_with(asked, [*members, step]):
            yield why, True, [step]


def _last(asked: Asked, found: list[tuple[Made, list[One]]], finite: bool) -> None:
    """Nothing follows: fills and windows are over; what is unfinished meets its ``tail``."""
    made, members = found[-1]
    over = {"fill": "last_fill", "window": "last_window", "boundaries": "last_boundary"}.get(asked.kind)
    if over and (state := outcome(asked, members, can_go_on=True)):
        made.state, made.why = state, over
        return
    before = found[-2] if len(found) > 1 else None
    if asked.tail == "drop":
        made.state, made.why = "dropped", "tail"
    elif (
        asked.tail == "previous"
        and finite
        and before is not None
        and before[0].state == "closed"
        and not any(is_broken(asked, before[1], one) for one in members[:1])
        and not is_too_much(asked, [*before[1], *members])
    ):
        found.pop()
        before[0].runs, before[0].why = [*before[0].runs, *made.runs], "tail"
    else:
        made.state, made.why = "closed", "tail"


@dataclass(frozen=True)
class Told:
    """What a source lists of a run at some time.

    :ivar values: what is known of its values: ``"unknown"``; ``"known"`` (those of ``one``); ``"without"``, as it is
        skipped there, or left out; else it is in no group where they are, and this is its state there, as ``"late"``.
    """

    one: One
    completed: bool
    values: str = "known"


@dataclass(frozen=True)
class Tick:
    """An injection: what the source lists then, which runs were skipped before, and which it lists no more."""

    now: datetime
    listed: Mapping[int, Told]
    skipped: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Selection:
    """Which runs a workflow takes.

    :ivar members: of a finite campaign; ``None``: it is streamed.
    """

    where: Callable[[One], bool] = lambda _: True
    since: int = 0
    settle: timedelta | None = None
    incomplete_after: timedelta | None = None
    members: frozenset[int] | None = None


@dataclass
class Outcome:
    """What became of all runs: the state of each, and the groups."""

    states: dict[int, str]
    groups: list[Made]


def bound_at(tick: Tick, known: Mapping[int, Told], chosen: Selection) -> int:
    """Rule 2: the lowest run that holds, else the highest that does not, and one."""
    holds, highest = [], -1
    for number, told in known.items():
        if number in tick.gone or (chosen.members is not None and number not in chosen.members):
            continue
        one = told.one
        stuck = (
            chosen.incomplete_after is not None
            and one.start is not None
            and tick.now - one.start > chosen.incomplete_after
        )
        young = chosen.settle is not None and one.end is not None and tick.now - one.end < chosen.settle
        if number in tick.skipped or (told.completed and not young) or (not told.completed and stuck):
            highest = max(highest, number)
        else:
            holds.append(number)
    return min(holds, default=highest + 1)


def history(asked: Asked, chosen: Selection, ticks: Sequence[Tick]) -> Outcome:
    """A campaign from its first injection to its last: what is decided of each run, and the groups that follow."""
    states: dict[int, str] = {}
    steps: list[Step] = []
    late_groups: list[Made] = []
    assigned_below = 0
    known: dict[int, Told] = {}
    done = False
    for tick in ticks:
        known = {**known, **tick.listed}
        bound = bound_at(tick, known, chosen)
        if chosen.members is not None and (done or any(number >= bound for number in chosen.members)):
            continue
        new = sorted(number for number in known if number < bound and number not in states)
        if asked.kind == "until":
            # The first one whose values are not known holds what follows; late ones hold each other.
            holding = [n for n in new if n >= assigned_below and _holds(asked, chosen, tick, known[n])]
            behind = [n for n in new if n < assigned_below and _holds(asked, chosen, tick, known[n])]
            if holding and chosen.members is not None:
                continue
            bound = min(holding, default=bound)
            late_until = min(behind, default=bound) if asked.late == "new_group" else bound
            new = [n for n in new if n < (bound if n >= assigned_below else late_until)]
        late: list[One] = []
        for number in new:
            state, one = _decided(asked, chosen, tick, known[number])
            if number >= assigned_below:
                states[number] = state
                steps.append(one)
            else:
                # One that is to be in no group is not asked whether it could be in one.
                states[number] = "late" if one.selected and asked.late == "ignore" else state
                late.append(one)
        if asked.late == "new_group" and late:
            made = groups(asked, [*late, Clock(tick.now)], final=True)
            late_groups += [Made(one.runs, one.state, one.why, late=True) for one in made]
        steps.append(Clock(tick.now, bound))
        assigned_below = max(assigned_below, bound)
        done = chosen.members is not None
    found = groups(asked, steps, final=done, finite=done) + late_groups
    for made in found:
        if made.state == "dropped":
            states.update(dict.fromkeys(made.runs, "dropped"))
    return Outcome(states, sorted(found, key=lambda one: one.runs[0]))


def _holds(asked: Asked, chosen: Selection, tick: Tick, told: Told) -> bool:
    """A run that enters the workflow, of which nobody knows the values."""
    state, one = _decided(asked, chosen, tick, told)
    return told.values == "unknown" and (state == "grouped" or one.selected)


def _decided(asked: Asked, chosen: Selection, tick: Tick, told: Told) -> tuple[str, One]:
    one = told.one
    outside = chosen.members is not None and one.number not in chosen.members
    if outside or (chosen.members is None and told.completed and one.number < chosen.since):
        state = "not_selected"
    elif not told.completed:
        state = "refused"
    elif not chosen.where(one):
        state = "not_selected"
    else:
        state = "refused" if is_refused(asked, One(one.number, one.start, one.end, one.fields)) else "grouped"
    selected = state == "grouped" or (state == "refused" and told.completed)
    if asked.kind == "until" and selected and told.values not in ("unknown", "known", "without"):
        state, selected = told.values, False
    found = one.found if told.values == "known" else None
    return state, One(one.number, one.start, one.end, one.fields, selected, found)
