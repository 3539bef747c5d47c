"""A DAG run that a person opens becomes the group of a campaign of its own (rule 57)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, insert, update

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts, missing_field
from airflow_calib_provider.domain.new_campaign import NewCampaign
from airflow_calib_provider.domain.reasons import listed, render
from airflow_calib_provider.domain.run_ranges import parse_ranges
from airflow_calib_provider.errors import CalibError, Mistakes
from airflow_calib_provider.injection import creation
from airflow_calib_provider.injection.assigning import InjectionReport, frozen
from airflow_calib_provider.injection.ended import end_groups
from airflow_calib_provider.injection.reading import read_sources
from airflow_calib_provider.injection.selection import ADMITTED, Admissions
from airflow_calib_provider.injection.serving import serve
from airflow_calib_provider.ledger import campaign_view, campaigns, groups, spec_files, tables
from airflow_calib_provider.ledger.dag_groups import group_of_dag_run, note_dag_run
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Group, Run, read_rows, select_of
from airflow_calib_provider.ledger.spec_files import KeptText
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.spec.by_hand import by_hand_fields
from airflow_calib_provider.spec.models import RunSource, Workflow
from airflow_calib_provider.spec.team import team_of

MOST = 2_000
"""Runs of a group that is asked for by hand: all of it is one transaction."""


@dataclass(frozen=True)
class ByHand:
    """What a person asks for.

    :ivar dag_id: of the DAG whose tasks are to run.
    :ivar run_id: of the DAG run.
    :ivar grouping: the DAG's.
    :ivar field: the form's field of the runs.
    :ivar campaign: its name, if it is to have one.
    """

    dag_id: str
    run_id: str
    grouping: str
    field: str
    runs: str
    campaign: str
    person: str | None

    @classmethod
    def of_form(
        cls, workflow: Workflow, dag_id: str, run_id: str, params: Mapping[str, object], person: str | None
    ) -> ByHand:
        """As it is filled in."""
        fields = by_hand_fields(workflow)
        runs, campaign = (str(params.get(fields[name]) or "").strip() for name in ("runs", "campaign"))
        grouping = next(label for label in workflow.groupings() if workflow.dag_id(label) == dag_id)
        return cls(dag_id, run_id, grouping, fields["runs"], runs, campaign, person)

    def name(self, first_run: int) -> str:
        """The campaign's: as it is filled in, or made from the DAG run, so that a retry makes the same."""
        digest = hashlib.sha256(f"{self.dag_id} {self.run_id}".encode()).hexdigest()[:8]
        return self.campaign or f"hand-r{first_run}-{digest}"


@dataclass(frozen=True)
class _Adoption:
    """A group as it is going to be.

    :ivar rows: its runs, in order.
    """

    asked: ByHand
    workflow: Workflow
    policy: Grouping
    campaign: str
    rows: Sequence[Run]
    now: datetime


def adopt(ledger: Ledger, workflow: Workflow, asked: ByHand, now: datetime) -> Group:
    """Make a finite campaign of one group, based on prompt, whose DAG run is the person's.

    It is closed at once: nothing will ever be added. Tasks of other groupings are prompt's. A DAG run that was adopted
    before has its group already.

    :raises CalibError: the one mistake, or all of them (:class:`~airflow_calib_provider.errors.Mistakes`).
    """
    if not asked.runs:
        raise CalibError(
            f"the DAG run {asked.run_id} belongs to no group: those of {asked.dag_id} are opened by calib_inject, or "
            "by hand with runs, and none are filled in",
            f"trigger it again, and fill in {asked.field}, such as 355100-355110; to run tasks of an earlier DAG run "
            "again, clear them, or use `calib retry`",
        )
    try:
        found = _checked(ledger, workflow, asked, now)
        with ledger.write() as connection:
            if (row := group_of_dag_run(connection, asked.dag_id, asked.run_id)) is not None:
                return row
            made = _write(connection, found)
            crash_point("adopt.before_commit", found.campaign)
    except CalibError:
        # Another task of the same DAG run may have been faster: then it is its campaign that is there already.
        with ledger.read() as connection:
            if (row := group_of_dag_run(connection, asked.dag_id, asked.run_id)) is not None:
                return row
        raise
    crash_point("adopt.after_commit", found.campaign)
    return made


def _checked(ledger: Ledger, workflow: Workflow, asked: ByHand, now: datetime) -> _Adoption:
    policy = workflow.groupings()[asked.grouping]
    folder = Path(workflow.file).parent
    name = asked.name(_first(asked.runs))
    source = workflow.runs.source
    wanted = NewCampaign(name, source=source, runs=asked.runs, base=campaigns.PROMPT, workflows=[workflow.name])
    found = creation.prepare(ledger, folder, wanted)
    mistakes = _mistakes_of_runs(asked, policy, found.runs, found.incomplete)
    if not mistakes:
        with ledger.read() as connection:
            kept = spec_files.kept_texts(connection, team_of(folder))
        sources = serve(folder, lambda: kept).sources
        rows = _recorded(ledger, workflow, sources, folder, found.runs, now)
        mistakes = _mistakes_of_rows(workflow, sources[source], policy, rows)
    if mistakes:
        raise mistakes[0] if len(mistakes) == 1 else Mistakes("the form", mistakes)
    return _Adoption(asked, workflow, policy, name, rows, now)


def _first(runs: str) -> int:
    """The lowest run that is named; 0 where that cannot be read, which is told with all else that is wrong."""
    try:
        return min((begin for begin, _ in parse_ranges(runs).ranges), default=0)
    except CalibError:
        return 0


def _mistakes_of_runs(
    asked: ByHand, policy: Grouping, runs: Sequence[int], incomplete: Sequence[int]
) -> list[CalibError]:
    found = []
    if policy.is_single and len(runs) != 1:
        said = f"a DAG run of {asked.dag_id} is of one run, and {asked.field} names {len(runs)}"
        found.append(CalibError(said, "name one; calib_campaign is for more"))
    if len(runs) > MOST:
        said = f"{asked.field} names {len(runs):,} runs, and a group by hand has at most {MOST:,}"
        found.append(CalibError(said, "calib_campaign is for more"))
    if incomplete:
        said = f"the source does not list as completed: {listed(incomplete)}"
        found.append(CalibError(said, "leave them out, or wait for their end"))
    return found


def _recorded(
    ledger: Ledger,
    workflow: Workflow,
    sources: Mapping[str, RunSource],
    folder: Path,
    numbers: Sequence[int],
    now: datetime,
) -> list[Run]:
    """The runs as the ledger has them, which knows first all that their source lists."""
    report = InjectionReport()
    read_sources(ledger, {workflow.name: workflow}, sources, folder, now, report)
    if report.errors:
        raise CalibError("; ".join(report.errors), "nothing was done")
    table = tables.run
    with ledger.read() as connection:
        here = (table.c.source == workflow.runs.source, tables.one_of(table.c.number, numbers))
        return read_rows(connection, select_of(Run, table).where(*here).order_by(table.c.number), Run)


def _mistakes_of_rows(workflow: Workflow, source: RunSource, policy: Grouping, rows: Sequence[Run]) -> list[CalibError]:
    admissions = Admissions(workflow.runs, source)
    found: dict[str, list[int]] = {}
    for row in rows:
        admission = admissions.admission(row)
        reason = admission.reason if admission is not ADMITTED else missing_field(policy, _facts(row))
        if reason is not None:
            found.setdefault(render(reason), []).append(row.number)
    return [CalibError(f"not taken: {listed(numbers)}: {text}", "leave them out") for text, numbers in found.items()]


def _facts(row: Run) -> RunFacts:
    return RunFacts(row.number, row.start, row.end, row.fields, True)


def _write(connection: Connection, found: _Adoption) -> Group:
    asked, workflow, now = found.asked, found.workflow, found.now
    _create_campaign(connection, found)
    row = campaigns.get(connection, found.campaign)
    flow = campaign_view.applied(row, workflow)
    draft = GroupDraft(found.policy, open_reason={"code": "by_hand"})
    for run in found.rows:
        draft.add(_facts(run))
    draft.close("by_hand")
    groups.store(connection, found.campaign, flow, [draft], now)
    assert draft.id is not None
    made = groups.group_by_id(connection, draft.id)
    move(connection, tables.membership, [_member(found, made, run) for run in found.rows])
    end_groups(connection, found.campaign, workflow.name, [draft], now)
    subject = Subject(campaign=found.campaign, workflow=workflow.name, group_name=made.name)
    note_dag_run(connection, made.id, subject, asked.dag_id, asked.run_id, now, "by hand", now)
    group = tables.run_group
    connection.execute(update(group).where(group.c.id == made.id).values(opening="asked"))
    return groups.group_by_id(connection, made.id)


def _create_campaign(connection: Connection, found: _Adoption) -> None:
    """Grouped completely, and closed: injection has nothing to do with it."""
    asked, workflow, now = found.asked, found.workflow, found.now
    own = [task.name for task in workflow.tasks_of(asked.grouping)]
    spec_files.keep_text(
        connection, KeptText(workflow.name, Path(workflow.file).name, workflow.hash, workflow.text, now)
    )
    campaigns.create(
        connection,
        found.campaign,
        kind="finite",
        runs={workflow.runs.source: [row.number for row in found.rows]},
        base_campaign=campaigns.PROMPT,
        spec_hashes={workflow.name: workflow.hash},
        first_tasks={workflow.name: {"first": own, "before": [name for name in workflow.tasks if name not in own]}},
        created_by=asked.person,
        dag_run=f"{asked.dag_id} {asked.run_id}",
    )
    below = max(row.number for row in found.rows) + 1
    key = {"campaign": found.campaign, "workflow": workflow.name, "label": asked.grouping}
    values = {**key, "assigned_below": below, "first_seen_at": now, "spec_hash": workflow.hash}
    connection.execute(insert(tables.grouping).values(**values))
    campaigns.note_grouped(connection, found.campaign, now)
    campaigns.close(connection, found.campaign)


def _member(found: _Adoption, made: Group, run: Run) -> Move:
    key = {
        "campaign": found.campaign,
        "workflow": found.workflow.name,
        "grouping": found.asked.grouping,
        "run": run.number,
    }
    columns = {
        "source": run.source,
        "group_id": made.id,
        "reason": None,
        "record": frozen(run),
        "assigned_at": found.now,
    }
    subject = Subject(found.campaign, found.workflow.name, run=run.number, group_name=made.name)
    return Move(key, None, "grouped", subject, columns)
