"""Opening DAG runs from a task: drains the ledger's table ``dag_run_request`` (rule 28).

Airflow has no public call by which a task opens many DAG runs; this is what ``TriggerDagRunOperator`` does inside. All
knowledge of it stands in this module.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_calib_provider.crash import crash_point

if TYPE_CHECKING:
    from airflow.sdk.execution_time.comms import TriggerDagRun
    from structlog.typing import FilteringBoundLogger

    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.ledger.opening_order import Dag
    from airflow_calib_provider.ledger.openings import Request


CLAIMED_AT_ONCE = 10
"""What a process that dies leaves for others to take over only when its claim has expired."""


def open_dag_runs(
    ledger: Ledger,
    log: FilteringBoundLogger,
    patience: float = 0.0,
    *,
    ended: int | None = None,
    begun: Dag | None = None,
    thorough: bool = False,
) -> int:
    """Plan and open what may be opened now.

    :param patience: seconds for which requests that Airflow refused are asked again, such as of a DAG that it has not
        parsed yet.
    :param ended: a group of which something has ended: what waits for that is looked at, wherever it stands.
    :param begun: workflow and grouping of a group of which something has begun: another one of that DAG may start.
    :param thorough: whether everything that waits is looked at.
    :returns: how many DAG runs were opened.
    """
    from airflow_calib_provider.ledger import openings

    claimant = uuid.uuid4().hex
    until = time.monotonic() + patience
    opened = 0
    about = openings.ready_beyond(ledger) if thorough else []
    with ledger.write() as connection:
        about += openings.concerned(connection, ended) if ended is not None else []
        openings.plan(connection, datetime.now(UTC), about=about, only=begun, ended=ended)
    while True:
        with ledger.write() as connection:
            requests = openings.claim(connection, claimant, datetime.now(UTC), limit=CLAIMED_AT_ONCE)
        for request in requests:
            opened += _open(ledger, request, claimant, log)
        if not requests:
            if time.monotonic() >= until or not _more_to_come(ledger, until):
                return opened
            time.sleep(2)


def _more_to_come(ledger: Ledger, until: float) -> bool:
    """Whether a refused request may be asked again, or another process's claim expires, before ``until``."""
    from sqlalchemy import and_, or_, select

    from airflow_calib_provider.ledger.openings import CLAIM_EXPIRES
    from airflow_calib_provider.ledger.tables import dag_run_request as request

    latest = datetime.now(UTC) + timedelta(seconds=until - time.monotonic())
    refused = and_(request.c.state == "wanted", request.c.not_before <= latest)
    claimed = and_(request.c.state == "claimed", request.c.claimed_at <= latest - CLAIM_EXPIRES)
    with ledger.read() as connection:
        return connection.execute(select(request.c.group_id).where(or_(refused, claimed)).limit(1)).first() is not None


def _open(ledger: Ledger, request: Request, claimant: str, log: FilteringBoundLogger) -> int:
    from airflow_calib_provider.ledger import openings

    crash_point("request.after_claim", request.run_id)
    error = _trigger(request)
    crash_point("request.after_trigger", request.run_id)
    now = datetime.now(UTC)
    with ledger.write() as connection:
        if error is None:
            openings.opened(connection, request.group_id, claimant, now)
        else:
            openings.refused(connection, request.group_id, claimant, error, now)
    crash_point("request.after_record", request.run_id)
    if error is not None:
        log.warning("Airflow refused the DAG run", dag_id=request.dag_id, run_id=request.run_id, error=error)
        return 0
    log.info("opened", dag_id=request.dag_id, run_id=request.run_id)
    return 1


def clear_amended(ledger: Ledger, log: FilteringBoundLogger) -> None:
    """Let Airflow run what is to be made of the new editions of groups, until all that can begin has (rule 51).

    A clear between the end of a task and that of its DAG run is lost, and whoever cleared before may have died: so it
    is asked again, ever more rarely, and in the end no more. That is no reason to fail: it concerns these groups only.
    """
    from airflow_calib_provider.ledger import editions

    with ledger.read() as connection:
        found = editions.review(connection, datetime.now(UTC))
    if found.begun or found.given_up:
        with ledger.write() as connection:
            editions.settle(connection, found.begun)
            for row in found.given_up:
                editions.give_up(connection, row)
    for row in found.given_up:
        log.warning(
            "an amended group is stuck: Airflow was asked often to run it again, and it has not begun",
            **{"group": row.group_name, "workflow": row.workflow, "campaign": row.campaign, "edition": row.n},
            **{"dag_id": row.dag_id, "run_id": row.run_id, "asked": row.asked, "error": row.error},
            what_to_do=f"`calib explain {row.group_name}`, then `calib retry {row.group_name}`",
        )
    for row in found.due:
        error = _clear(row.dag_id, row.run_id)
        crash_point("amend.after_clear", row.group_name)
        with ledger.write() as connection:
            editions.note_asked(connection, row, error, datetime.now(UTC))
        if error is not None:
            log.warning("Airflow refused to clear the DAG run", dag_id=row.dag_id, run_id=row.run_id, error=error)
        else:
            log.info("cleared", dag_id=row.dag_id, run_id=row.run_id, edition=row.n)


def _clear(dag_id: str, run_id: str) -> str | None:
    """:returns: why not, if all of a DAG run could not be cleared."""
    from airflow.sdk.execution_time.comms import TriggerDagRun

    return _asked(TriggerDagRun(dag_id=dag_id, run_id=run_id, logical_date=None, reset_dag_run=True))


def _trigger(request: Request) -> str | None:
    """:returns: ``None`` if Airflow has the DAG run now, by us or by somebody before us, else why not."""
    from airflow.sdk.execution_time.comms import TriggerDagRun

    return _asked(
        TriggerDagRun(
            dag_id=request.dag_id,
            run_id=request.run_id,
            run_after=request.run_after,
            logical_date=None,
            note=request.note,
        )
    )


def _asked(message: TriggerDagRun) -> str | None:
    """:returns: why not, if Airflow refuses; that there is such a DAG run is what was wanted."""
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse

    try:
        answer = task_runner.SUPERVISOR_COMMS.send(message)
    except AirflowRuntimeError as error:
        answer = error.error
    if isinstance(answer, ErrorResponse) and answer.error != ErrorType.DAGRUN_ALREADY_EXISTS:
        return f"{answer.error}: {answer.detail}"
    return None
