"""A day of a campaign as points of the mirror's schema, for dashboards where no ledger is needed.

Two workflows: ``zee`` (select by run; scale and deliver by sums of five runs) and ``zee_laser`` (by fill). Some
jobs fail and are tried again, one run fails for good, one payload is late, one run is skipped, the last sum is forming.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

CODES = {"new": 0, "waiting": 1, "processing": 2, "done": 3, "failed": 4, "skipped": 5}
CAMPAIGN = "prompt"
RUNS = 24


@dataclass
class Points:
    """Lines of line protocol.

    :ivar end: when the day ends.
    """

    end: datetime
    lines: list[str] = field(default_factory=list)
    events: int = 0

    def add(
        self,
        measurement: str,
        at: datetime,
        tags: dict[str, str],
        fields: dict[str, object],
        time_ns: int | None = None,
    ) -> None:
        """One point; its event is the next one."""
        self.events += 1
        fields = {**fields, "event": self.events}
        key = ",".join(
            [measurement, *(f"{name}={value.replace(' ', chr(92) + ' ')}" for name, value in sorted(tags.items()))]
        )
        shown = ",".join(f"{name}={_text(value)}" for name, value in fields.items() if value is not None)
        at_ns = time_ns or int(at.timestamp() * 1000) * 1_000_000 + self.events % 1_000_000
        self.lines.append(f"{key} {shown} {at_ns}")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}i"
    if isinstance(value, float):
        return repr(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def a_day(end: datetime | None = None) -> list[str]:
    """A day that ends now, as lines."""
    points = Points(end or datetime.now(UTC))
    begin = points.end - timedelta(hours=20)
    _fill_runs(points, begin)
    _task(points, points.end, "zee", "run", "select", range(RUNS + 1, RUNS + 2), "new")
    _fill_system(points, begin)
    _fill_campaigns(points, begin)
    _fill_steps(points, begin)
    return points.lines


def _fill_steps(points: Points, begin: datetime) -> None:
    """An iteration that converges with its sixth step."""
    for step in range(1, 7):
        off = 24.0 * (-0.5) ** step
        phase = {"stage": "1", "phase": "fit", "metric": "mass"}
        tags = {"campaign": CAMPAIGN, "workflow": "zee", "task": "align", **phase}
        told: dict[str, object] = {"value": 91.0 + 0.1 * off, "error": 0.01, "deviation": off, "step": step}
        more = {"ending": "converged" if step == 6 else None, "group": _name("run", 1), "generation": 1}
        points.add("step", begin + timedelta(minutes=10 * step), tags, {**told, **more})


def _fill_runs(points: Points, begin: datetime) -> None:
    dice = random.Random(1)
    for first in range(1, RUNS + 1, 6):
        _laser(points, begin + timedelta(minutes=45 * first), first, late=first == 13)
    for number in range(1, RUNS + 1):
        at = begin + timedelta(minutes=45 * number)
        _select(points, at, number, dice)
        if number % 5 == 0 or number == RUNS:
            _scale(points, at + timedelta(minutes=20), number - (number - 1) % 5, number, dice)


def _task(
    points: Points,
    at: datetime,
    workflow: str,
    grouping: str,
    task: str,
    runs: range,
    state: str,
    reason: str | None = None,
) -> None:
    for run in runs:
        points.add(
            "run_task",
            at,
            {"campaign": CAMPAIGN, "workflow": workflow, "task": task, "run": str(run)},
            {
                "state": state,
                "state_code": CODES[state],
                "group": _name(grouping, runs[0]),
                "generation": 1,
                "reason": reason,
            },
        )


def _name(grouping: str, first: int) -> str:
    return f"{grouping}-r{first}"


def _group(points: Points, at: datetime, workflow: str, grouping: str, runs: range, state: str) -> None:
    points.add(
        "group",
        at,
        {"campaign": CAMPAIGN, "workflow": workflow, "grouping": grouping, "state": state},
        {
            "group": _name(grouping, runs[0]),
            "first_run": runs[0],
            "last_run": runs[-1],
            "runs": len(runs),
            "open_seconds": 60.0 if state == "forming" else 5400.0,
            "late": False,
            "edition": 1,
        },
    )


def _lock(
    points: Points,
    at: datetime,
    workflow: str,
    task: str,
    group: str,
    lock: str,
    state: str,
    waited: float,
) -> None:
    points.add(
        "lock",
        at,
        {"campaign": CAMPAIGN, "workflow": workflow, "task": task, "lock": lock, "state": state},
        {"group": group, "waited": waited, "done": 3 if state == "open" else 1, "total": 3},
    )


def _deadline(points: Points, at: datetime, workflow: str, task: str, group: str, lock: str) -> None:
    left = 48 * 3600.0
    ends = int((at + timedelta(seconds=left)).timestamp())
    points.add(
        "deadline",
        at,
        {"campaign": CAMPAIGN, "workflow": workflow, "task": task, "lock": lock, "state": "waiting"},
        {"group": group, "ends": ends, "left": left, "near": False, "then": "go_on"},
    )


def _job(points: Points, at: datetime, where: tuple[str, str, str], index: int, state: str, **fields: object) -> None:
    workflow, task, group = where
    failure = str(fields.pop("failure", "none"))
    points.add(
        "job",
        at,
        {"campaign": CAMPAIGN, "workflow": workflow, "task": task, "state": state, "failure": failure},
        {
            "group": group,
            "generation": 1,
            "job": index,
            "attempt": fields.pop("attempt", 1),
            "from_state": "running" if state != "running" else "submitted",
            **fields,
        },
    )


def _select(points: Points, at: datetime, number: int, dice: random.Random) -> None:
    runs = range(number, number + 1)
    group = _name("run", number)
    where = ("zee", "select", group)
    _group(points, at, "zee", "run", runs, "closed")
    _task(points, at, "zee", "run", "select", runs, "new")
    if number == 20:
        _task(points, at + timedelta(minutes=5), "zee", "run", "select", runs, "skipped", "skipped")
        return
    _task(points, at + timedelta(minutes=1), "zee", "run", "select", runs, "processing")
    for index in range(3):
        at_job = at + timedelta(minutes=2, seconds=10 * index)
        memory, wall = int(dice.gauss(4e8, 5e7)), dice.gauss(300, 60)
        base: dict[str, object] = {"host": f"node{dice.randint(1, 4)}", "request_memory": 1_000_000_000}
        for state in ("waiting", "submitted", "running"):
            _job(points, at_job, where, index, state, **base)
        if dice.random() < 0.15 or number == 17:
            _job(
                points,
                at_job + timedelta(minutes=3),
                where,
                index,
                "failed" if number == 17 else "waiting",
                failure="exit_code",
                exit_code=3,
                wall=wall / 2,
                memory=memory,
                reason="exit code 3",
                **base,
            )
        if number == 17:
            continue
        if number == RUNS and index == 2:
            _job(
                points,
                at_job + timedelta(minutes=3),
                where,
                index,
                "held",
                failure="hold",
                reason="over memory",
                **base,
            )
            continue
        done = at_job + timedelta(seconds=wall)
        _job(points, done, where, index, "succeeded", exit_code=0, wall=wall, memory=memory, progress=1.0, **base)
        _value(points, at, done, "zee", "select", group, runs, index, "events_selected", dice.gauss(900, 30), None)
    state = "failed" if number == 17 else "processing" if number == RUNS else "done"
    if state != "processing":
        reason = "jobs_failed" if state == "failed" else None
        _task(points, at + timedelta(minutes=12), "zee", "run", "select", runs, state, reason)


def _value(
    points: Points,
    start: datetime,
    at: datetime,
    workflow: str,
    task: str,
    group: str,
    runs: range,
    index: int,
    name: str,
    value: float,
    error: float | None,
) -> None:
    points.add(
        "value",
        at,
        {"campaign": CAMPAIGN, "workflow": workflow, "task": task, "name": name},
        {
            "value": value,
            "error": error,
            "group": group,
            "first_run": runs[0],
            "last_run": runs[-1],
            "generation": 1,
            "job": index,
            "recorded_at": int(at.timestamp()) * 10**9,
            "final": True,
        },
        time_ns=int(start.timestamp()) * 10**9 + runs[0] % 1000 * 10**6 + index,
    )


def _laser(points: Points, at: datetime, first: int, *, late: bool) -> None:
    runs = range(first, first + 6)
    group = _name("fill", first)
    _group(points, at, "zee_laser", "fill", runs, "forming")
    _group(points, at + timedelta(minutes=5), "zee_laser", "fill", runs, "closed")
    _task(points, at, "zee_laser", "fill", "corrections", runs, "new")
    begin = at + timedelta(minutes=(200 if late else 6))
    if begin > points.end:
        return
    _task(points, begin, "zee_laser", "fill", "corrections", runs, "processing")
    _job(points, begin, ("zee_laser", "corrections", group), 0, "running", host="node1")
    done = begin + timedelta(minutes=4)
    _job(points, done, ("zee_laser", "corrections", group), 0, "succeeded", exit_code=0, wall=240.0, memory=10**8)
    _value(points, at, done, "zee_laser", "corrections", group, runs, 0, "response_eb", 1 - first / 500, 0.002)
    _task(points, done, "zee_laser", "fill", "corrections", runs, "done")
    _task(points, done, "zee_laser", "fill", "deliver", runs, "done")
    _payload(points, done, "zee_laser", "ZeeLaserCorrections", group, runs)


def _payload(points: Points, at: datetime, workflow: str, tag: str, group: str, runs: range) -> None:
    points.add(
        "payload",
        at,
        {"campaign": CAMPAIGN, "workflow": workflow, "task": "deliver", "tag": tag, "state": "published"},
        {
            "first_run": runs[0],
            "last_run": runs[-1],
            "revision": 1,
            "group": group,
            "size": 2048,
            "content_hash": "9f86d081884c7d65",
        },
    )


def _scale(points: Points, at: datetime, first: int, last: int, dice: random.Random) -> None:
    runs = range(first, last + 1)
    group = _name("sum", first)
    _group(points, at - timedelta(minutes=15), "zee", "sum", runs, "forming")
    _task(points, at - timedelta(minutes=15), "zee", "sum", "scale", runs, "waiting", "forming")
    if last == RUNS:
        _lock(points, at - timedelta(minutes=15), "zee", "scale", group, "forming", "waiting", 0.0)
        return
    _group(points, at, "zee", "sum", runs, "closed")
    _task(points, at, "zee", "sum", "scale", runs, "waiting", "several")
    for lock, minutes in (("task zee.select", 15), ("payload ZeeLaserCorrections", 240 if first in (11, 16) else 8)):
        _lock(points, at, "zee", "scale", group, lock, "waiting", 0.0)
        if first == 16 and lock == "task zee.select":
            _deadline(points, at, "zee", "scale", group, lock)
            continue  # its run 17 has failed: it waits still
        end = at + timedelta(minutes=minutes)
        if end < points.end:
            _lock(points, end, "zee", "scale", group, lock, "open", minutes * 60.0)
    if first == 16:
        return
    begin = at + timedelta(minutes=250 if first == 11 else 16)
    _task(points, begin, "zee", "sum", "scale", runs, "processing")
    done = begin + timedelta(minutes=10)
    where = ("zee", "scale", group)
    _job(points, begin, where, 0, "running", host="node2")
    _job(points, done, where, 0, "succeeded", exit_code=0, wall=600.0, memory=9 * 10**8, request_memory=10**9)
    start = at - timedelta(minutes=20 + 45 * len(runs))
    for name, value in (("scale_eb", 1.01 + 0.004 * math.sin(first / 4)), ("scale_ee", 0.98 - first / 2000)):
        _value(points, start, done, "zee", "scale", group, runs, 0, name, dice.gauss(value, 0.001), 0.001)
    _task(points, done, "zee", "sum", "scale", runs, "done")
    _task(points, done + timedelta(minutes=1), "zee", "sum", "deliver", runs, "done")
    _payload(points, done, "zee", "ZeeScale", group, runs)


def _fill_system(points: Points, begin: datetime) -> None:
    for step, at in enumerate(_times(begin, points.end, timedelta(minutes=10))):
        wave = 1 + math.sin(step / 9)
        for workflow, share in (("zee", 0.8), ("zee_laser", 0.2), ("all", 1.0)):
            whole = workflow == "all"
            points.add(
                "system",
                at,
                {"campaign": CAMPAIGN, "workflow": workflow},
                {
                    "jobs_waiting": int(20 * wave * share),
                    "jobs_submitted": int(10 * wave * share),
                    "jobs_running": int(30 * share),
                    "jobs_held": int(2 * share) if step > 60 else 0,
                    "groups_waiting": int(4 * wave * share),
                    "groups_processing": int(3 * share),
                    "oldest_untreated_seconds": 600.0 + step % 40 * 120 * share,
                    "spool_bytes": 5_000_000_000 + step * 40_000_000 if whole else None,
                    "spool_free_bytes": 90_000_000_000 - step * 40_000_000 if whole else None,
                    "mirror_lag_seconds": 0.5 + step % 7 if whole else None,
                },
            )


def _fill_campaigns(points: Points, begin: datetime) -> None:
    """``prompt`` beside a campaign that is throttled and paused for a while, and one that is cancelled."""
    done = 0
    for step, at in enumerate(_times(begin, points.end, timedelta(minutes=10))):
        _campaign(points, at, "prompt", "open", 2 + step // 4, step // 4, failed=int(step > 90), max_jobs=100)
        if step < 20:
            continue
        state = "grouping" if step < 22 else "paused" if 60 <= step < 80 else "open"
        done += 2 if state == "open" else 0
        ends = int((at + timedelta(minutes=5 * max(0, 200 - done))).timestamp()) if done else None
        running = 0 if state == "grouping" or (step > 63 and state == "paused") else 18 + step % 3
        _campaign(points, at, "rereco-2026A", state, 240, done, running=running, max_jobs=20, expected_end=ends)
        if 30 <= step < 40:
            _campaign(points, at, "wide", "open", 60, step - 30, priority=5)
    cancelled = begin + timedelta(minutes=400)
    points.add("campaign", cancelled, {"campaign": "wide"}, {"state": "cancelled"})
    _campaign(points, cancelled + timedelta(minutes=1), "wide", "cancelled", 60, 60, running=0, priority=5)


def _campaign(
    points: Points,
    at: datetime,
    name: str,
    state: str,
    groups: int,
    done: int,
    *,
    failed: int = 0,
    running: int = 4,
    max_jobs: int = 0,
    priority: int = 0,
    expected_end: int | None = None,
) -> None:
    left = groups - done - failed
    processing = min(left, running // 2)
    points.add(
        "campaign",
        at,
        {"campaign": name},
        {
            "state": state,
            "groups": groups,
            "groups_done": done,
            "groups_failed": failed,
            "groups_processing": processing,
            "groups_waiting": 0,
            "groups_new": left - processing,
            "tasks_left": 3 * left,
            "jobs_waiting": running,
            "jobs_submitted": 0,
            "jobs_running": running,
            "jobs_held": 0,
            "expected_end": expected_end,
            "priority": priority,
            "max_groups": 0,
            "max_jobs": max_jobs,
        },
    )


def _times(begin: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    while begin < end:
        yield begin
        begin += step
