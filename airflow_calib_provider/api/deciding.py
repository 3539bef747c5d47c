"""What a person decides about runs: they are recorded by hand, or skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from airflow_calib_provider.api.reading import PROMPT, check_names
from airflow_calib_provider.domain.listing import listed, of_runs
from airflow_calib_provider.errors import CalibError, CommandLineError, NotFound
from airflow_calib_provider.ledger import campaigns, skips, sources, tables
from airflow_calib_provider.ledger.campaign_view import taken_from
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import find_group
from airflow_calib_provider.ledger.locks.base import parameter
from airflow_calib_provider.ledger.names import known_as
from airflow_calib_provider.spec.language import SOURCES_FILE

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.skips import Settled

LONGEST_REASON = 1_000
"""Characters; it is copied to every run, event and payload that it concerns."""


@dataclass(frozen=True)
class Skipped:
    """What was skipped in a workflow.

    :ivar task: for which task; ``None``: for all of them.
    :ivar runs: those that were not skipped before.
    :ivar notes: for whom the skip comes too late, in words.
    """

    workflow: str
    task: str | None
    runs: Sequence[int]
    notes: Sequence[str]


def skip_runs(
    ledger: Ledger,
    what: int | str,
    *,
    reason: str,
    person: str = "",
    campaign: str = PROMPT,
    workflow: str | None = None,
    task: str | None = None,
    source: str | None = None,
) -> list[Skipped]:
    """Take a run, or all of a group, out of what groups wait for, and let the horizon pass it. It cannot be taken back.

    :param what: a run, or a group's name.
    :param workflow: only there; else in every workflow of the run's source.
    :param task: only for this task.
    :raises NotFound: there is no such campaign, workflow, task, group or run.
    :raises CalibError: no reason is given, or the campaign does not run the task.
    """
    if not reason.strip():
        raise CalibError("a skip needs a reason", "it is recorded in every payload that is made without the run")
    if len(reason) > LONGEST_REASON:
        raise CalibError(f"a reason of more than {LONGEST_REASON:,} characters", "name the place of the full story")
    with ledger.read() as connection:
        check_names(connection, campaign, workflow, source=source)
        runs, workflows = _skipped_where(connection, campaign, workflow, source, what, task)
        _refuse_of_base(connection, campaign, workflows, task)
    found = []
    for name in workflows:
        with ledger.read() as connection:
            late = skips.settled(connection, campaign, name, runs, task or "")
        new = skips.add_many(
            ledger,
            campaign,
            name,
            runs,
            task=task or "",
            reason=reason.strip(),
            person=person,
            now=datetime.now(UTC),
        )
        found.append(Skipped(name, task, new, _notes(name, new, late)))
    return found


def _refuse_of_base(connection: Connection, name: str, workflows: Sequence[str], task: str | None) -> None:
    """:raises CalibError: the campaign does not run the task, so that a skip of it would change nothing."""
    row = campaigns.get(connection, name)
    of_base = [one for one in workflows if task is not None and taken_from(row, one, task)]
    if of_base and of_base == list(workflows):
        raise CalibError(
            f"{of_base[0]}.{task} is not run in {name}, which takes it from {row.base_campaign}: nothing was skipped",
            f"skip it for the task that waits for it; or with --campaign {row.base_campaign}, for all that need it",
        )


def _notes(workflow: str, new: Sequence[int], late: Settled) -> list[str]:
    """For whom the skip comes too late."""
    if not new:
        return []
    done = [run for run in late.done if run in new]
    notes = []
    if done:
        runs, them = ("run", "it") if len(done) == 1 else ("runs", "them")
        notes.append(
            f"nothing in {workflow} waits for {runs} {listed(done)} any more: what is done was done with {them}"
        )
    return notes + [
        f"the payload {row.tag} of {of_runs(row.first_run, row.last_run)} (revision {row.revision}) "
        f"was made with what is skipped now, and stays"
        for row in late.payloads
    ]


def _skipped_where(
    connection: Connection, campaign: str, workflow: str | None, source: str | None, what: int | str, task: str | None
) -> tuple[list[int], list[str]]:
    """The runs, and the workflows in which they are skipped.

    :raises NotFound: there is no such group, workflow or task; or several sources have the run.
    """
    if isinstance(what, int):
        runs, workflows = [what], _of_its_source(connection, workflow, source, what)
    elif source is not None:
        raise CommandLineError(f"--source says which run is meant, but {what} is no run", "leave it out")
    else:
        group = find_group(connection, campaign, workflow, what)
        member = tables.membership
        here = (member.c.group_id == group.id, member.c.state == "grouped")
        runs = list(connection.execute(select(member.c.run).where(*here).order_by(member.c.run)).scalars())
        workflows = [group.workflow]
    if task is not None:
        workflows = _with_task(connection, workflows, task)
    return runs, workflows


def _of_its_source(connection: Connection, workflow: str | None, source: str | None, run: int) -> list[str]:
    """The workflows that take runs of the source of this run, or that named one.

    :raises NotFound: it is not that workflow's run, several sources have it, or no workflow takes it.
    """
    seen = sorted(connection.execute(select(tables.workflow_seen.c.workflow)).scalars())
    if not seen:
        raise NotFound("the ledger knows no workflow yet", "calib_inject records them")
    having = sources.of_run(connection, run)
    if not having or (source is not None and source not in having):
        of = f"the source {source}" if source is not None else "the ledger"
        raise NotFound(f"{of} has no run {run}", "`calib runs list` shows those it has")
    if workflow is None and source is None:
        sources.the_one(run, having)
    chosen = {source} if source is not None else set(having)
    taken = sources.of_workflows(connection, seen if workflow is None else [workflow])
    workflows = [name for name in (seen if workflow is None else [workflow]) if taken.get(name, chosen) & chosen]
    if not workflows:
        who = f"the workflow {workflow} takes" if workflow is not None else "no workflow takes"
        raise NotFound(
            f"{who} {'runs of ' + listed(sorted(taken[workflow])) if workflow is not None else 'it'}: run {run} is of "
            f"{listed(sorted(chosen))}",
            "`calib runs list` shows which workflow has which run",
        )
    return workflows


def _with_task(connection: Connection, workflows: Sequence[str], task: str) -> list[str]:
    group, group_task = tables.run_group, tables.group_task
    query = select(group.c.workflow, group_task.c.task).join(group, group.c.id == group_task.c.group_id).distinct()
    known = list(connection.execute(query.where(group.c.workflow.in_(workflows))).all())
    # What something waits for may have no group yet.
    needed = select(parameter("workflow"), parameter("task")).select_from(tables.lock).distinct()
    known += connection.execute(needed.where(parameter("workflow").in_(workflows))).all()
    having = sorted({name for name, other in known if other == task})
    if not having:
        where = f" in the workflow {workflows[0]}" if len(workflows) == 1 else ""
        raise NotFound(
            f"there is no task {task}{where}",
            known_as(task, {other for _, other in known}, "there are no groups yet"),
        )
    return having


@dataclass(frozen=True)
class AddedRuns:
    """What runs that were added by hand changed.

    :ivar listed: how many the file has.
    :ivar new: how many the ledger did not know.
    :ivar changed: how many it knew otherwise.
    """

    listed: int
    new: int
    changed: int


def record_runs(ledger: Ledger, specs: Path, file: Path, source: str) -> AddedRuns:
    """Record runs of a CSV file as if their source had listed them. The next ``calib_inject`` groups them.

    :param specs: the folder of the YAML files.
    :param file: with the columns ``number`` and the fields of the source.
    :raises NotFound: there is no such file or source.
    :raises CalibError: the file cannot be read.
    """
    from airflow_calib_provider.injection.creation import source_of
    from airflow_calib_provider.kinds import BY_HAND
    from airflow_calib_provider.ledger.runs import record_by_hand
    from airflow_calib_provider.runsources import read_source
    from airflow_calib_provider.spec.loader import load_sources

    place = specs / SOURCES_FILE
    named = source_of(load_sources(place) if place.is_file() else {}, specs, source)
    if not file.is_file():
        raise NotFound(f"there is no file {file}")
    own = named.model_copy(update={"kind": BY_HAND, "options": {"path": str(file.resolve())}})
    records = read_source(own, base_folder=file.resolve().parent)
    found = record_by_hand(ledger, source, records, datetime.now(UTC))
    return AddedRuns(len(records), found.new, found.changed)
