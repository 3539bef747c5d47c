"""What a person's kill, mark success and a missed kill mean for jobs (rule 19)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_calib_provider.backends.base import Backend, RoundKey
from airflow_calib_provider.backends.reducer import JobState
from airflow_calib_provider.errors import BackendError, ProductError
from airflow_calib_provider.jobsets.advance import remove_jobs
from airflow_calib_provider.jobsets.folders import attempt_folder, job_folder
from airflow_calib_provider.jobsets.reports import check_product
from airflow_calib_provider.ledger import generations, groups
from airflow_calib_provider.ledger.engine import Ledger

ENDED_IN_AIRFLOW = ("failed", "skipped", "success", "upstream_failed", "removed")


def settle(
    ledger: Ledger,
    backend_of: Callable[[str], Backend],
    generation_id: int,
    airflow_state: str | None,
    now: datetime,
) -> str:
    """Bring a running generation in line with an end that a person gave its task in Airflow.

    Nothing happens if Airflow's task has not ended, or if the generation has ended or is superseded already.

    :param airflow_state: the task's state as Airflow says it now, not as it was when somebody was notified.
    :returns: what was done: ``nothing``, ``removed``, ``marked`` (success with products) or ``kept`` (without).
    :raises BackendError: the jobs could not be removed; nothing was recorded.
    """
    if airflow_state not in ENDED_IN_AIRFLOW:
        return "nothing"
    with ledger.read() as connection:
        row = generations.by_id(connection, generation_id)
        newest = generations.latest(connection, row.group_id, row.task)
        rounds = generations.rounds_of(connection, [generation_id], ["planned", "submitted"])
        jobs = generations.jobs_of(connection, [generation_id])
    if row.state != "running" or newest is None or newest.id != generation_id:
        return "nothing"
    if airflow_state == "success":
        missing = _missing_products(row, jobs)
        if missing:
            reason = {"code": "marked_success_without_products", "missing": missing[:20]}
            with ledger.write() as connection:
                groups.set_task_states(connection, row.group_id, "processing", reason, now, task=row.task)
            return "kept"
    backend = backend_of(row.backend)
    remove_jobs(backend, rounds)
    marked = airflow_state == "success"
    reason = {"code": "marked_success"} if marked else {"code": "killed", "airflow_state": airflow_state}
    live = JobState.LEFT_OUT if marked else JobState.REMOVED
    with ledger.write() as connection:
        current = generations.by_id(connection, generation_id)
        if current.state == "running":
            target = "done" if marked else "failed"
            generations.end(connection, current, target, reason, now, live_jobs=live, person="a person, in Airflow")
    return "marked" if marked else "removed"


def _missing_products(row: Any, jobs: list[Any]) -> list[str]:
    missing = []
    for job in jobs:
        accepted = job_folder(row.folder, job.job_index)
        folder = accepted if accepted.exists() else attempt_folder(row.folder, job.job_index, max(1, job.attempt))
        for name, file in row.products.items():
            try:
                check_product(folder / "out", name, file)
            except ProductError:
                missing.append(f"{name} of job {job.job_index}")
    return missing


@dataclass(frozen=True)
class Leftover:
    """Jobs that live although nothing wants them."""

    key: RoundKey
    why: str


def leftovers(ledger: Ledger, backend: Backend) -> list[Leftover]:
    """Rounds with living jobs whose generation has ended, or which this ledger does not know.

    A round unknown to the ledger is reported, never removed: it may belong to another installation.
    """
    found = []
    keys = backend.rounds()
    with ledger.read() as connection:
        states = generations.states_by_round(connection, [str(key) for key in keys])
    for key in keys:
        state = states.get(str(key))
        if state is None:
            found.append(Leftover(key, "unknown to this ledger"))
        elif state != "running":
            found.append(Leftover(key, f"its generation is {state}"))
    return found


def remove_leftovers(backend: Backend, found: list[Leftover]) -> tuple[list[Leftover], list[str]]:
    """Remove those that this ledger knows to be over.

    :returns: what was removed, and the errors.
    """
    removed, errors = [], []
    for item in found:
        if item.why.startswith("its generation"):
            try:
                backend.remove(item.key)
                removed.append(item)
            except BackendError as error:
                errors.append(str(error))
    return removed, errors
