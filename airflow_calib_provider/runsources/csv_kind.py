"""CSV files of runs, as the language knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Keys, Where, Words
from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.domain.scalars import Filled, Reads, Text, mistake, one_of, text, unlike
from airflow_calib_provider.runsources.base import FileKind, block_of, source_file
from airflow_calib_provider.runsources.times import TimesKeys
from airflow_calib_provider.spec.models import RESERVED, FieldType, RunSource
from airflow_calib_provider.spec.sources_keys import SourcePath


def _separator(value: object) -> str:
    found = text(value, "one character")
    if len(found) != 1 or found in '"\n\r':
        raise unlike(value, "one character", r'a tab is written "\t"' if found == r"\t" else "")
    return found


_Separator = Annotated[
    str, Reads(_separator, {"type": "string", "minLength": 1, "maxLength": 1, "pattern": '[^"\\n\\r]'}, "one character")
]


class CsvKeys(TimesKeys):
    """The block ``csv``."""

    says: ClassVar[str] = "one line for each run: [csv](#csv)"

    path: Annotated[
        SourcePath,
        Words(missing="the path of the CSV file"),
        Field(description="the file; a relative path is relative to the folder of `sources.yaml`"),
    ] = ""
    columns: Annotated[
        dict[Text, Filled],
        Words(type="mapping of fields to headers", default="the field's own name"),
        Field(default_factory=dict, description="how the file calls its columns"),
    ]
    separator: Annotated[_Separator, Field(description="between columns")] = ","
    files_separator: Annotated[_Separator, Field(description="between files inside the column of `files`")] = ";"

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """Two separators that are the same could not be told apart."""
        if "separator" in self.model_fields_set and self.separator == self.files_separator:
            yield ("separator",), mistake("separator and files_separator are the same", "different characters")


class CsvKind(FileKind):
    """One line for each run."""

    name = "csv"
    keys = CsvKeys

    def read_file(self, path: Path, source: RunSource) -> list[RunRecord]:
        """A run for each line."""
        from airflow_calib_provider.runsources.csv_file import read_csv

        return read_csv(path, block_of(source, CsvKeys), source.fields)

    def warnings(self, source: RunSource, folder: Path) -> Iterator[tuple[str, str, str]]:
        """Columns that the file lacks, too."""
        from airflow_calib_provider.runsources.csv_file import faults_of_header

        yield from super().warnings(source, folder)
        path = source_file(source, base_folder=folder)
        if path.is_file():
            for said in faults_of_header(path, block_of(source, CsvKeys), source.fields):
                yield "path", said, ""

    def supplies(self, keys: Keys, fields: Mapping[str, FieldType]) -> dict[str, FieldType]:
        """What the columns map to reserved fields."""
        assert isinstance(keys, CsvKeys)
        return {name: RESERVED[name] for name in keys.columns if name in RESERVED}

    def check(self, keys: Keys, fields: Mapping[str, FieldType]) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What is mapped to a column is a reserved or a declared field."""
        assert isinstance(keys, CsvKeys)
        options = tuple(dict.fromkeys([*RESERVED, *fields]))
        for name in keys.columns:
            if name not in options:
                said = f"columns.{name} is no declared field"
                otherwise = "declare it with its type under 'fields'"
                yield (
                    ("csv", "columns", name),
                    mistake(said, one_of(options), otherwise, word=name, options=options, at_key=True),
                )


KIND = CsvKind()
