"""In which categories a run is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.errors import NotFound, SpecError
from airflow_calib_provider.ledger import spec_files
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.runs import runs_numbered
from airflow_calib_provider.spec.team import team_of

if TYPE_CHECKING:
    from airflow_calib_provider.domain.unmet import InCategory


@dataclass(frozen=True)
class CategorizedRun:
    """A run of a source with every category.

    :ivar categories: none, where the source is none of the folder.
    """

    run: int
    source: str
    categories: Sequence[InCategory]


@dataclass(frozen=True)
class RunCategories:
    """The runs of a number, one for each source that has it.

    :ivar mistakes: of sources.yaml and categories.yaml, of which what was good last was asked instead.
    """

    runs: Sequence[CategorizedRun]
    mistakes: Sequence[SpecError]


def run_categories(ledger: Ledger, specs: Path, run: int, *, source: str | None = None) -> RunCategories:
    """In which categories a run is, and which parts of the others' conditions are false of it.

    The run is asked as the ledger has it now, and the categories as categories.yaml says now; if that has mistakes, as
    it was when it had none. What was decided about the run before stays.

    :param specs: the folder of the YAML files.
    :param source: only of this one.
    :raises NotFound: there is no such folder or run.
    """
    from airflow_calib_provider.injection.categories import categories_of
    from airflow_calib_provider.injection.serving import serve

    if not specs.is_dir():
        raise NotFound(f"there is no folder {specs}", "name the folder of the YAML files with --specs")
    with ledger.read() as connection:
        kept = spec_files.kept_texts(connection, team_of(specs))
        rows = [row for row in runs_numbered(connection, run) if source in (None, row.source)]
    served = serve(specs, lambda: kept)
    beside = (specs / spec_files.SOURCES, specs / spec_files.CATEGORIES)
    mistakes = [error for error in served.errors if error.file in beside]
    if not rows:
        of = f" of {source}" if source is not None else ""
        raise NotFound(f"the ledger has no run {run}{of}", "`calib runs list` shows those it has")
    found = [
        CategorizedRun(
            row.number,
            row.source,
            categories_of(row, served.sources[row.source], served.categories, served.workflows)
            if row.source in served.sources
            else [],
        )
        for row in rows
    ]
    return RunCategories(found, mistakes)
