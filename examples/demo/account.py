"""What became of every run and event: read from the ledger after the stream has ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from airflow_calib_provider.jobsets.folders import product_path
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger

group, generation, membership, payload = tables.run_group, tables.generation, tables.membership, tables.payload


@dataclass(frozen=True)
class Account:
    """Runs and events by what became of them.

    :ivar runs: disposition → run numbers: used, waiting, excluded, late, failed, not selected.
    :ivar events: the same for recorded events, with those of used runs split into used and cut.
    """

    runs: dict[str, list[int]]
    events: dict[str, int]

    @property
    def total_events(self) -> int:
        """Events of all runs."""
        return sum(self.events.values())


def constants_files(ledger: Ledger, campaign: str, workflow: str) -> list[Path]:
    """``constants.json`` of every published group, by first run."""
    query = (
        select(
            generation.c.folder, tables.product.c.job_index, tables.product.c.file, group.c.first_run, generation.c.n
        )
        .join(group, group.c.id == generation.c.group_id)
        .join(tables.product, tables.product.c.generation_id == generation.c.id)
        .join(payload, payload.c.group_id == group.c.id)
        .where(
            group.c.campaign == campaign,
            group.c.workflow == workflow,
            generation.c.state == "done",
            tables.product.c.name == "constants",
            payload.c.state == "published",
        )
        .order_by(group.c.first_run, generation.c.n)
    )
    with ledger.read() as connection:
        rows = connection.execute(query).all()
    newest = {row.first_run: product_path(row.folder, row.job_index, row.file) for row in rows}
    return [path for _, path in sorted(newest.items())]


def take_account(ledger: Ledger, campaign: str, workflow: str, events_of: dict[int, int]) -> Account:
    """Say what became of every run that was streamed.

    :param events_of: recorded events of each run, as the detector counted them.
    """
    with ledger.read() as connection:
        members = connection.execute(
            select(membership.c.run, membership.c.grouping, membership.c.state, membership.c.group_id).where(
                membership.c.campaign == campaign, membership.c.workflow == workflow
            )
        ).all()
        skipped = set(
            connection.execute(
                select(tables.skip.c.run).where(tables.skip.c.campaign == campaign, tables.skip.c.workflow == workflow)
            ).scalars()
        )
        published = set(
            connection.execute(
                select(payload.c.group_id).where(
                    payload.c.campaign == campaign, payload.c.workflow == workflow, payload.c.state == "published"
                )
            ).scalars()
        )
    state = {row.run: _disposition(row, skipped, published) for row in members if row.grouping == "sum"}
    runs: dict[str, list[int]] = {}
    for run in sorted(events_of):
        runs.setdefault(state.get(run, "not recorded"), []).append(run)
    used_in_fit = _events_in_fits(constants_files(ledger, campaign, workflow))
    selected = _selected_events(ledger, campaign, workflow, runs.get("used", []))
    recorded = Counter({name: sum(events_of[run] for run in numbers) for name, numbers in runs.items()})
    of_used = recorded.pop("used", 0)
    events = {
        "used in a published fit": used_in_fit,
        "selected, outside the mass window": selected - used_in_fit,
        "cut by the selection": of_used - selected,
        **recorded,
    }
    return Account(runs, events)


def _disposition(row: Any, skipped: set[int], published: set[int]) -> str:
    if row.state != "grouped":
        return str(row.state).replace("_", " ")
    if row.run in skipped:
        return "excluded (skipped)"
    return "used" if row.group_id in published else "failed or waiting"


def _events_in_fits(files: Sequence[Path]) -> int:
    """Events in the fits' mass window."""
    return sum(sum(json.loads(file.read_text())["events"].values()) for file in files)


def _selected_events(ledger: Ledger, campaign: str, workflow: str, runs: Sequence[int]) -> int:
    """What the jobs of these runs reported to have selected, each run's latest done generation counting once."""
    value = tables.value
    query = (
        select(group.c.first_run, generation.c.n, value.c.value)
        .join(generation, generation.c.group_id == group.c.id)
        .join(value, value.c.generation_id == generation.c.id)
        .where(
            group.c.campaign == campaign,
            group.c.workflow == workflow,
            group.c.first_run.in_(list(runs)),
            generation.c.task == "select",
            generation.c.state == "done",
            value.c.name == "events_selected",
        )
    )
    with ledger.read() as connection:
        rows = connection.execute(query).all()
    newest = {row.first_run: max(other.n for other in rows if other.first_run == row.first_run) for row in rows}
    return int(sum(row.value for row in rows if row.n == newest[row.first_run]))
