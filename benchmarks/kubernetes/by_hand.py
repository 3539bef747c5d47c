"""A job set beside the same Job created by hand."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Report, spread
from benchmarks.kubernetes.place import Place, Set, progress
from tests.cluster.images import SHELL

JOBS, PARALLELISM, PAIRS = 200, 50, 3
GOAL_WALL = 1.1
GOAL_REQUESTS, SECONDS_A_REQUEST = 6, 5
PATIENCE = 1800.0
SCRIPT = "echo $CALIB_JOB > out.txt"
BY_HAND = 'mkdir -p "$FOLDER/$JOB_COMPLETION_INDEX" && cd "$FOLDER/$JOB_COMPLETION_INDEX" && ' + SCRIPT.replace(
    "CALIB_JOB", "JOB_COMPLETION_INDEX"
)


def run(place: Place, report: Report, jobs: int = JOBS) -> None:
    """Measure pairs, ours and by hand in turn."""
    machine = report.machine()
    ours_account, hand_account = place.account("ours"), place.account("by-hand")
    ours: list[float] = []
    hand: list[float] = []
    asked: list[int] = []
    cpu: list[float] = []
    for pair in range(PAIRS):
        before, spent, begin = place.requests("ours"), time.process_time(), time.perf_counter()
        _ours(place, ours_account, pair, jobs)
        ours.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - spent)
        asked.append(place.requests("ours") - before)
        place.empty()
        begin = time.perf_counter()
        _by_hand(place, hand_account, pair, jobs)
        hand.append(time.perf_counter() - begin)
        place.empty()
        progress(f"pair {pair + 1} of {PAIRS}: {ours[-1]:.1f} s and {hand[-1]:.1f} s")
    ratio = statistics.median(one / other for one, other in zip(ours, hand, strict=True))
    report.add(
        Figure(
            "job",
            f"{jobs} jobs, {PARALLELISM} at a time: ours {spread(ours)} s, the same Job by hand {spread(hand)} s; "
            f"ratio {ratio:.2f}, {PAIRS} pairs",
            machine,
            f"ratio at most {GOAL_WALL:g}",
            ratio <= GOAL_WALL,
            [
                "ours: from the first line in the ledger to the end of the generation, products accepted; by hand: "
                "from the request that creates the Job to its condition Complete, asked for every second",
                f"CPU of ours, without the start of its process: {spread(cpu)} s",
            ],
            {"ours": ours, "by_hand": hand, "cpu": cpu, "jobs": jobs},
        )
    )
    allowed = [GOAL_REQUESTS + wall / SECONDS_A_REQUEST for wall in ours]
    report.add(
        Figure(
            "requests",
            f"requests of ours for {jobs} jobs: {', '.join(map(str, asked))}",
            report.machine(),
            f"at most {GOAL_REQUESTS}, and one for each {SECONDS_A_REQUEST} s",
            all(one <= most for one, most in zip(asked, allowed, strict=True)),
            [f"allowed were {', '.join(f'{most:.0f}' for most in allowed)}"],
            {"requests": asked, "allowed": allowed},
        )
    )


def _ours(place: Place, account: Path, pair: int, jobs: int) -> None:
    folder = place.folder / f"job-{pair}"
    block = place.block(folder, parallelism=PARALLELISM, cpu_request="10m")
    world = Set(place, folder, account, SCRIPT, jobs, products={"out": "out.txt"}, options=block)
    state = world.watched(PATIENCE)
    if state != "done":
        raise RuntimeError(f"the job set is {state}")


def _by_hand(place: Place, account: Path, pair: int, jobs: int) -> None:
    from tests.cluster.api import Api

    folder = place.folder / f"by-hand-{pair}"
    folder.mkdir()
    api = Api(account)
    path = place.namespace.path("jobs")
    api.call("POST", path, job(f"by-hand-{pair}", folder, jobs))
    until = time.monotonic() + PATIENCE
    while not _complete(api.call("GET", f"{path}/by-hand-{pair}")):
        if time.monotonic() > until:
            raise TimeoutError("the Job by hand is not complete")
        time.sleep(1)
    if len(list(folder.glob("*/out.txt"))) != jobs:
        raise RuntimeError("the Job by hand has not done its work")


def _complete(found: dict[str, Any]) -> bool:
    conditions = found.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Complete" and one["status"] == "True" for one in conditions)


def job(name: str, folder: Path, jobs: int) -> dict[str, Any]:
    """The same work as an Indexed Job of few words."""
    container = {
        "name": "job",
        "image": SHELL,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", BY_HAND],
        "env": [{"name": "FOLDER", "value": str(folder)}],
        "resources": {"requests": {"cpu": "10m"}},
        "volumeMounts": [{"name": "folder", "mountPath": str(folder)}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsUser": 1000},
        "containers": [container],
        "volumes": [{"name": "folder", "hostPath": {"path": str(folder)}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completionMode": "Indexed",
            "completions": jobs,
            "parallelism": min(jobs, PARALLELISM),
            "backoffLimitPerIndex": 0,
            "template": {"spec": spec},
        },
    }
