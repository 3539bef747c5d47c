"""What the small installations of tests have in common: a ledger, specs whose runs are injected, jobs that end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from airflow_calib_provider.backends import get_backend
from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.injection.inject import InjectionReport, inject
from airflow_calib_provider.jobsets.advance import GenerationStanding, advance
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.spec.loader import load_folder, load_sources
from airflow_calib_provider.spec.models import Workflow

NO_DELAY = 0.01


class WithLedger:
    """A ledger to look into."""

    ledger: Ledger

    def rows(self, table: Any) -> list[Any]:
        with self.ledger.read() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key)).all())

    def states(self, table: Any) -> list[str]:
        return [row.state for row in self.rows(table)]


class WithSpecs(WithLedger):
    """A folder of specs, of which all can be read."""

    specs: Path

    @property
    def workflows(self) -> Mapping[str, Workflow]:
        workflows, errors = load_folder(self.specs)
        assert not errors, errors
        return workflows

    def take(self, now: datetime | None = None, **options: Any) -> InjectionReport:
        """Put the runs that the sources list into groups."""
        sources = load_sources(self.specs / "sources.yaml")
        now = now or datetime.now(UTC)
        report = inject(self.ledger, self.workflows, sources, self.specs, now=now, **options)
        assert not report.errors, report.errors
        return report


class WithJobs(WithLedger):
    """Job sets, watched until they end."""

    def backend_of(self, name: str) -> Backend:
        """Where jobs run."""
        return get_backend(name)

    def step(self, ids: Iterable[int]) -> Mapping[int, GenerationStanding]:
        return advance(self.ledger, self.backend_of, ids, datetime.now(UTC), NO_DELAY)

    def finish(self, generation: int, patience: float = 30.0) -> GenerationStanding:
        until = time.monotonic() + patience
        while True:
            standing = self.step([generation])[generation]
            if standing.state != "running":
                return standing
            assert time.monotonic() < until, standing
            time.sleep(0.05)
