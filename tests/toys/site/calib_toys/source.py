"""A run source: the numbers from one to another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Keys, Where
from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.domain.scalars import mistake
from airflow_calib_provider.errors import RunSourceError
from airflow_calib_provider.spec.kinds import RunSourceKind
from airflow_calib_provider.spec.models import RunSource

NOT_FIELDS = ("number", "start", "end", "completed", "files")


class NumbersKeys(Keys):
    """The block ``numbers``."""

    first: Annotated[int, Field(ge=1, description="the first run")] = 1
    last: Annotated[int, Field(description="the last run")]

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        if self.last < self.first:
            yield ("last",), mistake("numbers.last comes before numbers.first", f"at least {self.first}")


class NumbersKind(RunSourceKind):
    """The numbers from one to another."""

    name = "numbers"
    keys = NumbersKeys
    timeless = "numbers do not say when they were taken"

    def read(self, source: RunSource, folder: Path) -> list[RunRecord]:
        if (folder / "no_numbers").exists():
            raise RunSourceError("there are no numbers today", "remove the file no_numbers")
        first, last = int(str(source.options["first"])), int(str(source.options["last"]))
        fields = dict.fromkeys(name for name in source.fields if name not in NOT_FIELDS)
        return [RunRecord(number, fields=dict(fields)) for number in range(first, last + 1)]


KIND = NumbersKind()
