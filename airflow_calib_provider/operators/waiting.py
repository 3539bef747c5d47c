"""Tasks that wait for a person, without a worker slot (rule 53)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.ledger.rows import Group


def wait_for_update(operator: BaseOperator, ledger: Ledger, group: Group, task: str, error: CalibError) -> None:
    """Let a task wait whose campaign has another version of the spec than the DAG; nothing happens for other errors.

    It begins again when a person has updated the campaign, or the file is as it was.
    """
    from airflow_calib_provider.errors import NotOpen

    inner = error.reason.get("reason") if isinstance(error, NotOpen) else None
    if not isinstance(inner, dict) or inner.get("code") != "spec_changed":
        return
    from airflow_calib_provider.injection.own_specs import note
    from airflow_calib_provider.triggers.ledger_wait import LedgerWaitTrigger

    note(ledger, group.campaign, group.workflow, inner)
    operator.log.info("waits: %s", error)
    operator.defer(trigger=LedgerWaitTrigger(group.id, task, back=True), method_name="execute_again")
