"""Files of JSON with runs, as the language knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Keys, Where, Words
from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.domain.scalars import Flag, mistake
from airflow_calib_provider.runsources.base import FileKind, block_of
from airflow_calib_provider.runsources.object_keys import ObjectKeys, check_mapped, mapped_fields
from airflow_calib_provider.spec.models import FieldType, RunSource
from airflow_calib_provider.spec.sources_keys import SourcePath


class JsonKeys(ObjectKeys):
    """The block ``json``."""

    says: ClassVar[str] = "an object for each run, in a file: [json](#json)"

    path: Annotated[
        SourcePath,
        Words(missing="the path of the JSON file"),
        Field(description="the file; a relative path is relative to the folder of `sources.yaml`"),
    ] = ""
    lines: Annotated[Flag, Field(description="every line is a run (JSON lines)")] = False

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A line is a run itself."""
        if self.lines and self.runs:
            yield ("runs",), mistake("runs says where a list is, but with lines every line is a run", "one of them")


class JsonKind(FileKind):
    """A list of objects, or a line for each."""

    name = "json"
    keys = JsonKeys

    def read_file(self, path: Path, source: RunSource) -> list[RunRecord]:
        """A run for each object."""
        from airflow_calib_provider.runsources.json_file import read_json

        return read_json(path, block_of(source, JsonKeys), source.fields)

    def supplies(self, keys: Keys, fields: Mapping[str, FieldType]) -> dict[str, FieldType]:
        """What is mapped to reserved fields."""
        return mapped_fields(keys)

    def check(self, keys: Keys, fields: Mapping[str, FieldType]) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What is mapped is a reserved or a declared field."""
        yield from check_mapped(self.name, keys, fields)


KIND = JsonKind()
