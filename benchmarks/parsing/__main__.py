"""``python -m benchmarks.parsing``: 200 specs of 10 tasks each, as Airflow's DAG processor and its workers build them.

CPU seconds, medians; plain Python and each of the others take turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.parsing.making import TASKS, by_hand, write_specs
from benchmarks.parsing.peers import PEERS, Peer
from benchmarks.parsing.timing import cpu, in_processes

SPECS, ROUNDS, FILES = 200, 9, 31
GOAL = 1.5


def plain(name: str) -> object:
    """As many operators, written by hand."""
    from airflow_calib_provider.operators.jobs import JobsOperator
    from airflow_calib_provider.spec.models import Workflow

    workflow = Workflow.model_construct()
    return by_hand(name, lambda task: JobsOperator(task_id=task, workflow=workflow, task=task))


def stub(folder: Path, name: str) -> None:
    """What a stub does."""
    from airflow_calib_provider.dags.factory import workflow_dags

    assert workflow_dags(str(folder / "dags" / f"{name}.py"))


def problems(folder: Path) -> None:
    """What the stub of all mistakes does: it looks at the whole folder."""
    from airflow_calib_provider.dags.problems import report_problems

    report_problems(str(folder / "dags" / "calib_problems.py"))


def each_in_a_process(folder: Path, names: list[str]) -> None:
    """A process for each file, which imports what it needs; only Airflow itself is there, as in the DAG processor."""
    import airflow.sdk
    from airflow.sdk import DAG, Asset, BaseOperator, TaskGroup  # noqa: F401

    assert airflow.sdk
    few = names[:FILES]
    stubs = [partial(stub, folder, name) for name in few]
    in_processes(stubs)
    ours, hand = in_processes(stubs), in_processes([partial(plain, name) for name in few])
    whole = in_processes([partial(problems, folder)] * 5)
    print(f"a process for each file, imports of this package included: plain Python {1e3 * hand:.1f} ms, ", end="")
    print(f"ours {1e3 * ours:.1f} ms, ratio {ours / hand:.2f}; the whole folder, unchanged {1e3 * whole:.0f} ms")


def edits(folder: Path, names: list[str]) -> None:
    """What the first look after an edit costs: of one file, and of all."""

    def edit(which: list[str]) -> float:
        for name in which:
            file = folder / "workflow_specs" / f"{name}.yaml"
            file.write_text(file.read_text() + "# edited\n")
        return cpu(lambda: [stub(folder, which[0]), problems(folder)])

    one = statistics.median(edit([names[number]]) for number in range(5))
    print(f"the first look at the folder after an edit of one file {one:.3f} s, of all {edit(names):.3f} s")


def peer_figures(peer: Peer) -> str:
    """A peer's ratio to plain Python, or why there is none."""
    if failed := peer.install():
        return f"{peer.package} {peer.version} {failed}"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "dags"
        place.mkdir()
        command = [peer.python, "-m", "benchmarks.parsing.beside", peer.package, place, str(SPECS), "3"]
        environment = {**os.environ, "AIRFLOW_HOME": name}
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if ran.returncode:
        return f"{peer.package} {peer.version} cannot be run: {(ran.stderr.strip().splitlines() or [''])[-1]}"
    found = json.loads(ran.stdout.splitlines()[-1])
    return f"{peer.package} {peer.version} / plain Python: {found['ratio']:.2f} ({found['cpu']:.2f} s)"


def main() -> int:
    """Print the figures and their ratio."""
    from airflow_calib_provider.spec import known

    print(f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "folder"
        os.environ["CALIB_HOME"] = str(folder / "calib")
        names = write_specs(folder, SPECS)
        time.sleep(known.SETTLED + 0.5)
        each_in_a_process(folder, names)
        cold = cpu(lambda: [stub(folder, item) for item in names])
        cpu(lambda: [plain(item) for item in names])
        pairs = [
            (cpu(lambda: [plain(item) for item in names]), cpu(lambda: [stub(folder, item) for item in names]))
            for _ in range(ROUNDS)
        ]
        hand, warm = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(ours / plainly for plainly, ours in pairs)
        print(
            f"{SPECS} specs of {TASKS} tasks, CPU: plain Python {hand:.3f} s, ours {warm:.3f} s, at first {cold:.3f} s"
        )
        print(f"ours / plain Python: {ratio:.2f} (goal: at most {GOAL})")
        edits(folder, names)
    for peer in PEERS:
        print(peer_figures(peer))
    print(f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
