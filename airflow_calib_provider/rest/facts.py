"""Asking Airflow about the DAG runs of an explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_calib_provider.ledger.explain import DagRun
    from airflow_calib_provider.ledger.explain_airflow import AirflowFacts, DagRunFacts
    from airflow_calib_provider.rest.client import Airflow


def airflow_facts(dag_runs: Sequence[DagRun]) -> AirflowFacts:
    """What Airflow says; that it could not be asked is an answer, too."""
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.ledger.explain_airflow import AirflowFacts
    from airflow_calib_provider.rest.client import Airflow

    asked = [item for item in dag_runs if item.tasks]
    if not asked:
        return AirflowFacts()
    try:
        with Airflow() as airflow:
            return AirflowFacts(
                health=airflow.health(),
                import_errors=airflow.import_errors(),
                pools=airflow.pools(),
                dag_runs={(item.dag_id, item.run_id): _of_dag_run(airflow, item) for item in asked},
            )
    except CalibError as error:
        return AirflowFacts(unreachable=error.message)


def _of_dag_run(airflow: Airflow, item: DagRun) -> DagRunFacts:
    from airflow_calib_provider.ledger.explain_airflow import DagRunFacts

    dag = airflow.dag(item.dag_id)
    run = airflow.dag_run(item.dag_id, item.run_id) if item.state == "opened" and dag is not None else None
    tasks = airflow.task_instances(item.dag_id, item.run_id) if run is not None else {}
    return DagRunFacts(dag, run, tasks)
