"""Submitting many jobs, beside ``condor_submit`` of the same."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission, Resources
from benchmarks.condor.place import Place
from benchmarks.figures import Figure, Machine, Report, spread

JOBS, PAIRS = 10_000, 7
GOAL = 1.1
# Never run, and only one of them in the queue: the schedd has nothing else to do while the next are submitted.
NEVER = {"requirements": "false", "max_materialize": 1}


def run(place: Place, report: Report, count: int = JOBS) -> None:
    """In turn, several times."""
    machine = report.machine()
    folder = place.new("submit")
    backend = CondorBackend(CondorSettings.from_mapping("bench", place.pool.connection()), folder / "spool")
    jobs = _jobs(folder, count)
    ours, calls, peers, empty = [], [], [], []
    call = backend._helper.call

    def timed(name: str, **arguments: Any) -> Any:
        begin = time.perf_counter()
        answer = call(name, **arguments)
        calls.append(time.perf_counter() - begin)
        return answer

    try:
        backend.check()  # the helper process is there already, as in a triggerer that has watched anything before
        for n in range(PAIRS + 1):
            backend._helper.call = timed  # type: ignore[method-assign]
            key = RoundKey("prompt", "bench", "skim", "run-r1", n + 1, 0, 1)
            begin = time.perf_counter()
            backend.submit(key, jobs, NEVER)
            ours.append(time.perf_counter() - begin)
            backend._helper.call = call  # type: ignore[method-assign]
            place.empty()
            peer = folder / f"peer-{n}"
            _submit_file(folder / "spool" / "bench" / str(key), peer)
            ran = place.inside("condor_submit -terse job.sub", peer, peer / "said")
            if ran.code:
                raise RuntimeError(f"condor_submit failed: {(peer / 'said').read_text()}")
            peers.append(ran.wall)
            empty.append(place.inside("true", peer, peer / "said").wall)
            if not n:
                _compare(place, count)
            place.empty()
    finally:
        backend.close()
    report.add(_figure(machine, count, ours, calls, peers, empty))


def _figure(
    machine: Machine,
    count: int,
    ours: Sequence[float],
    calls: Sequence[float],
    peers: Sequence[float],
    empty: Sequence[float],
) -> Figure:
    # The first of each warms caches up.
    ratios = [one / other for one, other in zip(ours[1:], peers[1:], strict=True)]
    ratio = statistics.median(ratios)
    call_ratios = [one / other for one, other in zip(calls[1:], peers[1:], strict=True)]
    return Figure(
        "submit",
        f"{count:,} jobs: CondorBackend.submit {spread(ours[1:])} s, condor_submit {spread(peers[1:])} s, "
        f"ratio {spread(ratios)}; {PAIRS} pairs, in turn",
        machine,
        f"ratio at most {GOAL}",
        ratio <= GOAL,
        [
            "ours is the whole call: scripts of all jobs made, the round's files written durably, "
            "then the pool asked; condor_submit finds its files written",
            f"of ours, asking the pool takes {spread(calls[1:])} s, {spread(call_ratios)} x condor_submit",
            f"of condor_submit, entering the pool's namespaces takes {statistics.median(empty):.3f} s",
        ],
        {
            "jobs": count,
            "ours": ours[1:],
            "calls": calls[1:],
            "condor_submit": peers[1:],
            "ratio": ratio,
            "enter": empty[1:],
        },
    )


def _jobs(folder: Path, count: int) -> list[JobSubmission]:
    """As a calibration has them: a command with its options, and the variables of the contract."""
    jobs = []
    for index in range(count):
        here = folder / "products" / f"job-{index:05d}-a1"
        here.mkdir(parents=True)
        environment = {
            "CALIB_CAMPAIGN": "prompt",
            "CALIB_WORKFLOW": "bench",
            "CALIB_TASK": "skim",
            "CALIB_GROUP": "run-r1",
            "CALIB_RUNS": "1",
            "CALIB_JOB": str(index),
            "CALIB_ATTEMPT": "1",
            "CALIB_OUT": str(here / "out"),
            "CALIB_REPORT": str(here / "report.jsonl"),
            "CALIB_INPUTS": str(here / "inputs.txt"),
        }
        command = ("/bin/sh", "-c", 'echo "$CALIB_JOB" > result.txt')
        jobs.append(JobSubmission(index, 1, command, environment, here, Resources(1, 100 << 20, 10 << 20)))
    return jobs


def _submit_file(round_folder: Path, peer: Path) -> None:
    """The same description and the same item data, as files for ``condor_submit``."""
    peer.mkdir(mode=0o777)
    made = json.loads((round_folder / "submit.json").read_text())
    lines = [f"{name} = {value}" for name, value in made["description"].items() if name != "log"]
    lines += [f"log = {peer / 'log'}", f"queue 1 {','.join(made['names'])} from items"]
    (peer / "job.sub").write_text("\n".join(lines) + "\n")
    shutil.copy(round_folder / "items", peer / "items")


def _compare(place: Place, count: int) -> None:
    """What was submitted must be the same."""
    names = ("CalibJob", "Iwd", "Environment", "RequestMemory", "TotalSubmitProcs")
    said = place.pool.tool("condor_q", "-all", "-limit", "1", "-af:,", *names).strip()
    if "CALIB_SCRIPT=" not in said or not said.endswith(str(count)) or "job-00000-a1" not in said:
        raise RuntimeError(f"condor_submit did not submit the same jobs: {said[:500]}")
