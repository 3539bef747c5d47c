"""Tasks that were started, and wait for a person or for a lock, without a worker slot (rules 50, 53, 60)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from airflow_calib_provider.hooks.group import airflow_retry_delay

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_calib_provider.errors import CalibError, OutsideStoreDown
    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.ledger.rows import Group

MOST_RARELY = timedelta(minutes=5)
"""Between two times that stores are asked which do not answer."""

AT_MOST = timedelta(days=7)
"""That they are asked again without a try of Airflow's being used up."""


def wait_in_place(operator: BaseOperator, ledger: Ledger, group: Group, task: str, error: CalibError) -> None:
    """Let a task wait that was started and may not run yet; nothing happens for other errors.

    Its campaign has another version of the spec than the DAG, until it is updated, or the file is as it was; or what it
    needs is a candidate, until it is published; or a lock is shut that may have been open when its sensor looked.
    """
    from airflow_calib_provider.errors import NotOpen

    inner = error.reason.get("reason") if isinstance(error, NotOpen) else None
    if not isinstance(inner, dict):
        return
    from airflow_calib_provider.domain.lock_reasons import may_shut_again
    from airflow_calib_provider.injection.own_specs import note
    from airflow_calib_provider.ledger import candidates
    from airflow_calib_provider.triggers.ledger_wait import LedgerWaitTrigger

    if inner.get("code") == "spec_changed":
        note(ledger, group.campaign, group.workflow, inner)
    elif names := candidates.awaited(inner):
        with ledger.write() as connection:
            candidates.hold(connection, group, task, names)
    elif not may_shut_again(inner):
        return
    operator.log.info("waits: %s", error)
    operator.defer(trigger=LedgerWaitTrigger(group.id, task, back=True), method_name="execute_again")


def ask_again(operator: BaseOperator, error: OutsideStoreDown, since: datetime | None) -> NoReturn:
    """Let a publication whose stores do not answer ask them again, ever more rarely, without a worker slot.

    :param since: when they first did not; ``None``: now.
    :raises OutsideStoreDown: that was too long ago; Airflow's tries are left.
    """
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger

    now = datetime.now(UTC)
    since = since or now
    if now - since > AT_MOST:
        raise error
    pause = min(MOST_RARELY, max(timedelta(seconds=airflow_retry_delay()), (now - since) / 2))
    operator.log.warning("asks again in %.0f s: %s", pause.total_seconds(), error)
    trigger = DateTimeTrigger(moment=now + pause)
    operator.defer(trigger=trigger, method_name="execute_again", kwargs={"since": since.isoformat()})


def tell_of_failed(operator: BaseOperator, ledger: Ledger, group: Group, task: str) -> None:
    """Warn of the runs without which a task goes on, as they have failed in what it needs (rule 49)."""
    if not group.policy.get("failed_runs"):
        return
    from airflow_calib_provider.domain.reasons import render
    from airflow_calib_provider.ledger.exclusions import recorded_in

    with ledger.read() as connection:
        rows = [row for row in recorded_in(connection, group.id) if row.task == task]
    for row in rows:
        operator.log.warning("%s of %s goes on without run %d, %s", task, group.name, row.run, render(row.reason))
