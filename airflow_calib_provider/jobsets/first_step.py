"""The beginning of an iteration: its code, its first constants, its first step."""

from __future__ import annotations

from typing import Any, cast

from airflow_calib_provider.domain.iteration.sequence import Next, next_step
from airflow_calib_provider.jobsets.code import Code, code_of, lacks
from airflow_calib_provider.jobsets.context import SPEC_FOLDER, GroupContext
from airflow_calib_provider.jobsets.folders import CONSTANTS_FOLDER, generation_folder
from airflow_calib_provider.jobsets.iteration_plan import RenderedIteration, legs_of, render_phases, start_of
from airflow_calib_provider.jobsets.step_files import keep_start, relative
from airflow_calib_provider.jobsets.step_jobs import planned_of
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Used
from airflow_calib_provider.ledger.steps import Planned, StoredPlan
from airflow_calib_provider.spec.models import Task


def iteration_code(
    task: Task, context: GroupContext, code: Code | None, bundle_version: str | None
) -> tuple[Code, RenderedIteration]:
    """The phases, and where the spec's own files are: the folder itself if they name one that the commit lacks.

    :param code: that of before, if a person wants it to run again as it was.
    """
    found = code or code_of(context.folder, bundle_version)
    rendered = render_phases(task, context, found.folder)
    if code is None and lacks(rendered.named, SPEC_FOLDER, found, context.folder):
        itself = Code(context.folder, f"{found.commit}-dirty")
        return itself, render_phases(task, context, itself.folder)
    return found, rendered


def first_step(
    ledger: Ledger, task: Task, context: GroupContext, rendered: RenderedIteration, folder: str
) -> tuple[StoredPlan, Planned]:
    """How the iteration is made, and the step with which it begins.

    :param folder: of the generations of this task of the group.
    :raises RenderError: there are no constants to begin with.
    :raises ProductError: they cannot be read.
    """
    iteration = task.iteration
    assert iteration is not None
    with ledger.read() as connection:
        start = start_of(connection, iteration.start, context)
    file, digest = keep_start(start.file, generation_folder(folder) / CONSTANTS_FOLDER)
    plan: StoredPlan = {
        "folder": folder,
        "products": dict(task.products),
        "file": iteration.file,
        "start": relative(file),
        "start_hash": digest,
        "origin": dict(start.origin),
        "legs": [list(leg) for leg in iteration.legs],
        "phases": dict(rendered.phases),
    }
    if rendered.workers is not None:
        plan["workers"] = rendered.workers
    following = next_step(legs_of(plan), ())
    assert isinstance(following, Next)
    return plan, planned_of(plan, following, ())


def with_start(used: Used, task: Task, plan: StoredPlan) -> Used:
    """What a generation remembers of what it was made from, with the constants that it began with."""
    more: dict[str, Any] = {"start": {**plan["origin"], "hash": plan["start_hash"]}}
    return cast(Used, {**used, **more})
