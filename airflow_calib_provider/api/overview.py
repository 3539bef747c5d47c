"""Where every run stands in every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_calib_provider.api.reading import PROMPT, check_names
from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.ledger import queries, source_reads
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.source_reads import SourceTrouble


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    :ivar states: task, as ``workflow.task`` → its state; without tasks that do not concern the run.
    """

    run: int
    source: str
    states: Mapping[str, str]


@dataclass(frozen=True)
class StatusTable:
    """Runs × tasks.

    :ivar tasks: as ``workflow.task``, in the order of the specs.
    :ivar runs: those that were asked for, or the last ones, in run order.
    :ivar totals: task → state → how many of all runs of the campaign, not only of ``runs``.
    :ivar unreadable: run sources that could not be read when they were tried last.
    """

    campaign: str
    tasks: Sequence[str]
    runs: Sequence[RunStatus]
    totals: Mapping[str, Mapping[str, int]]
    unreadable: Sequence[SourceTrouble]


def status(
    ledger: Ledger,
    *,
    campaign: str = PROMPT,
    workflow: str | None = None,
    runs: Sequence[int] = (),
    source: str | None = None,
    last: int = 20,
) -> StatusTable:
    """The state of each task for each run.

    A task is new, waiting, processing, done, failed or skipped; late, refused or not_selected where the run is in no
    group; excluded where its group went on without it. ``done (late)`` is that of a group of late runs.

    :param runs: these; the last ones if left out.
    :param last: how many; 0: all.
    :raises NotFound: there is no such campaign, workflow, source or run.
    """
    with ledger.read() as connection:
        check_names(connection, campaign, workflow, source=source)
        found = queries.status(connection, campaign, workflow=workflow, runs=runs, last=last, source=source)
        unreadable = source_reads.unreadable(connection, None if source is None else {source})
    if missing := sorted(set(runs) - {row.run for row in found.rows}):
        of = f" in {source}" if source is not None else ""
        raise NotFound(
            f"no such run{of}: {', '.join(map(str, missing))}", "`calib runs list` shows those in the ledger"
        )
    names = [column.name for column in found.columns]
    return StatusTable(
        campaign,
        names,
        [RunStatus(row.run, row.source, _named(names, row.states)) for row in found.rows],
        dict(zip(names, found.totals, strict=True)),
        unreadable,
    )


def _named(names: Sequence[str], states: Sequence[str]) -> dict[str, str]:
    return {name: state for name, state in zip(names, states, strict=True) if state}
