"""From an Airflow task's context to the ledger's group."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from airflow_calib_provider.settings import number

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.ledger.rows import Group
    from airflow_calib_provider.spec.models import Workflow

AIRFLOW_RETRIES = 8
"""Airflow's retries are for crashes only: what counts for jobs is the ledger (rules 14, 15)."""


def airflow_retry_delay() -> float:
    """Seconds before Airflow tries a crashed task again: ``CALIB_AIRFLOW_RETRY_DELAY`` (30)."""
    return number("AIRFLOW_RETRY_DELAY")


def group_of(ledger: Ledger, context: Context, workflow: Workflow) -> Group:
    """The group that this DAG run was opened for, or which a person asks for by the DAG's form (rule 57).

    :raises AirflowFailException: the DAG run was made by hand, and nothing, or something wrong, is filled in.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from airflow_calib_provider.ledger.dag_groups import group_of_dag_run

    instance = context["ti"]
    with ledger.read() as connection:
        row = group_of_dag_run(connection, instance.dag_id, instance.run_id)
    if row is not None:
        return row

    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.injection.adopting import ByHand, adopt

    asked = ByHand.of_form(
        workflow,
        instance.dag_id,
        instance.run_id,
        context["params"],
        getattr(context["dag_run"], "triggering_user_name", None),
    )
    try:
        return adopt(ledger, workflow, asked, datetime.now(UTC))
    except CalibError as error:
        raise AirflowFailException(str(error)) from error


def refuse(ledger: Ledger, group: Group, task: str, error: CalibError) -> NoReturn:
    """End a task that cannot be started, with the reason in the ledger.

    :param group: its row.
    :raises AirflowSkipException: the group was dropped, as its spec wants it, or its campaign was cancelled: nothing
        has failed.
    :raises AirflowFailException: otherwise; Airflow does not try again.
    """
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    from airflow_calib_provider.jobsets.begin import record_failure

    if group.state == "dropped" or _is_cancelled(error):
        raise AirflowSkipException(str(error)) from error
    record_failure(ledger, group.id, task, error, datetime.now(UTC))
    raise AirflowFailException(str(error)) from error


def _is_cancelled(error: CalibError) -> bool:
    from airflow_calib_provider.errors import NotOpen

    inner = error.reason.get("reason") if isinstance(error, NotOpen) else None
    return isinstance(inner, dict) and inner.get("code") == "campaign_cancelled"
