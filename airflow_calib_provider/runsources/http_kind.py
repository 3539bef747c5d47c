"""Services that list runs as JSON by HTTP, as the language knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Keys, Where, Words
from airflow_calib_provider.domain.run import RunListing, RunRecord
from airflow_calib_provider.domain.scalars import (
    ConnectionName,
    Filled,
    Flag,
    Plain,
    Reads,
    Text,
    mistake,
    text,
    unlike,
    whole,
)
from airflow_calib_provider.outside.http import HTTP_CONNECTION, path_fault
from airflow_calib_provider.runsources.base import block_of
from airflow_calib_provider.runsources.object_keys import ObjectKeys, check_mapped, mapped_fields
from airflow_calib_provider.runsources.remote_keys import WatermarkKeys
from airflow_calib_provider.spec.kinds import RunSourceKind
from airflow_calib_provider.spec.models import FieldType, RunSource

WAYS = ("next", "link", "page", "offset")


def _path(value: object) -> str:
    found = text(value, "a path below the connection's address")
    if fault := path_fault(found):
        raise unlike(value, "a path below the connection's address", fault)
    return found


class PagingKeys(Keys):
    """How the next page is asked for."""

    next: Annotated[
        Filled | None, Words(default="none"), Field(description="where the next page's address is in an answer")
    ] = None
    link: Annotated[Flag, Field(description='the header `Link` has the next page\'s address (`rel="next"`)')] = False
    page: Annotated[
        Filled | None, Words(default="none"), Field(description="the parameter that is the page's number")
    ] = None
    offset: Annotated[
        Filled | None, Words(default="none"), Field(description="the parameter that is how many runs are left out")
    ] = None
    first: Annotated[Annotated[int, whole(0, 1)], Field(description="the number of the first page")] = 1

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """There is one way."""
        stated = [name for name in WAYS if self.has(name)]
        if len(stated) != 1:
            said = f"\0 has {' and '.join(stated)}" if stated else f"\0 has neither {' nor '.join(WAYS)}"
            yield (), mistake(said, "exactly one of them", at_key=True)
        if self.has("first") and not self.has("page"):
            yield ("first",), mistake("first is the number of a page", "page", at_key=True)


class HttpKeys(ObjectKeys, WatermarkKeys):
    """The block ``http``."""

    says: ClassVar[str] = "an object for each run, from a service: [http](#http)"

    connection: Annotated[
        ConnectionName, Field(description="the Airflow connection that says where the service is, and who we are")
    ] = HTTP_CONNECTION
    path: Annotated[
        Annotated[str, Reads(_path, {"type": "string"}, "path")],
        Words(default="the connection's address"),
        Field(description="below the connection's address"),
    ] = ""
    parameters: Annotated[
        dict[Text, Plain],
        Words(type="mapping of names to values", default="none"),
        Field(default_factory=dict, description="what stands behind the `?`"),
    ]
    paging: Annotated[
        PagingKeys | None,
        Words(default="one answer has all runs"),
        Field(description="how the next page is asked for"),
    ] = None
    since: Annotated[
        Filled | None,
        Words(default="none"),
        Field(description="the parameter by which only what has at least this watermark is listed"),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """The service is to leave out what is below the watermark."""
        yield from WatermarkKeys.check(self)
        if self.has("watermark") != self.has("since"):
            only, other = ("watermark", "since") if self.has("watermark") else ("since", "watermark")
            yield (only,), mistake(f"{only} needs {other}", "both, or neither", at_key=True)


class HttpKind(RunSourceKind):
    """An object for each run."""

    name = "http"
    keys = HttpKeys

    def read(self, source: RunSource, folder: Path) -> list[RunRecord]:
        """All runs, from all pages."""
        return list(self.read_on(source, folder, {}, datetime.now(UTC)).runs)

    def read_on(self, source: RunSource, folder: Path, mark: Mapping[str, object], now: datetime) -> RunListing:
        """Those from the watermark on, or all."""
        from airflow_calib_provider.runsources.http_pages import read_pages

        return read_pages(source.name, block_of(source, HttpKeys), source.fields, mark, now)

    def connection(self, source: RunSource) -> str:
        """The one that its block names."""
        return block_of(source, HttpKeys).connection

    def supplies(self, keys: Keys, fields: Mapping[str, FieldType]) -> dict[str, FieldType]:
        """What is mapped to reserved fields."""
        return mapped_fields(keys)

    def check(self, keys: Keys, fields: Mapping[str, FieldType]) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What is mapped is a reserved or a declared field."""
        yield from check_mapped(self.name, keys, fields)


KIND = HttpKind()
