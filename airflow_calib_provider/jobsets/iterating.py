"""The watcher takes a generation that iterates from step to step (rule 64).

A step is planned → measuring → frozen → updating → judged. Each of these is one transaction; what comes in between can
be done again by whoever comes after a death, and gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from sqlalchemy.exc import IntegrityError

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.checksums import checksum
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.iteration.detectors import judge
from airflow_calib_provider.domain.iteration.endings import EndingName
from airflow_calib_provider.domain.iteration.metrics import Fault, Reported, read_report
from airflow_calib_provider.domain.iteration.phases import MadeStep
from airflow_calib_provider.domain.iteration.sequence import IterationEnd, Next, next_step
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.domain.reducer import Job, JobState
from airflow_calib_provider.errors import CalibError, IllegalTransition, ProductError
from airflow_calib_provider.jobsets.convergence import picture_of
from airflow_calib_provider.jobsets.ending import describe, jobs_needed, remove_jobs
from airflow_calib_provider.jobsets.folders import generation_folder, job_folder, promote
from airflow_calib_provider.jobsets.iteration_plan import RESULTS_FILE, legs_of, of_step
from airflow_calib_provider.jobsets.judged_steps import judged_as_json, judged_of, phase_begun, reported_as_json
from airflow_calib_provider.jobsets.products import check_product
from airflow_calib_provider.jobsets.reports import told_of_iteration
from airflow_calib_provider.jobsets.step_files import keep_result_file, relative, write_whole
from airflow_calib_provider.jobsets.step_jobs import (
    RESULTS,
    constants_of,
    known_of,
    measured_files,
    planned_of,
    results_text,
    with_contract,
)
from airflow_calib_provider.jobsets.watched import Watched
from airflow_calib_provider.jobsets.worker_pool import NO_WORKER, dismiss, stuck, sweep
from airflow_calib_provider.ledger import generations, steps
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.products import Kept
from airflow_calib_provider.ledger.rows import Definition, Generation
from airflow_calib_provider.ledger.steps import StepRow, StoredPlan
from airflow_calib_provider.spec.language import PICTURE

SHOWN = 20
"""Failed jobs that a reason names."""


def step_on(ledger: Ledger, backend_of: Callable[[str], Backend], watched: Watched, now: datetime) -> None:
    """Take a generation as far through its steps as it goes now.

    :raises BackendError: jobs that are not needed any more could not be removed.
    """
    row = watched.row
    with suppress(IllegalTransition, IntegrityError):  # another watcher was faster, or a person's kill
        with ledger.read() as connection:
            made = steps.steps_of(connection, row.id)
            item = next(one for one in made if one.n == row.step)
            goes_on = item.state in ("measuring", "updating") and not _is_over(watched, row, item)
            why = stuck(watched, item) if goes_on else ""
            if goes_on and not why:
                return
            plan = steps.plan_of(connection, row.id)
        if why:
            reason: Reason = {"code": "error", "message": f"step {item.n}: {why}"}
            _fail(ledger, backend_of, watched, {**reason, "no_worker": True} if NO_WORKER in why else reason, now)
            return
        watched.stale = True
        # What follows from a part that is over needs no look of its own.
        if item.state == "measuring" and _freeze(ledger, backend_of, watched, item, made, now):
            made, item = _again(ledger, row)
        if item.state == "frozen":
            _update(ledger, row, plan, item, made)
        elif item.state == "updating" and _judge(ledger, backend_of, watched, plan, item, made, now):
            made, item = _again(ledger, row)
        if item.state in ("judged", "discarded"):
            _go_on(ledger, backend_of, watched, plan, made, now)


def _again(ledger: Ledger, row: Generation) -> tuple[list[StepRow], StepRow]:
    with ledger.read() as connection:
        made = steps.steps_of(connection, row.id)
    return made, next(one for one in made if one.n == row.step)


def _is_over(watched: Watched, row: Generation, item: StepRow) -> bool:
    """Whether the jobs of a part have come to something; asked first, as most looks find that they have not."""
    live = sum(watched.counts.get(state, 0) for state in generations.LIVE)
    if not live:
        return True
    return item.state == "measuring" and watched.counts.get(JobState.SUCCEEDED, 0) >= jobs_needed(
        row.quorum, item.n_jobs
    )


def _freeze(
    ledger: Ledger,
    backend_of: Callable[[str], Backend],
    watched: Watched,
    item: StepRow,
    made: Sequence[StepRow],
    now: datetime,
) -> bool:
    """:returns: whether it is frozen now; else it has failed."""
    row = watched.row
    jobs = watched.all_jobs()
    good = [job for job in jobs if job.state is JobState.SUCCEEDED]
    others = [job for job in jobs if job.state is not JobState.SUCCEEDED]
    if len(good) < jobs_needed(row.quorum, item.n_jobs):
        reason = _failed_jobs(item, others, item.n_jobs)
        if not good and (maker := _maker(item, made)) is not None:
            reason = {**reason, "made_by": maker}  # to measure again would fail again
        _fail(ledger, backend_of, watched, reason, now)
        return False
    accepted = [(job.index, job.accepted_attempt or 0) for job in good]
    try:
        promote(row.folder, dict(accepted), row.group_name)
    except ProductError as error:
        _fail(ledger, backend_of, watched, {"code": "error", "message": str(error)}, now)
        return False
    if any(not job.state.final for job in others):
        remove_jobs(backend_of(row.backend), watched.rounds)
    crash_point("step.before_freeze", row.group_name)
    with ledger.write() as connection:
        left_out = {job.index: describe(job) for job in others}
        steps.freeze(connection, row, item, accepted, left_out, now)
    crash_point("step.after_freeze", row.group_name)
    return True


def _maker(item: StepRow, made: Sequence[StepRow]) -> int | None:
    """The step whose update made the constants that a step measures with; ``None``: they are the first ones."""
    return next((one.n for one in made if one.n < item.n and one.updated == item.constants), None)


def _failed_jobs(item: StepRow, failed: Sequence[Job], n_jobs: int) -> Reason:
    return {
        "code": "jobs_failed",
        "n_failed": len(failed),
        "n_jobs": n_jobs,
        "failed": [[job.index, describe(job)] for job in failed[:SHOWN]],
        "step": item.n,
        "stage": item.stage,
        "phase": item.phase,
    }


BackendOf = Callable[[str], Backend]


def _fail(ledger: Ledger, backend_of: BackendOf, watched: Watched, reason: Reason, now: datetime) -> None:
    row = watched.row
    watched.stale = True
    if any(state in generations.LIVE for state in watched.counts):
        remove_jobs(backend_of(row.backend), watched.rounds)
    dismiss(backend_of(row.backend), watched)
    with ledger.write() as connection:
        generations.end(connection, row, "failed", reason, now)
    sweep(ledger, backend_of(row.backend), watched)


# the update


def _update(ledger: Ledger, row: Generation, plan: StoredPlan, item: StepRow, made: Sequence[StepRow]) -> None:
    """What is frozen stands in a file, which the update reads."""
    folder = generation_folder(row.folder)
    phase = plan["phases"][item.phase]
    write_whole(folder / RESULTS, results_text(item, phase["measure"], row.folder), durable=True)
    known = {**known_of(plan, item, made), RESULTS_FILE: str(folder / RESULTS)}
    definitions = with_contract(of_step(phase["update"]["definitions"], known), known, item.constants_hash)
    measured = measured_files(item, phase["measure"], row.folder)
    if measured and not phase["update"]["inputs"]:
        for definition in definitions:
            definition["inputs"] = measured
    crash_point("step.before_update", row.group_name)
    with ledger.write() as connection:
        steps.start_update(connection, row, item, plan, definitions)
    crash_point("step.after_update", row.group_name)


# judging


def _judge(
    ledger: Ledger,
    backend_of: BackendOf,
    watched: Watched,
    plan: StoredPlan,
    item: StepRow,
    made: Sequence[StepRow],
    now: datetime,
) -> bool:
    """:returns: whether it is judged now; else it has failed."""
    row = watched.row
    job = watched.jobs_of([item.n_jobs])[item.n_jobs]
    if job.state is not JobState.SUCCEEDED:
        _fail(ledger, backend_of, watched, {**_failed_jobs(item, [job], 1), "update": True}, now)
        return False
    try:
        promote(row.folder, {job.index: job.accepted_attempt or 0}, row.group_name)
        folder = job_folder(row.folder, job.index)
        updated = folder / "out" / plan["file"]
        if updated.is_dir():
            raise ProductError(f"{plan['file']} is a folder, and constants are one file")
        digest = checksum(updated)
        report = told_of_iteration(folder / "report.jsonl")
    except (ProductError, OSError) as error:
        _fail(ledger, backend_of, watched, {"code": "error", "message": f"step {item.n}: {error}"}, now)
        return False
    legs = legs_of(plan)
    phase = legs.legs[legs.index(item.stage, item.phase)].phase
    outcome: Reported | Fault = Reported()
    if report is None and (phase.metrics or phase.verdict):
        what = "no metrics" if phase.metrics else "no verdict"
        told = what if (folder / "report.jsonl").is_file() else "nothing"
        such = '"verdict": "iterate"' if phase.verdict else '"metrics": {"<name>": {"value": 91.1}}'
        said = f"its update has told {told} in CALIB_REPORT, such as {{{such}}}"
        outcome = Fault(EndingName.FAILED, said)
    elif report is not None:
        outcome = read_report(report, phase.metrics, verdict=phase.verdict)
    begun = phase_begun(item, made)
    of_now = MadeStep(
        n=item.n,
        stage=item.stage,
        phase=item.phase,
        visit=item.visit,
        outcome=outcome,
        constants_in=item.constants_hash,
        constants_out=digest,
        events=item.events,
        seconds=(now - begun).total_seconds(),
    )
    judged = judge(phase, [judged_of(one) for one in made if one.state == "judged"], of_now)
    kept = relative(updated)
    crash_point("step.before_judge", row.group_name)
    with ledger.write() as connection:
        steps.note_judged(connection, row, item, kept, digest, reported_as_json(outcome), judged_as_json(judged), now)
    crash_point("step.after_judge", row.group_name)
    return True


# what follows


def _go_on(
    ledger: Ledger,
    backend_of: BackendOf,
    watched: Watched,
    plan: StoredPlan,
    made: Sequence[StepRow],
    now: datetime,
) -> None:
    row = watched.row
    judged = [judged_of(one) for one in made if one.judged is not None]
    try:
        following = next_step(legs_of(plan), judged, taken=max(one.n for one in made))
    except CalibError as error:
        _fail(ledger, backend_of, watched, {"code": "error", "message": str(error)}, now)
        return
    if isinstance(following, Next):
        planned = planned_of(plan, following, made)
        crash_point("step.before_next", row.group_name)
        with ledger.write() as connection:
            steps.open_step(connection, row, plan, planned, now)
        crash_point("step.after_next", row.group_name)
        return
    reason = following.reason()
    if following.result is None:
        with suppress(OSError):  # which nobody waits for
            write_whole(generation_folder(plan["folder"]) / PICTURE, picture_of(plan, made))
        _fail(ledger, backend_of, watched, reason, now)
        return
    _end(ledger, backend_of, watched, plan, following, made, now)


def _end(
    ledger: Ledger,
    backend_of: BackendOf,
    watched: Watched,
    plan: StoredPlan,
    ending: IterationEnd,
    made: Sequence[StepRow],
    now: datetime,
) -> None:
    """The constants that the iteration ends with become its product, as if one job had made them."""
    row = watched.row
    file, digest = constants_of(plan, ending.result, made)
    source = generation_folder(file)
    try:
        if checksum(source) != digest:
            raise ProductError(f"the constants of {row.group_name} are not what they were", f"see {source}")
        out = keep_result_file(plan["folder"], plan["file"], source, row.group_name, picture_of(plan, made))
        kept = {
            made_file: Kept(check_product(out, name, made_file), checksum(out / made_file))
            for name, made_file in plan["products"].items()
        }
    except (ProductError, OSError) as error:
        _fail(ledger, backend_of, watched, {"code": "error", "message": str(error)}, now)
        return
    last = next(one for one in reversed(made) if one.state == "judged")
    metrics = (last.report or {}).get("metrics", {})
    values = [(name, float(one["value"]), one["error"]) for name, one in metrics.items()]
    definition: Definition = {
        "command": [],
        "environment": {},
        "inputs": None,
        "cpus": 1,
        "memory": None,
        "disk": None,
        "timeout": None,
    }
    counted = sum(1 for one in made if one.state == "judged")
    reason = {**ending.reason(), "steps": counted, "ends": [end.reason() for end in ending.ends]}
    dismiss(backend_of(row.backend), watched)
    crash_point("generation.before_done", row.group_name)
    with ledger.write() as connection:
        steps.keep_result(connection, row, plan, definition, kept, values, now)
        generations.end(connection, generations.by_id(connection, row.id), "done", reason, now)
    crash_point("generation.after_done", row.group_name)
    sweep(ledger, backend_of(row.backend), watched)
