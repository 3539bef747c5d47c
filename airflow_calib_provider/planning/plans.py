"""Plans: over past runs, and over a campaign to be. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.reasons import listed
from airflow_calib_provider.domain.run_ranges import RunRanges, parse_ranges
from airflow_calib_provider.errors import CalibError, NotFound, SpecError, SpecErrors, told_once
from airflow_calib_provider.injection.selection import Admissions, Outcomes, Selector
from airflow_calib_provider.ledger import campaigns
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.planning import history
from airflow_calib_provider.planning.history import KnownRun
from airflow_calib_provider.planning.locks import LockTimes
from airflow_calib_provider.planning.past import Past, Span, read_past
from airflow_calib_provider.planning.records import PlannedGrouping, PlannedRuns, PlanRequest, SpecPlan
from airflow_calib_provider.planning.replay import Course, Replayed, replay
from airflow_calib_provider.planning.values import key_of, read_values
from airflow_calib_provider.runsources import read_source
from airflow_calib_provider.spec.loader import FolderCheck, check_folder
from airflow_calib_provider.spec.models import RunSource, Workflow
from airflow_calib_provider.spec.policy_data import as_read
from airflow_calib_provider.spec.problems import nearest

ALWAYS = datetime.min.replace(tzinfo=UTC)
"""Since when a workflow counts as seen that the ledger does not know: a plan asks what it would have made."""


@dataclass(frozen=True)
class PlanSpecs:
    """The specs of a plan.

    :ivar mistakes: of files, whose workflows are not here.
    :ivar broken: the names of those, as far as they could be read.
    """

    workflows: Mapping[str, Workflow]
    sources: Mapping[str, RunSource]
    mistakes: Sequence[SpecError] = ()
    broken: frozenset[str] = frozenset()

    @classmethod
    def of(cls, check: FolderCheck, mistakes: Sequence[SpecError]) -> PlanSpecs:
        """What a check of a folder has found."""
        broken = frozenset(item.name for item in check.files if item.workflow is None and item.name is not None)
        return cls(check.workflows, check.sources, mistakes, broken)


@dataclass(frozen=True)
class PlanBasis:
    """What a plan goes over: runs by source, and the past.

    :ivar histories: source → its runs.
    :ivar described: source → the same for people.
    :ivar members: source → the runs of a campaign to be; ``None``: it is about the past.
    :ivar troubles: source → why it cannot be read.
    """

    histories: Mapping[str, Sequence[KnownRun]]
    described: Mapping[str, PlannedRuns]
    past: Past
    members: Mapping[str, frozenset[int]] | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)


def specs_of(folder: Path) -> PlanSpecs:
    """The specs of a folder, as its files are now."""
    check = check_folder(folder)
    return PlanSpecs.of(check, told_once(check.errors))


def plan_specs(ledger: Ledger | None, wanted: PlanRequest, now: datetime) -> SpecPlan:
    """What the specs of a folder make of runs.

    :param ledger: that knows the runs; ``None``: their sources are read.
    :raises CalibError: there are no runs, no workflows, or not those that are named.
    """
    specs = specs_of(wanted.folder)
    chosen = chosen_of(specs, wanted)
    basis = basis_of(ledger, specs, [specs], wanted, now)
    return plan_on(specs, chosen, basis, now)


def chosen_of(specs: PlanSpecs, wanted: PlanRequest, others: Iterable[str] = ()) -> list[str]:
    """The names of the workflows that are asked for and can be planned.

    :param others: known from elsewhere, such as an older commit.
    :raises SpecErrors: none of them can, since the files have mistakes.
    :raises NotFound: one is nowhere.
    """
    known = {*specs.workflows, *others}
    for name in wanted.workflows:
        if name not in known:
            if specs.mistakes:
                raise SpecErrors(specs.mistakes)
            has = f"it has {', '.join(sorted(known)) or 'none'}"
            raise NotFound(f"{wanted.folder} has no workflow {name}", f"{nearest(name, known)} {has}".strip())
    if not known and specs.mistakes:
        raise SpecErrors(specs.mistakes)
    if not known:
        raise NotFound(f"{wanted.folder} has no workflows", "name the folder of the YAML files with --specs")
    return [name for name in specs.workflows if not wanted.workflows or name in wanted.workflows]


def basis_of(
    ledger: Ledger | None, specs: PlanSpecs, sides: Sequence[PlanSpecs], wanted: PlanRequest, now: datetime
) -> PlanBasis:
    """Read the runs that the chosen workflows take, on either side, and what was recorded of them.

    :raises CalibError: there are none.
    """
    ranges = parse_ranges(wanted.runs) if wanted.runs is not None else None
    last = wanted.last if ranges is None and not wanted.finite else 0
    names = {name for side in sides for name in planned_with(side, wanted.workflows, alone=wanted.finite)}
    histories: dict[str, Sequence[KnownRun]] = {}
    described: dict[str, PlannedRuns] = {}
    flows = [side.workflows[name] for side in sides for name in names & side.workflows.keys()]
    sources = sorted({flow.runs.source for flow in flows})
    troubles: dict[str, str] = {}
    for source in sources:
        try:
            runs = _runs(ledger, specs, source, ranges, last, wanted, now)
        except CalibError as error:
            said = str(error).removeprefix(f"the run source {source!r}: ")
            concerned = listed(sorted({flow.name for flow in flows if flow.runs.source == source}))
            troubles[source] = f"run source {source} (of {concerned}): {said}"
            continue
        meant = [one.row.number for one in runs if ranges is None or one.row.number in ranges]
        if meant:
            basis = "campaign" if wanted.finite else "source" if ledger is None else "ledger"
            histories[source] = history.at_once(runs, now) if wanted.finite else runs
            described[source] = PlannedRuns(source, basis, len(meant), meant[0], meant[-1])
    if not histories:
        raise _no_runs(ledger, sources, wanted, list(troubles.values()))
    numbers = [one.row.number for runs in histories.values() for one in runs]
    asked = {name for side in sides for name in planned_with(side, wanted.workflows, alone=False)}
    past = _past(ledger, wanted, asked, (min(numbers), max(numbers)))
    past = _with_values(ledger, past, wanted, flows, histories, now)
    members = None
    if wanted.finite:
        members = {
            source: frozenset(one.row.number for one in runs if ranges is None or one.row.number in ranges)
            for source, runs in histories.items()
        }
    return PlanBasis(histories, described, past, members, troubles)


def _past(ledger: Ledger | None, wanted: PlanRequest, names: Iterable[str], span: Span) -> Past:
    """What is recorded; of a campaign to be what its base has, but for the workflows that it runs itself."""
    campaign = wanted.base if wanted.finite else wanted.campaign
    if ledger is None or campaign is None:
        return Past()
    with ledger.read() as connection:
        if not wanted.finite and campaigns.get(connection, campaign).kind != "streamed":
            said = f"the campaign {campaign} does not take runs as they come: it was grouped at once"
            raise CalibError(said, "--finite --runs plans one like it")
        return read_past(connection, campaign, names, span)


def _with_values(
    ledger: Ledger | None,
    past: Past,
    wanted: PlanRequest,
    workflows: Iterable[Workflow],
    runs: Mapping[str, Sequence[KnownRun]],
    now: datetime,
) -> Past:
    """With what tasks have reported of the runs, as far as groupings wait for it."""
    campaign = wanted.base if wanted.finite else wanted.campaign
    if ledger is None or campaign is None:
        return past
    with ledger.read() as connection:
        return replace(past, values=read_values(connection, campaign, workflows, runs, now, of_base=wanted.finite))


def _runs(
    ledger: Ledger | None,
    specs: PlanSpecs,
    source: str,
    ranges: RunRanges | None,
    last: int,
    wanted: PlanRequest,
    now: datetime,
) -> list[KnownRun]:
    if ledger is not None:
        with ledger.read() as connection:
            return history.of_ledger(connection, source, ranges, last, between=wanted.finite)
    if source not in specs.sources:
        raise NotFound("it is not in sources.yaml", f"it has {', '.join(sorted(specs.sources)) or 'none'}")
    records = read_source(specs.sources[source], base_folder=wanted.folder)
    if wanted.finite and ranges is not None and ranges.ranges:
        ranges = RunRanges([(ranges.ranges[0][0], ranges.ranges[-1][1])], [])
    return history.of_source(source, records, ranges, last, now)


def _no_runs(ledger: Ledger | None, sources: Sequence[str], wanted: PlanRequest, troubles: Sequence[str]) -> CalibError:
    if troubles:
        return CalibError("; ".join(troubles), "without runs nothing can be planned")
    named = ", ".join(sources) or "no source"
    those = f"none of the runs {wanted.runs[:80]}" if wanted.runs is not None else "no runs"
    if ledger is None:
        return CalibError(f"{named}: {those} are listed", "what the sources list is what sources.yaml names")
    hint = "`calib runs list` shows those it has; --runs-from source reads the sources themselves"
    return CalibError(f"the ledger has {those} of {named}", hint)


def planned_with(specs: PlanSpecs, names: Iterable[str], *, alone: bool) -> set[str]:
    """Workflows, and all that their locks are about; all, where none is named.

    :param alone: these are all that there is: a campaign has no other ones.
    """
    if alone:
        return {name for name in (list(names) or list(specs.workflows)) if name in specs.workflows}
    publishers: dict[str, set[str]] = {}
    for workflow in specs.workflows.values():
        for task in workflow.tasks.values():
            if task.publish is not None:
                for tag in task.publish.tags:
                    publishers.setdefault(tag, set()).add(workflow.name)
    left = [name for name in (list(names) or list(specs.workflows)) if name in specs.workflows]
    found: set[str] = set()
    while left:
        name = left.pop()
        if name in found or name not in specs.workflows:
            continue
        found.add(name)
        for task in specs.workflows[name].tasks.values():
            left += [need.workflow for need in task.needs]
            left += [one for tag in task.locked_tags for one in publishers.get(tag, ())]
            left += [str(one.parameters["workflow"]) for one in task.leaves("product")]
    return found


def plan_on(specs: PlanSpecs, chosen: Sequence[str], basis: PlanBasis, now: datetime) -> SpecPlan:
    """What specs make of runs that were read.

    :param chosen: the workflows that are shown; those that they wait for are planned with them.
    """
    troubles, planned, failed = list(basis.troubles.values()), list[PlannedGrouping](), set[str]()
    finite = basis.members is not None
    needed = planned_with(specs, chosen, alone=finite) if chosen else set()
    outcomes = Outcomes()
    for name in sorted(needed):
        workflow = specs.workflows[name]
        source = workflow.runs.source
        if source in specs.sources and source not in basis.histories:
            if name in chosen and source not in basis.troubles:
                troubles.append(f"workflow {name}: there are no runs of its source {source}")
            continue
        try:
            planned += _groupings(workflow, specs.sources.get(source), basis, now, outcomes)
        except CalibError as error:
            failed.add(name)
            troubles.append(f"workflow {name}: {error}")
    past = basis.past.without(needed) if finite else basis.past
    times = LockTimes(specs.workflows, planned, past, basis.past, now)
    shown = [times.with_locks(one) for one in planned if one.workflow in chosen]
    return SpecPlan(basis.described, now, shown, troubles, specs.mistakes, frozenset(failed))


def _groupings(
    workflow: Workflow, source: RunSource | None, basis: PlanBasis, now: datetime, outcomes: Outcomes
) -> list[PlannedGrouping]:
    """:raises CalibError: its source is not there, a condition does not fit it, or a grouping has failed."""
    if source is None:
        raise NotFound(f"its run source {workflow.runs.source} is not in sources.yaml, or has mistakes there")
    admissions = Admissions(workflow.runs, source, outcomes)
    runs = basis.histories[workflow.runs.source]
    found = []
    for label, policy in workflow.groupings().items():
        course = _course(workflow, label, admissions, basis, now)
        made: Replayed = replay(runs, course)
        found.append(
            PlannedGrouping(
                workflow=workflow.name,
                grouping=label,
                kind=policy.kind,
                dag_id=workflow.dag_id(label),
                source=workflow.runs.source,
                tasks=tuple(task.name for task in workflow.tasks_of(label)),
                decisions=made.decisions,
                groups=tuple(made.groups),
                waits_for=tuple(made.waits_for),
                unknown=made.unknown,
            )
        )
    return found


def _policy(workflow: Workflow, label: str) -> Grouping:
    """With the data that it follows, as they are now."""
    policy = workflow.groupings()[label]
    return as_read(policy, Path(workflow.file).parent)


def _course(workflow: Workflow, label: str, admissions: Admissions, basis: PlanBasis, now: datetime) -> Course:
    """As injection has it (rules 10, 11); what the ledger does not know has always been there."""
    past, members = basis.past, basis.members
    first_seen = past.first_seen.get(workflow.name, ALWAYS)
    seen = max(first_seen, past.grouping_seen.get((workflow.name, label), first_seen))
    policy = _policy(workflow, label)
    of_source = members[workflow.runs.source] if members is not None else None
    finite = of_source is not None
    return Course(
        workflow=workflow.name,
        grouping=label,
        policy=policy,
        selector=Selector(workflow.runs, admissions, seen, of_source),
        begins=now if finite else past.begun.get((workflow.name, label), first_seen),
        until=now,
        skipped={} if finite else past.skipped.get(workflow.name, {}),
        values=past.values.get(key_of(workflow, policy), {}) if policy.awaits else None,
    )
