"""The specs that are built, and their stubs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

TASKS = 10
SOURCES = "apiVersion: calib/v1\nsources:\n  daq: {csv: {path: runs.csv}, fields: {fill: int, lumi: float}}\n"
STUB = "from airflow_calib_provider.dags.factory import workflow_dags\n\nglobals().update(workflow_dags(__file__))\n"


def spec(name: str) -> str:
    """A workflow whose tasks are one behind the other."""
    lines = [f"apiVersion: calib/v1\nworkflow: {name}\nruns: {{source: daq, where: 'run.lumi > 0.5'}}\ntasks:"]
    for number in range(TASKS):
        needs = f"needs: [t{number - 1}], " if number else "group_by: run, "
        command = '[fit, "{{ run.number }}", "{{ job.out }}"]'
        lines.append(f"  t{number}: {{{needs}jobs: {{command: {command}}}, products: {{out: o.txt}}}}")
    return "\n".join(lines) + "\n"


def write_specs(folder: Path, count: int) -> list[str]:
    """So many specs with their stubs; their names."""
    specs, dags = folder / "workflow_specs", folder / "dags"
    specs.mkdir(parents=True)
    dags.mkdir()
    (specs / "sources.yaml").write_text(SOURCES)
    names = [f"w{number}" for number in range(count)]
    for name in names:
        (specs / f"{name}.yaml").write_text(spec(name))
        (dags / f"{name}.py").write_text(STUB)
    return names


def by_hand(name: str, operator: Callable[[str], Any]) -> object:
    """A DAG of as many tasks, written in Python.

    :param operator: makes one of them.
    """
    from airflow.sdk import DAG

    arguments = {"owner": "airflow", "retries": 8, "retry_delay": timedelta(seconds=30)}
    start = datetime(2020, 1, 1, tzinfo=UTC)
    with DAG(dag_id=name, schedule=None, start_date=start, catchup=False, default_args=arguments) as dag:
        before = None
        for number in range(TASKS):
            task = operator(f"t{number}")
            if before is not None:
                before >> task
            before = task
    return dag
