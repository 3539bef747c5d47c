"""``python -m benchmarks.parsing``: 200 specs of 10 tasks each, as Airflow's DAG processor and its workers build them.

CPU seconds, medians; plain Python and ours take turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

SPECS, TASKS, ROUNDS = 200, 10, 5
GOAL = 1.5
SOURCES = "apiVersion: calib/v1\nsources:\n  daq: {csv: {path: runs.csv}, fields: {fill: int, lumi: float}}\n"


def spec(name: str) -> str:
    """A workflow whose tasks are one behind the other."""
    lines = [f"apiVersion: calib/v1\nworkflow: {name}\nruns: {{source: daq, where: 'run.lumi > 0.5'}}\ntasks:"]
    for number in range(TASKS):
        needs = f"needs: [t{number - 1}], " if number else "group_by: run, "
        command = '[fit, "{{ run.number }}", "{{ job.out }}"]'
        lines.append(f"  t{number}: {{{needs}jobs: {{command: {command}}}, products: {{out: o.txt}}}}")
    return "\n".join(lines) + "\n"


def plain(name: str) -> object:
    """As many operators, written by hand."""
    from airflow.sdk import DAG

    from airflow_calib_provider.dags.factory import START
    from airflow_calib_provider.operators.jobs import JobsOperator
    from airflow_calib_provider.spec.models import Workflow

    arguments = {"owner": "airflow", "retries": 8, "retry_delay": timedelta(seconds=30)}
    with DAG(dag_id=name, schedule=None, start_date=START, catchup=False, default_args=arguments) as dag:
        before = None
        for number in range(TASKS):
            workflow = Workflow.model_construct()
            operator = JobsOperator(task_id=f"t{number}", workflow=workflow, task=f"t{number}")
            if before is not None:
                before >> operator
            before = operator
    return dag


def cpu(action: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    begin = time.process_time()
    action()
    return time.process_time() - begin


def main() -> int:
    """Print the figures and their ratio."""
    from airflow_calib_provider.dags.factory import workflow_dags
    from airflow_calib_provider.spec import known

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["CALIB_HOME"] = str(folder / "calib")
        specs = folder / "workflow_specs"
        specs.mkdir()
        (folder / "dags").mkdir()
        (specs / "sources.yaml").write_text(SOURCES)
        names = [f"w{number}" for number in range(SPECS)]
        for item in names:
            (specs / f"{item}.yaml").write_text(spec(item))
        time.sleep(known.SETTLED + 0.5)

        def ours() -> None:
            for item in names:
                assert workflow_dags(str(folder / "dags" / f"{item}.py"))

        def by_hand() -> None:
            for item in names:
                plain(item)

        by_hand()
        # Airflow builds one file in a process: what else 200 of them leave in memory is not to be searched each time.
        gc.collect()
        gc.freeze()
        cold = cpu(ours)
        pairs = [(cpu(by_hand), cpu(ours)) for _ in range(ROUNDS)]
    hand, warm = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(ours / hand for hand, ours in pairs)
    print(f"{SPECS} specs of {TASKS} tasks, CPU: plain Python {hand:.3f} s")
    print(f"ours {warm:.3f} s; after an edit {cold:.3f} s")
    print(f"ours / plain Python: {ratio:.2f} (goal: at most {GOAL})")
    print(f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
