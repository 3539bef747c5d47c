"""What a campaign would be that a person asks for, as it was checked: its groups, before anything is created."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from airflow_calib_provider.domain.new_campaign import PreparedCampaign
from airflow_calib_provider.injection.own_specs import begins
from airflow_calib_provider.ledger import campaign_view
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Campaign
from airflow_calib_provider.planning.plans import PlanSpecs, basis_of, plan_on, specs_of
from airflow_calib_provider.planning.records import PlannedGrouping, PlanRequest, SpecPlan
from airflow_calib_provider.spec.models import Workflow

SHOWN = 3
"""Groups of a grouping that are named."""


def plan_campaign(ledger: Ledger, folder: Path, found: PreparedCampaign, now: datetime) -> SpecPlan | None:
    """The groups of a finite campaign, of the runs that its source lists, with what it sets and where it begins.

    :param folder: of the YAML files.
    :returns: ``None`` of a campaign that takes runs as they come, or has none yet.
    :raises CalibError: the source cannot be read any more.
    """
    if not found.runs or found.wanted.source is None:
        return None
    specs = specs_of(folder)
    flows = {name: specs.workflows[name] for name in found.workflows if name in specs.workflows}
    row = _as_row(found, flows, now)
    own = PlanSpecs({name: campaign_view.applied(row, flow) for name, flow in flows.items()}, specs.sources)
    wanted = PlanRequest(folder, list(own.workflows), _as_text(found.runs), finite=True, base=found.base)
    read = basis_of(None, own, [own], wanted, now)
    # The runs are those of the source now; of the ledger is what the base campaign has done.
    past = basis_of(ledger, own, [own], wanted, now).past if found.base is not None else read.past
    return plan_on(own, list(own.workflows), replace(read, past=past), now)


def _as_row(found: PreparedCampaign, flows: Mapping[str, Workflow], now: datetime) -> Campaign:
    """As the ledger would have it."""
    wanted = found.wanted
    return Campaign(
        name=wanted.name,
        kind=wanted.kind,
        state="open",
        base_campaign=found.base,
        overrides=found.overrides,
        spec_hashes=found.workflows,
        created_at=now,
        closed_at=None,
        first_tasks={name: begins(flows[name], list(tasks)) for name, tasks in found.first_tasks.items()},
        run_order=None,
        priority=wanted.priority,
        max_groups=wanted.max_groups,
        max_jobs=wanted.max_jobs,
        since=None,
        grouped_at=None,
        created_by=None,
    )


def _as_text(runs: Sequence[int]) -> str:
    """Runs in ascending order as ranges."""
    parts: list[list[int]] = []
    for number in runs:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}-{last}" for first, last in parts)


def lines_of(plan: SpecPlan) -> list[str]:
    """A plan in lines for a person: its groups, what is left out, and what tasks wait for."""
    lines = []
    for grouping in plan.groupings:
        if grouping.waits_for:
            lines.append(f"{grouping.dag_id}: no groups before {len(grouping.waits_for)} runs are completed or skipped")
            continue
        if grouping.unknown is not None:
            lines.append(f"{grouping.dag_id}: unknown: its groups are made when the values of all runs are known")
            continue
        lines.append(f"{grouping.dag_id}: {_groups(grouping)}")
        waits = Counter((lock.task, lock.what) for group in grouping.groups for lock in group.locks)
        lines += [
            f"{grouping.dag_id}: {task} waits for {what} in {_number(n, 'group')}" for (task, what), n in waits.items()
        ]
    return [*lines, *plan.troubles]


def _groups(grouping: PlannedGrouping) -> str:
    counts = grouping.counts()
    groups = [group for group in grouping.groups if group.state != "dropped"]
    names = ", ".join(group.name for group in groups[:SHOWN])
    sizes = [len(group.runs) for group in groups]
    more = ", …" if len(groups) > SHOWN else ""
    listed = f" ({names}{more}; at most {_number(max(sizes), 'run')} each)" if groups else ""
    out = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in sorted(counts.items()) if state != "grouped")
    return f"{_number(len(groups), 'group')} of {_number(sum(sizes), 'run')}{listed}{f'; {out}' if out else ''}"


def _number(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
