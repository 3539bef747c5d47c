"""The watcher takes a generation that iterates from step to step (rule 64).

A step is planned → measuring → frozen → updating → judged. Each of these is one transaction; what comes in between can
be done again by whoever comes after a death, and gives the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy.exc import IntegrityError

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.checksums import checksum
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.iteration.detectors import judge
from airflow_calib_provider.domain.iteration.endings import ConstantsOf, EndingName, PhaseEnd
from airflow_calib_provider.domain.iteration.metrics import Fault, Measured, Reported, read_report
from airflow_calib_provider.domain.iteration.phases import JudgedStep, MadeStep
from airflow_calib_provider.domain.iteration.sequence import IterationEnd, Next, next_step
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.domain.reducer import Job, JobState
from airflow_calib_provider.errors import CalibError, IllegalTransition, ProductError
from airflow_calib_provider.jobsets.ending import describe, jobs_needed, remove_jobs
from airflow_calib_provider.jobsets.folders import generation_folder, job_folder, promote
from airflow_calib_provider.jobsets.iteration_plan import (
    CONSTANTS,
    KEPT,
    RESULTS_FILE,
    STAGE,
    STEP,
    VISIT,
    legs_of,
    of_step,
    product_of,
    results_of,
)
from airflow_calib_provider.jobsets.products import check_product
from airflow_calib_provider.jobsets.reports import told_of_iteration
from airflow_calib_provider.jobsets.step_files import keep_result_file, relative, write_whole
from airflow_calib_provider.jobsets.watched import Watched
from airflow_calib_provider.jobsets.worker_pool import dismiss, is_out_of_workers
from airflow_calib_provider.ledger import generations, steps
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.products import Kept
from airflow_calib_provider.ledger.rows import Definition, Generation
from airflow_calib_provider.ledger.steps import PhasePart, Planned, StepRow, StoredPlan

RESULTS = "results.json"
"""In the folder of a step: what its update is made of."""

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
            stuck = is_out_of_workers(watched) if goes_on else ""
            if goes_on and not stuck:
                return
            plan = steps.plan_of(connection, row.id)
        if stuck:
            _fail(ledger, backend_of, watched, {"code": "error", "message": f"step {item.n}: {stuck}"}, now)
            return
        watched.stale = True
        # What follows from a part that is over needs no look of its own.
        if item.state == "measuring" and _freeze(ledger, backend_of, watched, item, now):
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
    ledger: Ledger, backend_of: Callable[[str], Backend], watched: Watched, item: StepRow, now: datetime
) -> bool:
    """:returns: whether it is frozen now; else it has failed."""
    row = watched.row
    jobs = watched.all_jobs()
    good = [job for job in jobs if job.state is JobState.SUCCEEDED]
    others = [job for job in jobs if job.state is not JobState.SUCCEEDED]
    if len(good) < jobs_needed(row.quorum, item.n_jobs):
        _fail(ledger, backend_of, watched, _failed_jobs(item, others, item.n_jobs), now)
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


# the update


def _update(ledger: Ledger, row: Generation, plan: StoredPlan, item: StepRow, made: Sequence[StepRow]) -> None:
    """What is frozen stands in a file, which the update reads."""
    folder = generation_folder(row.folder)
    phase = plan["phases"][item.phase]
    write_whole(folder / RESULTS, _results(item, phase["measure"], row.folder))
    known = {**_known(plan, item, made), RESULTS_FILE: str(folder / RESULTS)}
    definitions = _with_contract(of_step(phase["update"]["definitions"], known), known)
    measured = _measured(item, phase["measure"], row.folder)
    if measured and not phase["update"]["inputs"]:
        for definition in definitions:
            definition["inputs"] = measured
    crash_point("step.before_update", row.group_name)
    with ledger.write() as connection:
        steps.start_update(connection, row, item, plan, definitions)
    crash_point("step.after_update", row.group_name)


def _results(item: StepRow, measure: PhasePart, folder: str) -> str:
    results = []
    for index, attempt in item.accepted or ():
        out = job_folder(folder, index) / "out"
        products = {name: str(out / file) for name, file in measure["products"].items()}
        results.append({"job": index, "attempt": attempt, "folder": str(out), "products": products})
    about = {"step": item.n, "stage": item.stage, "phase": item.phase, "visit": item.visit, "events": item.events}
    left_out = [{"job": int(index), "why": why} for index, why in (item.left_out or {}).items()]
    constants = str(generation_folder(item.constants))
    return json.dumps({**about, "constants": constants, "results": results, "left_out": left_out}, indent=1) + "\n"


def _measured(item: StepRow, measure: PhasePart, folder: str) -> list[str]:
    """The files that are used, as the inputs of an update that has no others."""
    outs = [job_folder(folder, index) / "out" for index, _ in item.accepted or ()]
    return [str(out / file) for out in outs for file in measure["products"].values()]


def _known(plan: StoredPlan, item: StepRow | Planned, made: Sequence[StepRow]) -> dict[str, str]:
    """What the marks of a step stand for."""
    known = {
        CONSTANTS: str(generation_folder(item.constants)),
        STEP: str(item.n),
        VISIT: str(item.visit),
        STAGE: str(item.stage),
        KEPT: ",".join(item.kept),
    }
    for one in made:
        if one.n >= item.n or one.state == "discarded":
            continue
        folder = steps.folder_of(plan["folder"], one.n)
        known[results_of(one.phase)] = str(generation_folder(folder) / RESULTS)
        if one.state == "judged":
            out = job_folder(folder, one.n_jobs) / "out"
            for name, file in plan["phases"][one.phase]["update"]["products"].items():
                known[product_of(one.phase, name)] = str(out / file)
    return known


def _with_contract(definitions: Iterable[Definition], known: Mapping[str, str]) -> list[Definition]:
    """With the variables that jobs of a step have besides."""
    told = {
        "CALIB_CONSTANTS": known[CONSTANTS],
        "CALIB_STEP": known[STEP],
        **({"CALIB_RESULTS_FILE": known[RESULTS_FILE]} if RESULTS_FILE in known else {}),
    }
    made: list[Definition] = []
    for one in definitions:
        changed: Definition = {**one, "environment": {**one["environment"], **told}}
        # Where files are transferred, these go with the job.
        own = [known[mark] for mark in (CONSTANTS, RESULTS_FILE) if mark in known]
        changed["files"] = [*one.get("files", ()), *own]
        made.append(changed)
    return made


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
        digest = checksum(updated)
        report = told_of_iteration(folder / "report.jsonl")
    except (ProductError, OSError) as error:
        _fail(ledger, backend_of, watched, {"code": "error", "message": f"step {item.n}: {error}"}, now)
        return False
    legs = legs_of(plan)
    phase = legs.legs[legs.index(item.stage, item.phase)].phase
    outcome: Reported | Fault = Reported()
    if report is None and (phase.metrics or phase.verdict):
        said = 'its update has told nothing in CALIB_REPORT, such as {"metrics": {"<name>": {"value": 91.1}}}'
        outcome = Fault(EndingName.FAILED, said)
    elif report is not None:
        outcome = read_report(report, phase.metrics, verdict=phase.verdict)
    begun = _begun(item, made)
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
        steps.note_judged(connection, row, item, kept, digest, _as_reported(outcome), _as_judged(judged), now)
    crash_point("step.after_judge", row.group_name)
    return True


def _begun(item: StepRow, made: Sequence[StepRow]) -> datetime:
    """When the phase began, or was resumed."""
    begun = item.planned_at
    for one in reversed(made):
        if one.n >= item.n or one.state == "discarded":
            continue
        if (one.stage, one.phase) != (item.stage, item.phase) or (one.judged or {}).get("resumed"):
            break
        begun = one.planned_at
    return begun


def _as_reported(outcome: Reported | Fault) -> dict[str, Any]:
    if isinstance(outcome, Fault):
        return {"fault": outcome.name.value, "said": outcome.said}
    metrics = {name: {"value": one.value, "error": one.error} for name, one in outcome.metrics.items()}
    return {"metrics": metrics, **({"verdict": outcome.verdict} if outcome.verdict is not None else {})}


def _as_judged(step: JudgedStep) -> dict[str, Any]:
    found = {"deviations": dict(step.deviations), "u": step.u, "worst": step.worst, "frozen": list(step.frozen)}
    return {**found, "ended": None if step.ended is None else asdict(step.ended)}


def judged_of(item: StepRow) -> JudgedStep:
    """A judged step, as its row keeps it."""
    report, judged = item.report or {}, item.judged or {}
    outcome: Reported | Fault
    if "fault" in report:
        outcome = Fault(EndingName(report["fault"]), report["said"])
    else:
        metrics = {name: Measured(one["value"], one["error"]) for name, one in report.get("metrics", {}).items()}
        outcome = Reported(metrics, report.get("verdict"))
    made = MadeStep(
        item.n,
        item.stage,
        item.phase,
        item.visit,
        outcome,
        item.constants_hash,
        item.updated_hash or "",
        item.events,
    )
    ended = judged.get("ended")
    return JudgedStep(
        made,
        deviations=judged.get("deviations", {}),
        u=judged.get("u"),
        worst=judged.get("worst"),
        frozen=tuple(judged.get("frozen", ())),
        ended=None if ended is None else _ended_of(ended),
        resumed=bool(judged.get("resumed")),
        discarded=item.state == "discarded",
    )


def _ended_of(stored: Mapping[str, Any]) -> PhaseEnd:
    result = stored["result"]
    constants = None if result is None else ConstantsOf(result["step"], updated=result["updated"])
    return PhaseEnd(**{**stored, "name": EndingName(stored["name"]), "result": constants})


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
        _fail(ledger, backend_of, watched, reason, now)
        return
    _end(ledger, backend_of, watched, plan, following, made, now)


def planned_of(plan: StoredPlan, following: Next, made: Sequence[StepRow]) -> Planned:
    """A step that is to be made, with its jobs."""
    file, digest = constants_of(plan, following.constants, made)
    place = Planned(following.n, following.stage, following.phase, following.visit, file, digest, following.frozen, ())
    known = _known(plan, place, made)
    definitions = of_step(plan["phases"][following.phase]["measure"]["definitions"], known)
    return place._replace(definitions=_with_contract(definitions, known))


def constants_of(plan: StoredPlan, which: ConstantsOf | None, made: Sequence[StepRow]) -> tuple[str, str]:
    """A file of constants, relative to the products folder, and its hash."""
    if which is None:
        return plan["start"], plan["start_hash"]
    item = next(one for one in made if one.n == which.step)
    if not which.updated:
        return item.constants, item.constants_hash
    assert item.updated is not None
    assert item.updated_hash is not None
    return item.updated, item.updated_hash


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
        out = keep_result_file(plan["folder"], plan["file"], source, row.group_name)
        sizes = {made_file: check_product(out, name, made_file) for name, made_file in plan["products"].items()}
    except (ProductError, OSError) as error:
        _fail(ledger, backend_of, watched, {"code": "error", "message": str(error)}, now)
        return
    last = next(one for one in reversed(made) if one.state == "judged")
    metrics = (last.report or {}).get("metrics", {})
    values = [(name, float(one["value"]), one["error"]) for name, one in metrics.items()]
    kept = {name: Kept(size, digest) for name, size in sizes.items()}
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
