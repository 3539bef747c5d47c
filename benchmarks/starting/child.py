"""A process of Airflow up to the open ledger: ``python -m benchmarks.starting.child KIND FOLDER`` prints its figures.

Airflow's own modules are imported first, with a provider that says nothing in our place, and a DAG is built by hand
with what ours have: all that is counted as Airflow's.
"""

from __future__ import annotations

import asyncio
import json
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

PROVIDER = "airflow_calib_provider.provider_info"


def airflow_alone() -> None:
    """Import what every task of Airflow does."""
    silent = ModuleType(PROVIDER)
    silent.get_provider_info = lambda: {  # type: ignore[attr-defined]
        "package-name": "airflow-calib-provider", "name": "Calibration", "description": "", "versions": ["0"],
    }  # fmt: skip
    sys.modules[PROVIDER] = silent
    from airflow.sdk import DAG, Asset, BaseHook, BaseOperator, BaseSensorOperator, TaskGroup  # noqa: F401
    from airflow.sdk.exceptions import AirflowFailException  # noqa: F401
    from airflow.sdk.execution_time import supervisor, task_runner  # noqa: F401


def dag_by_hand() -> None:
    """What Airflow imports only when a DAG is built."""
    from airflow.sdk import DAG, Asset, BaseOperator, TaskGroup

    with DAG(dag_id="by_hand", schedule=None, default_args={"owner": "airflow"}), TaskGroup(group_id="group"):
        BaseOperator(task_id="task", outlets=[Asset(name="asset", uri="calib://by/hand")])
    del sys.modules[PROVIDER]


def provider() -> None:
    """What every process of Airflow asks for, also those of other people's tasks."""
    from airflow_calib_provider.provider_info import get_provider_info

    get_provider_info()


def parsed(folder: Path, dag_id: str) -> Any:
    """The DAG of a stub, as a task's process asks for it."""
    from airflow.sdk.definitions import context

    import airflow_calib_provider.dags.factory as factory

    factory.get_parsing_context = lambda: context.AirflowParsingContext(dag_id, None)  # type: ignore[attr-defined]
    stub = folder / "dags" / f"{dag_id.partition('__')[0]}.py"
    return runpy.run_path(str(stub))[dag_id]


def until_open(module: ModuleType, operator: Any) -> float:
    """When the operator's own code has its ledger; no group belongs to this DAG run, with which it then ends."""
    from airflow.sdk.exceptions import AirflowException

    ended: list[float] = []
    real: Callable[[], object] = vars(module)["task_ledger"]

    def timed() -> object:
        found = real()
        ended.append(time.process_time())
        return found

    vars(module)["task_ledger"] = timed
    instance = SimpleNamespace(dag_id=operator.dag_id, run_id="none", max_tries=0)
    context = {"ti": instance, "params": {}, "dag_run": SimpleNamespace(triggering_user_name=None)}
    try:
        operator.execute(context)
    except AirflowException as error:
        if "belongs to no group" not in str(error):
            raise
    return ended[0]


def operator_task(folder: Path) -> dict[str, float]:
    """A task with jobs."""
    begin = time.process_time()
    dag = parsed(folder, "w0__run")
    built = time.process_time()
    from airflow_calib_provider.operators import jobs

    return {"parse": built - begin, "open": until_open(jobs, dag.get_task("t0")) - built}


def sensor_task(folder: Path) -> dict[str, float]:
    """The sensor of a group."""
    begin = time.process_time()
    dag = parsed(folder, "w1__fill")
    built = time.process_time()
    from airflow_calib_provider.sensors import ledger_sensor

    return {"parse": built - begin, "open": until_open(ledger_sensor, dag.get_task("wait_for_group")) - built}


def trigger(folder: Path) -> dict[str, float]:
    """A trigger in a triggerer, which knows no DAGs."""
    del folder
    from airflow.triggers.base import BaseTrigger  # noqa: F401

    begin = time.process_time()
    from airflow_calib_provider.hooks.ledger import open_ledger
    from airflow_calib_provider.triggers.job_set import JobSetTrigger, trigger_url

    JobSetTrigger(1)
    open_ledger(asyncio.run(trigger_url()))
    return {"open": time.process_time() - begin}


KINDS = {"operator": operator_task, "sensor": sensor_task, "trigger": trigger}


def main(kind: str, folder: Path) -> None:
    """Print CPU seconds by part."""
    begin = time.process_time()
    airflow_alone()
    imported = time.process_time()
    dag_by_hand()
    built = time.process_time()
    provider()
    figures = {"airflow": imported - begin, "provider": time.process_time() - built, **KINDS[kind](folder)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
