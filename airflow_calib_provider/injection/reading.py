"""Reading run sources into the ledger: one that cannot be read, or takes long, is its own trouble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.domain.run import RunListing
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.injection.assigning import InjectionReport
from airflow_calib_provider.ledger import runs, source_changes, source_reads
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.outside.connections import fetched
from airflow_calib_provider.runsources.base import connection_of, identity_of, read_on
from airflow_calib_provider.spec.models import RunSource, Workflow

AT_ONCE = 8
"""Sources that are asked over a network at the same time."""


def read_sources(
    ledger: Ledger,
    workflows: Mapping[str, Workflow],
    sources: Mapping[str, RunSource],
    folder: Path,
    now: datetime,
    report: InjectionReport,
) -> set[str]:
    """Read and record every source that a workflow uses; one that is broken does not hold back the others.

    :returns: those of which the ledger knows now all that they list. One that is as it was when it was read last, is
        not read again.
    """
    readable, wanted, unknown = set(), [], []
    for name in sorted({workflow.runs.source for workflow in workflows.values()}):
        if name not in sources:
            users = ", ".join(workflow.name for workflow in workflows.values() if workflow.runs.source == name)
            unknown.append(f"run source {name}, which {users} takes its runs from, is not in sources.yaml")
            continue
        identity = identity_of(sources[name], base_folder=folder)
        with ledger.read() as connection:
            as_read = runs.is_as_read(connection, name, identity)
            mark, in_trouble = source_reads.mark_of(connection, name)
        if as_read:
            readable.add(name)
            if in_trouble:
                source_reads.note_read(ledger, name, mark)
        else:
            wanted.append(_Wanted(sources[name], folder, now, identity, mark))
    for one, found in _read_all(wanted):
        name = one.source.name
        if isinstance(found, CalibError):
            report.errors.append(f"run source {name}: {found}")
            source_reads.note_unreadable(ledger, name, str(found), now)
        else:
            readable.add(name)
            _record(ledger, one, found, report)
    report.errors += unknown
    return readable


@dataclass(frozen=True)
class _Wanted:
    """A source that is to be read.

    :ivar identity: what it is now, :ivar mark: what its last read has left.
    """

    source: RunSource
    folder: Path
    now: datetime
    identity: str | None
    mark: Mapping[str, object] | None

    def read(self) -> RunListing | CalibError:
        """What it lists, or why it does not."""
        try:
            return read_on(self.source, base_folder=self.folder, mark=self.mark, now=self.now)
        except CalibError as error:
            return error


def _read_all(wanted: Iterable[_Wanted]) -> Iterable[tuple[_Wanted, RunListing | CalibError]]:
    """Read sources. Those that are asked over a network are so at the same time, while files are read here."""
    remote = {one.source.name: connection for one in wanted if (connection := connection_of(one.source))}
    with ExitStack() as stack:
        pending: dict[str, Future[RunListing | CalibError]] = {}
        if remote:
            # Connections are Airflow's, which is asked by this thread only.
            stack.enter_context(fetched(remote.values()))
            pool = stack.enter_context(ThreadPoolExecutor(min(AT_ONCE, len(remote)), "source"))
            asked = [one for one in wanted if one.source.name in remote]
            pending = {one.source.name: pool.submit(partial(copy_context().run, one.read)) for one in asked}
        for one in sorted(wanted, key=lambda one: one.source.name in remote):
            yield one, pending[one.source.name].result() if one.source.name in pending else one.read()


def _record(ledger: Ledger, one: _Wanted, found: RunListing, report: InjectionReport) -> None:
    name = one.source.name
    if found.complete:
        recorded = runs.record_listing(ledger, name, found.runs, one.now, one.identity)
    else:
        recorded = runs.record_news(ledger, name, found.runs, one.now)
    source_reads.note_read(ledger, name, found.mark)
    report.new_runs += recorded.new
    report.changed_runs += recorded.changed
    if recorded.changes:
        with ledger.read() as connection:
            told = source_changes.of_assigned(connection, name, recorded.changes)
        report.source_changes += [f"run {number} of {name}: {render(reason)}" for number, reason in told]
