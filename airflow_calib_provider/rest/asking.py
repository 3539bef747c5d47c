"""Answering a question that Airflow has asked a person, with this person's own token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_calib_provider.errors import AirflowUnreachable, CalibError, NotFound
from airflow_calib_provider.rest.client import AWAITING, part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_calib_provider.rest.client import Airflow


@dataclass(frozen=True)
class AskedQuestion:
    """Where Airflow has asked, and what about.

    :ivar content_hash: of the whole content.
    :ivar users: whose answer counts; none: whom Airflow lets.
    :ivar retried: what ``calib retry`` is told, to ask anew.
    """

    dag_id: str
    run_id: str
    task_id: str
    content_hash: str
    retried: str
    users: Sequence[str] = ()


def answer(airflow: Airflow, question: AskedQuestion, option: str, comment: str) -> str:
    """Answer a question.

    :returns: the id of the user that Airflow takes the answer as one of; empty if it does not say.
    :raises NotFound: nothing is asked there.
    :raises CalibError: somebody has answered already, this person may not, or the question is about other content.
    :raises AirflowUnreachable: Airflow does not answer, or refuses the token.
    """
    dag_id, run_id, task_id = question.dag_id, question.run_id, question.task_id
    there = airflow.task_instances(dag_id, run_id).get(task_id)
    if there is None or there.get("state") != AWAITING:
        # Airflow takes an answer to a question that has ended, and nothing comes of it.
        state = there.get("state") if there is not None else "not there"
        raise NotFound(
            f"{task_id} of the DAG run {run_id} does not wait for an answer: it is {state}",
            "`calib payload show` says what has become of it",
        )
    you = airflow.user()
    if question.users and you is not None and you not in question.users:
        said = f"the token is of {you}, whose answer would count for nothing: {' or '.join(question.users)} may answer"
        raise CalibError(said, "nothing was answered; CALIB_AIRFLOW_TOKEN says who you are")
    where = f"/api/v2/dags/{part(dag_id)}/dagRuns/{part(run_id)}/taskInstances/{part(task_id)}/-1/hitlDetails"
    body = {"chosen_options": [option], "params_input": {"comment": comment}}
    shown = airflow.checked(airflow.ask("GET", where))
    if option not in (shown.get("options") or ()) or question.content_hash not in (shown.get("body") or ""):
        said = f"Airflow shows a question about other content than {question.content_hash[:12]}: nothing was answered"
        raise CalibError(said, f"`calib retry {question.retried}` asks anew")
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
