"""Event files, as the language knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Keys, Where, Words
from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.domain.scalars import Filled, mistake
from airflow_calib_provider.runsources.base import FileKind, block_of
from airflow_calib_provider.spec.models import FieldType, RunSource
from airflow_calib_provider.spec.sources_keys import SourcePath


class EventsKeys(Keys):
    """The block ``events``."""

    says: ClassVar[str] = "one line for each event: [events](#events)"

    path: Annotated[
        SourcePath,
        Words(missing="the path of the event file"),
        Field(description="a CSV file with a header; it may be large"),
    ] = ""
    run: Annotated[Filled, Field(description="the header of the column with the run number")] = "run"


class EventsKind(FileKind):
    """One line for each event; its runs have the field ``events``, how many lines they have."""

    name = "events"
    keys = EventsKeys
    timeless = "an event file does not say when its runs were taken"

    def read_file(self, path: Path, source: RunSource) -> list[RunRecord]:
        """A run for each number in the run column."""
        from airflow_calib_provider.runsources.event_file import read_events

        return read_events(path, block_of(source, EventsKeys), source.fields)

    def supplies(self, keys: Keys, fields: Mapping[str, FieldType]) -> dict[str, FieldType]:
        """The count of a run's events."""
        return {"events": FieldType.INT}

    def check(self, keys: Keys, fields: Mapping[str, FieldType]) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A count is an integer, so that ``events`` cannot be declared as anything else."""
        if fields.get("events", FieldType.INT) is not FieldType.INT:
            yield ("fields", "events"), mistake("the field 'events' of an event file is counted", "int")


KIND = EventsKind()
