"""A job set from submit to done, beside snakemake and b2luigi on the same pool."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.condor import peers
from benchmarks.condor.place import Place, Ran
from benchmarks.figures import Figure, Machine, Report

JOBS = 1_000
GOAL_CPU = 5.0
FEW_CALLS = 10
SCRIPT = 'echo "$CALIB_JOB" > out.txt'


@dataclass
class Ours:
    """Our run of a job set."""

    jobs: int
    ran: Ran
    said: dict[str, Any]
    machine: Machine


def ours(place: Place, report: Report, count: int, name: str = "set") -> Ours:
    """Our run, as a whole process: interpreter, imports and helper process included."""
    machine = report.machine()
    folder = place.new(name)
    plan = {"script": SCRIPT, "jobs": count, "groups": 1, "products": {"out": "out.txt"}}
    ran, said = place.ours("watch", plan, folder)
    if said["states"] != {"done": 1}:
        raise RuntimeError(f"the job set is {said['states']}, not done; see {folder / 'watch.log'}")
    place.empty()
    if sum(said["attempts"].values()) != count:
        sys.stdout.write(f"{name}: more attempts than jobs: {said['attempts']}\n")
    _say(f"ours, {name}", ran, str(said["calls"]))
    return Ours(count, ran, said, machine)


def _say(name: str, ran: Ran | None, note: str) -> None:
    """A run of this takes long: what is known of it is told at once."""
    figures = "no run" if ran is None else f"{ran.cpu:.2f} s CPU, {ran.wall:.1f} s"
    sys.stdout.write(f"  {name}: {figures} ({note})\n")
    sys.stdout.flush()


def run(place: Place, report: Report, count: int = JOBS) -> Ours:
    """Ours, each peer, and ours again: a machine that changes meanwhile shows in the two of ours."""
    first = ours(place, report, count)
    found: dict[str, peers.Outcome] = {}
    machine = report.machine()
    for peer in peers.PEERS:
        found[peer.name] = one = peer.run(place, count)
        _say(peer.name, one.ran, one.note)
        place.empty()
    second = ours(place, report, count, "set-again")
    mean_cpu, mean_wall = (first.ran.cpu + second.ran.cpu) / 2, (first.ran.wall + second.ran.wall) / 2
    good = {name: one.ran for name, one in found.items() if one.ran is not None}
    lines = [
        f"ours {first.ran.cpu:.1f} and {second.ran.cpu:.1f} s CPU, {first.ran.wall:.0f} and {second.ran.wall:.0f} s"
    ]
    lines += [f"{name} {one.cpu:.1f} s CPU, {one.wall:.0f} s" for name, one in good.items()]
    better = min((one.cpu for one in good.values()), default=None)
    fastest = min((one.wall for one in good.values()), default=None)
    met = None
    if better is not None and fastest is not None:
        met = better / mean_cpu >= GOAL_CPU and mean_wall <= fastest
        lines.append(f"{better / mean_cpu:.1f} x less CPU than the better one, wall time {mean_wall / fastest:.2f} x")
    report.add(
        Figure(
            "set",
            f"{count:,} jobs from submit to done: {'; '.join(lines)}",
            machine,
            f"at least {GOAL_CPU:g} x less orchestrator CPU than the better peer, and not slower",
            met,
            [
                "CPU: the orchestrator's process and its children, from start to end; wall: the same; not the jobs'",
                "ours: begin, submit, watch and done as a trigger does it, without Airflow's own share",
                *(f"{name}: {one.note}" for name, one in found.items() if one.note),
            ],
            {
                "jobs": count,
                "ours": [[one.ran.cpu, one.ran.wall] for one in (first, second)],
                **{name: [one.cpu, one.wall] for name, one in good.items()},
                "attempts": [one.said["attempts"] for one in (first, second)],
            },
        )
    )
    _calls(report, first, count)
    return second


def _calls(report: Report, one: Ours, count: int) -> None:
    calls = one.said["calls"]
    total = sum(calls.values())
    told = ", ".join(f"{n} {name}" for name, n in sorted(calls.items()))
    report.add(
        Figure(
            "calls",
            f"{count:,} jobs from submit to done: {total} calls to the schedd and collector ({told})",
            one.machine,
            f"at most {FEW_CALLS}",
            total <= FEW_CALLS,
            values=dict(calls),
        )
    )
