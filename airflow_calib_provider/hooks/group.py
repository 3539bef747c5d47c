"""From an Airflow task's context to the ledger's group."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from airflow_calib_provider.settings import number
from airflow_calib_provider.spec.language import CORRECT

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
    from airflow_calib_provider.ledger.dag_groups import group_of_dag_run

    instance = context["ti"]
    with ledger.read() as connection:
        row = group_of_dag_run(connection, instance.dag_id, instance.run_id)
    if row is not None:
        return row

    from airflow_calib_provider.hooks.told import mistakes_are_final
    from airflow_calib_provider.injection.adopting import ByHand, adopt

    asked = ByHand.of_form(
        workflow,
        instance.dag_id,
        instance.run_id,
        context["params"],
        getattr(context["dag_run"], "triggering_user_name", None),
    )
    with mistakes_are_final(CORRECT):
        return adopt(ledger, workflow, asked, datetime.now(UTC))


def described(ledger: Ledger, group: Group) -> str:
    """A group as a log tells it: its name, its campaign, how many runs, the first and the last of them."""
    from airflow_calib_provider.hooks.assets import group_facts

    facts = group_facts(ledger, group.id)
    first, last, count = facts["first_run"], facts["last_run"], facts["n_runs"]
    runs = f"run {first}" if count == 1 else f"{count} runs from {first} to {last}"
    return f"the group {group.name} of the campaign {group.campaign}, {runs}"


def refuse(ledger: Ledger, group: Group, task: str, error: CalibError) -> NoReturn:
    """End a task that cannot be started, with the reason in the ledger.

    :param group: its row.
    :raises AirflowSkipException: the group was dropped, as its spec wants it, its campaign was cancelled, or its runs
        are in another one now: nothing has failed.
    :raises AirflowFailException: otherwise; Airflow does not try again.
    """
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    from airflow_calib_provider.jobsets.begin import record_failure

    if group.state == "dropped" or _is_wanted(error):
        raise AirflowSkipException(str(error)) from error
    record_failure(ledger, group.id, task, error, datetime.now(UTC))
    raise AirflowFailException(str(error)) from error


def _is_wanted(error: CalibError) -> bool:
    """Whether a person has cancelled the campaign, or put the group's runs into another one."""
    from airflow_calib_provider.errors import NotOpen

    inner = error.reason.get("reason") if isinstance(error, NotOpen) else None
    return isinstance(inner, dict) and inner.get("code") in ("campaign_cancelled", "absorbed")
