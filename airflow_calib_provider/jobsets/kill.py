"""What a person's kill, mark success and a missed kill mean for jobs (rule 19)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.checksums import read_sums
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.errors import BackendError, ProductError
from airflow_calib_provider.jobsets.accepted import gone
from airflow_calib_provider.jobsets.advance import advance
from airflow_calib_provider.jobsets.ending import remove_jobs
from airflow_calib_provider.jobsets.folders import attempt_folder, promote
from airflow_calib_provider.jobsets.products import check_product
from airflow_calib_provider.kinds import DEFAULT_BACKEND
from airflow_calib_provider.ledger import generations, groups, rounds
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.products import Kept
from airflow_calib_provider.ledger.rows import Generation, JobRecord, Product, Round
from airflow_calib_provider.settings import number

ENDED_IN_AIRFLOW = ("failed", "skipped", "success")
"""What a person can make of a task; others (``removed`` after an edit of the spec) are nobody's wish to kill."""

PERSON = "a person, in Airflow"

UNKNOWN = "unknown to this ledger"
"""Of a round: why it is left alone."""


def settle(
    ledger: Ledger,
    backend_of: Callable[[str], Backend],
    generation_id: int,
    airflow_state: str | None,
    now: datetime,
    max_tries: int | None = None,
) -> str:
    """Bring a running generation in line with an end that a person gave its task in Airflow.

    Nothing happens if Airflow's task has not ended, or if the generation has ended or is superseded already; a failed
    one can still be marked as success.

    :param airflow_state: the task's state as Airflow says it now, not as it was when somebody was notified.
    :param max_tries: the generation's, as it was before Airflow was asked: a larger one is a clear that came after.
    :returns: what was done: ``nothing``, ``removed``, ``marked`` (success with products), ``kept`` (without), or
        ``cleared`` (a clear came while jobs were removed: they run again).
    :raises BackendError: the jobs could not be removed; nothing was recorded.
    """
    if airflow_state not in ENDED_IN_AIRFLOW:
        return "nothing"
    with ledger.read() as connection:
        row = generations.by_id(connection, generation_id)
        newest = generations.latest(connection, row.group_id, row.task)
        left = rounds.in_states(connection, [generation_id], ["planned", "submitted"])
    if newest is None or newest.id != generation_id or max_tries not in (None, row.max_tries):
        return "nothing"
    if airflow_state == "success":
        return _mark(ledger, backend_of, generation_id, now)
    if row.state != "running":
        return "nothing"
    remove_jobs(backend_of(row.backend), left)
    reason = {"code": "killed", "airflow_state": airflow_state}
    with ledger.write() as connection:
        current = generations.by_id(connection, generation_id)
        if current.max_tries > row.max_tries:
            return _cleared(connection, current, left, reason, now)
        if current.state == "running":
            generations.end(connection, current, "failed", reason, now, person=PERSON)
        elif current.state == "failed":  # a watcher saw the jobs vanish, and was faster
            groups.set_task_states(connection, row.group_id, "failed", reason, now, task=row.task)
    return "removed"


def _cleared(connection: Connection, current: Generation, left: Sequence[Round], reason: Reason, now: datetime) -> str:
    """A person cleared the task while its jobs were removed, and it attached to them: they run again.

    Where the clear came after the end it has continued the generation itself, with rounds of its own.
    """
    known = {(item.step, item.n) for item in rounds.in_states(connection, [current.id], ["planned", "submitted"])}
    attached = any((item.step, item.n) in known for item in left)
    if current.state == "running" and attached:
        generations.end(connection, current, "failed", reason, now, person=PERSON)
        current = generations.by_id(connection, current.id)
    if current.state == "failed":
        generations.continue_failed(connection, current, current.max_tries, now)
    return "cleared"


def _mark(ledger: Ledger, backend_of: Callable[[str], Backend], generation_id: int, now: datetime) -> str:
    """Airflow says success: a person marked it, unless the generation is done, as Airflow's own success comes after.

    Only what ended well is believed: a file that a running job writes looks like a product, too.
    """
    with suppress(BackendError):  # else what is known already counts
        advance(ledger, backend_of, [generation_id], now, number("RETRY_DELAY"))
    with ledger.read() as connection:
        row = generations.by_id(connection, generation_id)
        left = rounds.in_states(connection, [generation_id], ["planned", "submitted"])
        jobs = generations.jobs_of(connection, [generation_id])
        well = generations.ended_well(connection, generation_id)
        products = generations.products_of(connection, generation_id)
    if row.state not in ("running", "failed"):
        return "nothing"
    if row.step:
        # The constants of a step that was not judged are nobody's result.
        return _kept(ledger, row, [f"the end of step {row.step}"], now)
    found, kept, missing = _find_products(row, jobs, well, products)
    if missing:
        return _kept(ledger, row, missing, now)
    remove_jobs(backend_of(row.backend), left)
    with ledger.write() as connection:
        current = generations.by_id(connection, row.id)
        newest = generations.latest(connection, row.group_id, row.task)
        if current.state not in ("running", "failed") or newest is None or newest.id != row.id:
            return "nothing"
        generations.accept(connection, current, found, kept, PERSON, now)
    promote(row.folder, {index: n for index, n in found.items() if n}, row.group_name)
    crash_point("generation.before_done", row.group_name)
    with ledger.write() as connection:
        current = generations.by_id(connection, row.id)
        if current.state in ("running", "failed"):  # else a watcher saw that all jobs have succeeded, and was faster
            generations.end(connection, current, "done", {"code": "marked_success"}, now, person=PERSON)
    return "marked"


def _kept(ledger: Ledger, row: Generation, missing: Sequence[str], now: datetime) -> str:
    """The ledger stays as it was, and says why."""
    reason = {"code": "marked_success_without_products", "missing": missing[:20]}
    state = "processing" if row.state == "running" else "failed"
    with ledger.write() as connection:
        groups.set_task_states(connection, row.group_id, state, reason, now, task=row.task, only=[state])
    return "kept"


def _find_products(
    row: Generation, jobs: Sequence[JobRecord], well: Mapping[int, Sequence[int]], products: Sequence[Product]
) -> tuple[dict[int, int], dict[int, dict[str, Kept]], list[str]]:
    """For each job the attempt that has all declared products, what is known of these, and what no attempt has.

    It is 0 where none is declared, and nothing of the job is there.

    :param well: job → its attempts that ended well, the newest first.
    :param products: those that were accepted.
    """
    found: dict[int, int] = {}
    kept: dict[int, dict[str, Kept]] = {}
    missing = gone(row.folder, jobs, products)
    for job in jobs:
        if job.accepted_attempt is not None or not row.products:
            tried = job.attempt if attempt_folder(row.folder, job.job_index, job.attempt).is_dir() else 0
            found[job.job_index] = job.accepted_attempt or tried
            continue
        numbers = well.get(job.job_index, ())
        seen = {n: _looked_at(attempt_folder(row.folder, job.job_index, n), row.products) for n in numbers}
        lacking = {n: [name for name, file in row.products.items() if file not in there] for n, there in seen.items()}
        best = next((n for n, names in lacking.items() if not names), None)
        if best is not None:
            found[job.job_index], kept[job.job_index] = best, seen[best]
        elif not numbers:
            missing += [f"{name} of job {job.job_index} (no attempt of it ended well)" for name in row.products]
        else:
            missing += [f"{name} of job {job.job_index}" for name in lacking[numbers[0]]]
    return found, kept, missing


def _looked_at(folder: Path, products: Mapping[str, str]) -> dict[str, Kept]:
    """File → what is known of it, of those products that are there."""
    found: dict[str, Kept] = {}
    if not folder.is_dir():
        return found
    sums = read_sums(folder)
    for name, file in products.items():
        with suppress(ProductError):
            found[file] = Kept(check_product(folder / "out", name, file), sums.get(file))
    return found


@dataclass(frozen=True)
class Leftover:
    """Jobs that live although nothing wants them."""

    key: RoundKey
    why: str


RECENT = timedelta(days=30)
"""Backends that generations have named for so long are looked at for leftovers."""


def recent_backends(ledger: Ledger, now: datetime) -> list[str]:
    """The backends that may have leftovers: this machine, and those of all generations that run, or ran lately."""
    with ledger.read() as connection:
        return sorted({DEFAULT_BACKEND, *generations.backends_named(connection, now - RECENT)})


def leftovers(ledger: Ledger, backend: Backend) -> list[Leftover]:
    """Rounds with living jobs whose generation has ended, or which this ledger does not know.

    A round unknown to the ledger is reported, never removed: it may belong to another installation.
    """
    found = []
    keys = backend.rounds()
    with ledger.read() as connection:
        states = rounds.states_by_key(connection, keys)
    for key in keys:
        state = states.get(key)
        if state is None:
            found.append(Leftover(key, UNKNOWN))
        elif state == "finished":
            found.append(Leftover(key, "it is over, though its generation is running"))
        elif state != "running":
            found.append(Leftover(key, f"its generation is {state}"))
    return found


def remove_leftovers(backend: Backend, found: list[Leftover]) -> tuple[list[Leftover], list[str]]:
    """Remove those that this ledger knows to be over.

    :returns: what was removed, and the errors.
    """
    removed, errors = [], []
    for item in found:
        if item.why != UNKNOWN:
            try:
                backend.remove(item.key)
                removed.append(item)
            except BackendError as error:
                errors.append(str(error))
    return removed, errors
