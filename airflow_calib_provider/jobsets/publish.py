"""Publication of a group's constants, with where they come from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from airflow_calib_provider.checksums import checksum
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.iteration.endings import EndingName
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import NotWithdrawn, PayloadError, ProductError
from airflow_calib_provider.jobsets.begin import stated_params
from airflow_calib_provider.jobsets.context import GroupContext, gather
from airflow_calib_provider.jobsets.inputs import remedy, why_dropped
from airflow_calib_provider.jobsets.products import check_published
from airflow_calib_provider.jobsets.render import git_commit
from airflow_calib_provider.jobsets.validating import validation_of
from airflow_calib_provider.kinds import DEFAULT_STORE
from airflow_calib_provider.ledger import steps, tables
from airflow_calib_provider.ledger.campaign_view import as_run
from airflow_calib_provider.ledger.campaigns import PROMPT
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import ensure_task, group_by_id
from airflow_calib_provider.ledger.payload_states import PUBLISHING, UNPUBLISHED
from airflow_calib_provider.ledger.publications import on_their_way
from airflow_calib_provider.ledger.rows import Campaign
from airflow_calib_provider.ledger.starting import standing_of
from airflow_calib_provider.payloads import intents
from airflow_calib_provider.payloads.base import payload_store
from airflow_calib_provider.payloads.life import (
    AWAITS,
    Conditions,
    advance,
    by_id,
    end_others,
    not_published,
    note,
    why_held,
)
from airflow_calib_provider.payloads.publication import carry_out
from airflow_calib_provider.payloads.store import EXTENDS, Published, make_all_valid, note_task, publish
from airflow_calib_provider.payloads.unchanged import extended, skip
from airflow_calib_provider.settings import products_folder
from airflow_calib_provider.spec.language import PRESET
from airflow_calib_provider.spec.models import Publish as Publication
from airflow_calib_provider.spec.models import Task, Workflow
from airflow_calib_provider.spec.overrides import OUTSIDE
from airflow_calib_provider.spec.templates import render_value

ITERATION_UNCHANGED = f"iteration_{EndingName.NO_CHANGE.value}"
"""The code of the reason of an iteration that has changed nothing."""


def publish_group(
    ledger: Ledger,
    workflow: Workflow,
    task: Task,
    group_id: int,
    *,
    now: datetime,
    params: Mapping[str, object] | None = None,
) -> Published:
    """Publish the file that a task names, for the runs of a group; or propose it, where persons must approve it.

    :returns: with a reason, if it waits for these.
    :raises NotPublished: its validation does not allow it; the candidate is there.
    :raises PayloadError: see :func:`airflow_calib_provider.payloads.store.publish`.
    :raises RenderError: the file's template cannot be rendered.
    :raises NotOpen: the group is not closed, a lock is not open, or a task of its own DAG that it needs is not done.
    """
    finish(ledger, group_id, task.name)
    with ledger.read() as connection:
        campaign = standing_of(connection, group_id, task.name).campaign
        flow = as_run(connection, campaign, workflow)
    params, workflow, task = stated_params(workflow, params), flow, flow.tasks[task.name]
    assert task.publish is not None
    with ledger.write() as connection:
        ensure_task(connection, workflow, group_id, task, now)
    with ledger.read() as connection:
        context = gather(connection, workflow, task, group_id, params, now=now)
        provenance = _provenance(connection, workflow, context, campaign)
        files = [
            (tag, _inside_products(render_value(file, context.variables), context)) for tag, file in task.publish.files
        ]
        conditions = _conditions(connection, workflow, task.publish, context, [file for _, file in files], campaign)
    if workflow.presets:
        provenance["preset"] = params.get(PRESET, workflow.preset)
    unchanged = _unchanged(ledger, workflow, task, context, provenance, files, now)
    if isinstance(unchanged, Published):
        return unchanged
    default = _default(task.publish, context)
    made = []
    for tag, file in files:
        stores = stores_of(workflow.name, task.publish, tag, campaign, default)
        more = {**provenance, **({intents.STORES: stores} if stores else {}), **unchanged.get(tag, {})}
        made.append(_one(ledger, workflow, task, context, more, tag, file, conditions, now))
    with ledger.write() as connection:
        end_others(connection, group_id, task.name, task.publish.tags, now)
    for one in made:
        if one.reason is not None and one.reason["code"] != AWAITS:
            raise not_published(one.reason)
    if any(one.reason is not None for one in made):
        made = _asked_first(ledger, group_id, made, now)
    elif conditions is not None and conditions.together:
        made = _together(ledger, group_id, made, now)
    return as_it_is(ledger, made, finish(ledger, group_id, task.name))


def _unchanged(
    ledger: Ledger,
    workflow: Workflow,
    task: Task,
    context: GroupContext,
    provenance: Mapping[str, Any],
    files: Sequence[tuple[str, Path]],
    now: datetime,
) -> Published | dict[str, dict[str, object]]:
    """What becomes of content that the payloads before the group have, too.

    :returns: how the task has ended, if nothing is published; else, of each tag that extends one, what its provenance
        says.
    """
    assert task.publish is not None
    endings = [one.get("iteration", {}).get("code") for one in provenance["made_by"]]
    wanted = task.publish.no_change or ("extend" if ITERATION_UNCHANGED in endings else "publish")
    if wanted == "publish":
        return {}
    contents = {tag: checksum(file) for tag, file in files}
    with ledger.read() as connection:
        group = group_by_id(connection, context.group_id)
        found = {tag: extended(connection, group, tag, digest) for tag, digest in contents.items()}
    if wanted == "skip" and all(found.values()):
        ended = skip(
            ledger,
            group.id,
            task.name,
            contents,
            before=workflow.names_inside(task),
            now=now,
            edition=group.edition,
            failed_runs=context.failed_runs,
        )
        if ended is not None:
            return ended
    return {tag: {EXTENDS: one} for tag, one in found.items() if one is not None}


def _one(
    ledger: Ledger,
    workflow: Workflow,
    task: Task,
    context: GroupContext,
    provenance: Mapping[str, object],
    tag: str,
    file: Path,
    conditions: Conditions | None,
    now: datetime,
) -> Published:
    """A payload, as far as it goes by itself."""
    assert task.publish is not None
    with ledger.read() as connection:
        group = group_by_id(connection, context.group_id)
    return publish(
        ledger,
        tag=tag,
        file=file,
        group_id=group.id,
        task=task.name,
        iov=Iov(*group.span),
        provenance=provenance,
        before=workflow.names_inside(task),
        now=now,
        store=task.publish.store,
        edition=group.edition,
        failed_runs=context.failed_runs,
        then=(lambda at, of, made: advance(at, of, made, conditions, now)) if conditions is not None else None,
    )


def _together(ledger: Ledger, group_id: int, made: Sequence[Published], now: datetime) -> list[Published]:
    """Publish a set at once, or let it be on its way; what is published already stays."""
    with ledger.write() as connection:
        group = group_by_id(connection, group_id)
        rows = [by_id(connection, one.payload_id) for one in made]
        due = [row for row in rows if row.state in UNPUBLISHED and row.state != PUBLISHING]
        if due and not group.late:
            states = {row.id: row.state for row in make_all_valid(connection, group, due, now)}
            made = [replace(one, state=states.get(one.payload_id, one.state)) for one in made]
            # The task is done once, whatever the set has.
            note_task(connection, group_id, rows[0].task, next(one for one in made if one.payload_id in states), now)
    return list(made)


def _asked_first(ledger: Ledger, group_id: int, made: Sequence[Published], now: datetime) -> list[Published]:
    """A set that persons are asked about: what waits for them comes before what is published as it is."""
    found = sorted(made, key=lambda one: one.reason is None)
    if found[-1].reason is None:  # the task was taken for done with that
        with ledger.write() as connection:
            row = by_id(connection, found[0].payload_id)
            note(connection, group_by_id(connection, group_id), row, found[0], now)
    return found


def as_it_is(ledger: Ledger, made: Sequence[Published], taken_further: bool) -> Published:
    """The first of a set, with the rest of it, as it is after what was on its way was taken further."""
    first, *rest = (one for top in made for one in (replace(top, rest=()), *top.rest))
    if taken_further:
        with ledger.read() as connection:
            rows = {one.payload_id: by_id(connection, one.payload_id) for one in (first, *rest)}
        first, *rest = (
            replace(one, state=(row := rows[one.payload_id]).state, reason=why_held(row)) for one in (first, *rest)
        )
    return replace(first, new=any(one.new for one in (first, *rest)), rest=tuple(rest))


def finish(ledger: Ledger, group_id: int, task: str) -> bool:
    """Take further what a task has on its way to outside stores.

    :returns: whether there was anything.
    :raises PayloadStoreDown: it is not whole yet: try again.
    :raises NotPublished: a store has refused it.
    """
    with ledger.read() as connection:
        keys = on_their_way(connection, group_id, task)
    for key in keys:
        with suppress(NotWithdrawn):  # it holds as before, and that is told where a person looks who has wanted it
            carry_out(ledger, key, lambda: datetime.now(UTC))
    return bool(keys)


def stores_of(
    workflow: str, publication: Publication, tag: str, campaign: Campaign, default: tuple[str, str] | None
) -> list[dict[str, Any]]:
    """The outside stores that a payload is published to, for its provenance.

    Only ``prompt`` writes to the tags that a spec names; another campaign to those that it was created with (rule 54).
    """
    own = campaign.overrides.get(workflow, {}).get(OUTSIDE + tag)
    if campaign.name != PROMPT and not own:
        return []
    more: dict[str, Any] = {
        **{"after": publication.after, "default": default},
        **{"refuse_gaps": publication.refuse_gaps, "protect": publication.protect},
    }
    return [intents.Target(one.store, str(own or one.tag or tag), **more).as_dict() for one in publication.stores]


def _default(publication: Publication, context: GroupContext) -> tuple[str, str] | None:
    """Name and hash of what holds behind a group, which is kept where payloads are."""
    if publication.after != "default" or not publication.stores:
        return None
    rendered = str(render_value(publication.default_file, context.variables))
    digest, _ = payload_store(DEFAULT_STORE).keep(Path(rendered))
    return Path(rendered).name, digest


def _conditions(
    connection: Connection,
    workflow: Workflow,
    publication: Publication,
    context: GroupContext,
    files: Sequence[Path],
    campaign: Campaign,
) -> Conditions | None:
    """What must hold before; ``None``: nothing, it is published at once."""
    goes_out = bool(stores_of(workflow.name, publication, publication.tag, campaign, None))
    together = bool(publication.more) or (goes_out and not publication.asks_persons)
    if publication.validated_by is None and publication.approve is None and not together:
        return None
    validation = None
    if publication.validated_by is not None:
        by = workflow.tasks[publication.validated_by]
        validation = validation_of(connection, workflow, by, context, files)
    return Conditions(validation, publication.approve, together)


def _inside_products(rendered: object, context: GroupContext) -> Path:
    if not isinstance(rendered, str):
        raise PayloadError(f"publish.file must come to one file, not to {rendered!r}"[:300])
    if rendered in context.dropped:
        raise PayloadError(f"{rendered} {why_dropped(context.dropped[rendered])}", remedy(rendered))
    root = Path(os.path.abspath(products_folder()))  # noqa: PTH100 - Path.absolute keeps ".."
    path = Path(os.path.abspath(rendered))  # noqa: PTH100
    if not path.is_relative_to(root):
        raise PayloadError(f"{rendered} is not a product: it lies outside {products_folder()}")
    try:
        return check_published(root, path, rendered)
    except ProductError as error:
        raise PayloadError(error.message, error.hint) from error


def _provenance(
    connection: Connection, workflow: Workflow, context: GroupContext, campaign: Campaign
) -> dict[str, object]:
    """Rule 25's provenance: what made it, out of what, and what was left out."""
    generation, job = tables.generation, tables.job
    ids = [number for listed in context.used["generations"].values() for number in listed]
    rows = connection.execute(
        select(generation).where(tables.one_of(generation.c.id, ids)).order_by(generation.c.id)
    ).all()
    # Of what iterates step 0 is the result; its steps are told below.
    jobs = connection.execute(
        select(job.c.generation_id, job.c.job_index, job.c.state, job.c.accepted_attempt, job.c.host).where(
            tables.one_of(job.c.generation_id, ids), job.c.step == 0
        )
    ).all()
    commits = _commits(connection, ids)
    made_by = [
        {
            "id": row.id,
            "task": row.task,
            "generation": row.n,
            "spec_hash": row.spec_hash,
            "git_commit": row.git_commit,
            "git_commits": commits.get(row.id, []),
            "inputs": row.inputs,
            "excluded_runs": row.excluded_runs,
            "used": row.used,
            "jobs": [
                {"job": item.job_index, "state": item.state, "attempt": item.accepted_attempt, "host": item.host}
                for item in jobs
                if item.generation_id == row.id
            ],
            **_iteration(connection, row),
        }
        for row in rows
    ]
    excluded = sorted({*context.excluded_runs, *(run for row in rows for run in row.excluded_runs)})
    not_selected = context.used.get("not_selected", {})
    gone_on = context.used.get("gone_on", [])
    without = {*excluded, *(run for runs in not_selected.values() for run in runs)}
    return {
        "campaign": context.campaign,
        "workflow": workflow.name,
        "group": context.group,
        "runs": [run for run in context.runs if run not in without],
        "excluded_runs": excluded,
        **({"failed_runs": failed} if (failed := context.used.get("failed_runs")) else {}),
        **({"not_selected_runs": not_selected} if not_selected else {}),
        **({"gone_on": gone_on} if gone_on else {}),
        **_of_campaign(campaign, workflow.name),
        **_amendments(connection, context.group_id),
        "spec_hash": workflow.hash,
        "git_commit": git_commit(Path(workflow.file).resolve().parent),
        "made_by": made_by,
    }


def _iteration(connection: Connection, row: Row[Any]) -> dict[str, object]:
    """How what iterated has ended, and what each step rests on."""
    if not str((row.reason or {}).get("code", "")).startswith("iteration_"):
        return {}
    made = [
        {
            **{"step": one.n, "stage": one.stage, "phase": one.phase, "constants": one.constants_hash},
            **{"accepted": len(one.accepted or ()), "left_out": dict(one.left_out or {}), "events": one.events},
            "metrics": (one.report or {}).get("metrics", {}),
        }
        for one in steps.steps_of(connection, row.id)
        if one.state == "judged"
    ]
    return {"iteration": {**row.reason, "said": render(row.reason), "made": made}}


def _amendments(connection: Connection, group_id: int) -> dict[str, object]:
    """Who has amended the group, and why."""
    table = tables.group_edition
    columns = (table.c.n, table.c.at, table.c.person, table.c.reason, table.c.added, table.c.removed)
    rows = connection.execute(select(*columns).where(table.c.group_id == group_id).order_by(table.c.n)).all()
    said = [
        {
            **{"edition": row.n, "at": row.at.isoformat(), "person": row.person, "reason": row.reason},
            **{"added": row.added, "removed": row.removed},
        }
        for row in rows
    ]
    return {"edition": rows[-1].n, "amendments": said} if rows else {}


def _of_campaign(campaign: Campaign, workflow: str) -> dict[str, object]:
    """What a campaign sets otherwise, and what it took from its base."""
    said: dict[str, object] = {}
    if overrides := campaign.overrides.get(workflow):
        said["overrides"] = dict(overrides)
    if begin := campaign.first_tasks.get(workflow):
        said |= {"first_tasks": begin["first"], "base_campaign": campaign.base_campaign}
    return said


def _commits(connection: Connection, generation_ids: Sequence[int]) -> dict[int, list[str]]:
    """The commits of the accepted attempts of each generation."""
    job, attempt, round_ = tables.job, tables.attempt, tables.round_
    of_job = and_(
        attempt.c.generation_id == job.c.generation_id,
        attempt.c.step == job.c.step,
        attempt.c.job_index == job.c.job_index,
        attempt.c.n == job.c.accepted_attempt,
    )
    of_attempt = and_(
        round_.c.generation_id == attempt.c.generation_id,
        round_.c.step == attempt.c.step,
        round_.c.n == attempt.c.round,
    )
    rows = connection.execute(
        select(job.c.generation_id, round_.c.git_commit)
        .join(attempt, of_job)
        .join(round_, of_attempt)
        .where(tables.one_of(job.c.generation_id, generation_ids), round_.c.git_commit.is_not(None))
        .distinct()
        .order_by(job.c.generation_id, round_.c.git_commit)
    ).all()
    found: dict[int, list[str]] = {}
    for row in rows:
        found.setdefault(row.generation_id, []).append(row.git_commit)
    return found
