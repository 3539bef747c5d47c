"""Databases with runs, as the language knows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from airflow_calib_provider.domain.keys import Words
from airflow_calib_provider.domain.run import RunListing, RunRecord
from airflow_calib_provider.domain.scalars import ConnectionName, Reads, filled, unlike
from airflow_calib_provider.runsources.base import block_of
from airflow_calib_provider.runsources.remote_keys import WatermarkKeys
from airflow_calib_provider.runsources.times import TimesKeys
from airflow_calib_provider.spec.kinds import RunSourceKind
from airflow_calib_provider.spec.models import RunSource

_LEADING = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)


def _select(value: object) -> str:
    found = filled(value, "a SELECT")
    begins = _LEADING.sub("", found, count=1)
    if not re.match(r"(?:SELECT|WITH)\b", begins, re.IGNORECASE):
        raise unlike(value, "one SELECT, which may begin with WITH")
    if found.rstrip().endswith(";"):
        raise unlike(value, "one SELECT", "leave out the ';' at its end")
    return found


class SqlKeys(TimesKeys, WatermarkKeys):
    """The block ``sql``."""

    says: ClassVar[str] = "a row for each run, from a database: [sql](#sql)"

    connection: Annotated[
        ConnectionName,
        Words(missing="the Airflow connection of the database"),
        Field(description="the Airflow connection of the database"),
    ] = ""
    select: Annotated[
        Annotated[str, Reads(_select, {"type": "string", "pattern": r"\S"}, "a SELECT")],
        Words(missing="a SELECT whose columns are called as the fields"),
        Field(description="a row for each run; its columns are called as the fields"),
    ] = ""


class SqlKind(RunSourceKind):
    """A row for each run."""

    name = "sql"
    keys = SqlKeys

    def read(self, source: RunSource, folder: Path) -> list[RunRecord]:
        """All runs."""
        return list(self.read_on(source, folder, {}, datetime.now(UTC)).runs)

    def read_on(self, source: RunSource, folder: Path, mark: Mapping[str, object], now: datetime) -> RunListing:
        """Those from the watermark on, or all."""
        from airflow_calib_provider.runsources.sql_rows import read_rows_of

        return read_rows_of(source.name, block_of(source, SqlKeys), source.fields, mark, now)

    def connection(self, source: RunSource) -> str:
        """The one that its block names."""
        return block_of(source, SqlKeys).connection


KIND = SqlKind()
