"""Reading run sources, whatever their kind."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.errors import RenderError, RunSourceError
from airflow_calib_provider.spec.models import RunSource


def read_source(source: RunSource, *, base_folder: Path) -> list[RunRecord]:
    """Read a run source completely.

    :param base_folder: what a relative path is relative to: the folder of ``sources.yaml``.
    :returns: the runs by ascending number.
    :raises RunSourceError: it cannot be read or contradicts itself; names up to 20 mistakes with their places.
    """
    if source.csv is not None:
        from airflow_calib_provider.runsources.csv_file import read_csv

        return read_csv(source_file(source, base_folder=base_folder), source.csv, source.fields)
    if source.events is not None:
        from airflow_calib_provider.runsources.event_file import read_events

        return read_events(source_file(source, base_folder=base_folder), source.events, source.fields)
    raise _neither(source)


def _neither(source: RunSource) -> RunSourceError:
    return RunSourceError(f"the run source {source.name!r} has neither csv nor events")


def source_file(source: RunSource, *, base_folder: Path) -> Path:
    """The file that a run source is read from, which need not exist.

    :raises RunSourceError: its path names an environment variable that is not set.
    """
    made = source.csv or source.events
    if made is None:
        raise _neither(source)
    template = made.path
    # Imported late: the ledger needs RunRecord, and not a template engine with it.
    from airflow_calib_provider.spec.templates import render_text

    environment = {name: value for name, value in os.environ.items() if name.startswith("CALIB_")}
    try:
        text = render_text(template, {"env": environment})
    except RenderError as error:
        raise RunSourceError(
            f"the path {template!r} of the run source {source.name!r} cannot be rendered: {error.message}",
            "set the environment variable that it names",
        ) from error
    return (base_folder / Path(text).expanduser()).absolute()
