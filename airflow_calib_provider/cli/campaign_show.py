"""``calib campaign show``: how far a campaign is, and what it does otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import Json, examples, open_ledger

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.campaign_progress import CampaignProgress

WIDTH = 20
"""Characters of a bar."""

STATES = ("new", "waiting", "processing", "done", "failed", "skipped")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show", epilog=examples("calib campaign show rereco-2026A", "calib campaign show prompt --json"))(show)


def show(name: Annotated[str, typer.Argument(help="The campaign.")], as_json: Json = False) -> None:
    """Show how far a campaign is: a line for each task with the states of its groups, and a bar.

    Above stand its state, its throttle, what it sets otherwise than the files, where it begins, and when it would end
    at the pace of late: of the last quarter of its time, and of ten minutes at least.
    """
    from airflow_calib_provider.api.campaigning import campaign_progress
    from airflow_calib_provider.cli.output import emit_json, table

    found = campaign_progress(open_ledger(), name)
    if as_json:
        emit_json(_as_json(found))
        return
    for head, text in _heads(found):
        print(f"{head + ':':<14}{text}")
    print()
    rows = [
        [
            item.workflow,
            item.grouping,
            item.task,
            *(item.states.get(state, 0) or "" for state in STATES),
            bar(item.ended, item.total),
        ]
        for item in found.tasks
    ]
    table(["workflow", "grouping", "task", *STATES, "ended"], rows, empty="it has no groups yet")


def bar(ended: int, total: int) -> str:
    """``[#####...............]  25 %``."""
    part = ended / total if total else 0.0
    filled = int(part * WIDTH)
    return f"[{'#' * filled}{'.' * (WIDTH - filled)}] {int(100 * part):3d} %"


def _heads(found: CampaignProgress) -> Iterator[tuple[str, str]]:
    from airflow_calib_provider.cli.output import shown

    row = found.campaign
    yield "campaign", f"{row.name} ({row.kind})"
    yield "state", f"{row.state} since {shown(row.since or row.created_at)}"
    by = f" by {row.created_by}" if row.created_by else ""
    yield "created", f"{shown(row.created_at)}{by}"
    if row.closed_at is not None:
        yield "closed", shown(row.closed_at)
    if row.base_campaign:
        yield "base", row.base_campaign
    if row.spec_hashes:
        yield "workflows", ", ".join(f"{name} {text_hash[:8]}" for name, text_hash in sorted(row.spec_hashes.items()))
    for name, begin in sorted(row.first_tasks.items()):
        before = f"; not run: {', '.join(begin['before'])}" if begin["before"] else ""
        yield "begins with", ", ".join(f"{name}.{task}" for task in begin["first"]) + before
    for name, places in sorted(row.overrides.items()):
        for place, value in places.items():
            yield "sets", f"{name}.{place.removeprefix('params.')} = {value}"
    for reason in found.changed.values():
        from airflow_calib_provider.domain.reasons import render

        yield "changed", f"{render(reason)} (`calib campaign update {row.name}` takes it)"
    yield from _work(found)


def _work(found: CampaignProgress) -> Iterator[tuple[str, str]]:
    from airflow_calib_provider.cli.output import shown

    row = found.campaign
    yield "order", f"{row.run_order or 'ascending'}, priority {row.priority}"
    yield "open groups", _of(found.open_groups, row.max_groups)
    yield "jobs", _of(found.submitted_jobs, row.max_jobs)
    if found.n_runs:
        yield "runs", str(found.n_runs)
    yield "groups", str(found.n_groups)
    for one in found.to_make:
        explain = f"`calib explain {one.run} --workflow {one.workflow} --campaign {row.name}`"
        said = "is made when the values of all of its runs are known"
        yield "to be made", f"{one.grouping} of {one.workflow} {said}: {explain} names the run that holds it"
    yield "ended", f"{bar(found.ended, found.total)} ({found.ended} of {found.total} tasks)"
    if found.expected_end is not None:
        yield "expected end", shown(found.expected_end)


def _of(n: int, most: int | None) -> str:
    return f"{n} of at most {most}" if most is not None else f"{n}, no limit"


def _as_json(found: CampaignProgress) -> dict[str, object]:
    from airflow_calib_provider.cli.output import as_dict

    tasks = [{**as_dict(item), "total": item.total, "ended": item.ended} for item in found.tasks]
    return {
        **as_dict(found.campaign),
        "n_runs": found.n_runs,
        "n_groups": found.n_groups,
        "open_groups": found.open_groups,
        "submitted_jobs": found.submitted_jobs,
        "changed": dict(found.changed),
        "total": found.total,
        "ended": found.ended,
        "expected_end": found.expected_end,
        "to_make": [as_dict(one) for one in found.to_make],
        "tasks": tasks,
    }
