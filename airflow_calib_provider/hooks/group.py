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

AIRFLOW_RETRIES = 8
"""Airflow's retries are for crashes only: what counts for jobs is the ledger (rules 14, 15)."""


def airflow_retry_delay() -> float:
    """Seconds before Airflow tries a crashed task again: ``CALIB_AIRFLOW_RETRY_DELAY`` (30)."""
    return number("AIRFLOW_RETRY_DELAY")


def group_of(ledger: Ledger, context: Context) -> Group:
    """The group that this DAG run was opened for.

    :raises AirflowFailException: the DAG run was made by hand and belongs to no group (rule 28).
    """
    from airflow.sdk.exceptions import AirflowFailException

    from airflow_calib_provider.ledger.rows import Group, first_row, select_of
    from airflow_calib_provider.ledger.tables import dag_run_request, run_group

    instance = context["ti"]
    with ledger.read() as connection:
        query = select_of(Group, run_group).join(dag_run_request, dag_run_request.c.group_id == run_group.c.id)
        here = (dag_run_request.c.dag_id == instance.dag_id, dag_run_request.c.run_id == instance.run_id)
        row = first_row(connection, query.where(*here), Group)
    if row is None:
        raise AirflowFailException(
            f"the DAG run {instance.run_id} belongs to no group: DAG runs of {instance.dag_id} are opened by "
            "calib_inject. "
            "To process runs again, clear a task here or use `calib retry`; for other runs, create a campaign with "
            "`calib campaign create` and trigger calib_inject with it"
        )
    return row


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
