"""Answering a question that Airflow has asked a person, with this person's own token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_calib_provider.errors import AirflowUnreachable, CalibError, NotFound
from airflow_calib_provider.rest.client import part

if TYPE_CHECKING:
    from airflow_calib_provider.rest.client import Airflow

AWAITING = "awaiting_input"
"""Airflow's state of a task that has asked."""


def answer(airflow: Airflow, dag_id: str, run_id: str, task_id: str, option: str, comment: str) -> str:
    """Answer a question.

    :returns: the id of the user that Airflow takes the answer as one of; empty if it does not say.
    :raises NotFound: nothing is asked there.
    :raises CalibError: somebody has answered already, or this person may not.
    :raises AirflowUnreachable: Airflow does not answer, or refuses the token.
    """
    there = airflow.task_instances(dag_id, run_id).get(task_id)
    if there is None or there.get("state") != AWAITING:
        # Airflow takes an answer to a question that has ended, and nothing comes of it.
        state = there.get("state") if there is not None else "not there"
        raise NotFound(
            f"{task_id} of the DAG run {run_id} does not wait for an answer: it is {state}",
            "`calib payload show` says what has become of it",
        )
    where = f"/api/v2/dags/{part(dag_id)}/dagRuns/{part(run_id)}/taskInstances/{part(task_id)}/-1/hitlDetails"
    body = {"chosen_options": [option], "params_input": {"comment": comment}}
    made = airflow.ask("PATCH", where, json=body)
    if made.status_code == 401:
        raise AirflowUnreachable(f"Airflow at {airflow.address} refuses the token (401)", "set CALIB_AIRFLOW_TOKEN")
    if made.status_code == 403:
        said = "Airflow does not let you answer: you are not one of its approvers"
        raise CalibError(said, "ask one of them; CALIB_AIRFLOW_TOKEN says who you are")
    if made.status_code == 409:
        raise CalibError("somebody has answered already", "`calib payload show` says who, and what")
    found = airflow.checked(made)
    return str((found.get("responded_by") or {}).get("id") or "")
