"""A lock on what a service answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import NotEmpty, Where, Words
from airflow_calib_provider.domain.locks.base import LockKind
from airflow_calib_provider.domain.locks.outside_keys import AskedKeys
from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.scalars import (
    CONNECTION,
    WHAT,
    Duration,
    Filled,
    Name,
    OneOf,
    Reads,
    Template,
    Text,
    filled,
    mistake,
    text,
    unlike,
)
from airflow_calib_provider.outside.http import path_fault

_LONGEST = timedelta(minutes=5)
_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_A_CONNECTION = "the id of an Airflow connection: letters, digits, '_', '-' and '.'"

FieldKind = Literal["int", "float", "string", "bool", "time"]


def _connection(value: object) -> str:
    found = text(value, _A_CONNECTION)
    if not CONNECTION.fullmatch(found):
        raise unlike(value, _A_CONNECTION)
    return found


def _path(value: object) -> str:
    found = filled(value, "a path below the connection's address")
    # What a template comes to is looked at when it is rendered; what stands around it can be looked at now.
    if fault := path_fault(_TEMPLATE.sub("x", found)):
        hint = "a query is written in parameters; the address, and how one is let in, is the connection's"
        shown = "" if "@" in found else f" is {found[:200]!r}:"
        raise mistake(f"{WHAT}{shown} {fault}" if shown else f"{WHAT}: {fault}", "a path below its address", hint)
    return found


Connection = Annotated[
    str, Reads(_connection, {"type": "string", "pattern": f"^{CONNECTION.pattern}$"}, "id of a connection")
]
ServicePath = Annotated[str, Reads(_path, {"type": "string", "pattern": r"\S"}, "template")]


class HttpLockKeys(AskedKeys):
    """The block ``http``."""

    says: ClassVar[str] = "open when a service answers with JSON that meets a condition"

    connection: Annotated[
        Connection | None,
        Words(missing="the id of an Airflow connection"),
        Field(description="an Airflow connection of type `calib_http` or `http`: where it is, and how one is let in"),
    ] = None
    path: Annotated[ServicePath, Field(description="what is asked for, below the connection's address")] = "/"
    parameters: Annotated[
        dict[Text, Template],
        Words(key="the parameter", type="mapping of names to templates"),
        Field(default_factory=dict, description="the query"),
    ]
    at: Annotated[
        Text,
        Words(default="the whole answer"),
        Field(description="keys, with dots, that lead to the object with the fields"),
    ] = ""
    fields: Annotated[
        dict[Name, Annotated[FieldKind, OneOf()]],
        NotEmpty("expected {<field>: <type>}"),
        Words(missing="{<field>: <type>}", type="mapping of names to `int`, `float`, `string`, `bool` or `time`"),
        Field(default_factory=dict, description="the fields of the object that `when` uses, with their types"),
    ]
    when: Annotated[
        Filled | None,
        Words(missing="a condition such as \"answer.status == 'good'\"", type="[condition](#conditions)"),
        Field(
            description="on `answer.<field>`; a field that is null or missing is told, but for `has(answer.<field>)`"
        ),
    ] = None
    timeout: Annotated[Duration, Field(description="an answer may take this long in all")] = timedelta(seconds=20)

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """It must not hold up others."""
        yield from super().check()
        if self.timeout > _LONGEST:
            yield ("timeout",), mistake(f"{WHAT} is {format_duration(self.timeout)}", "at most 5m")


class HttpLockKind(LockKind):
    """Open when a service answers with JSON that meets a condition."""

    name = "http"
    keys = HttpLockKeys
    example = "{http: {connection: …, path: …, fields: {status: string}, when: …}}"
    once = "each question once"
    loader = "airflow_calib_provider.ledger.locks.http:LOCK"
    release = "another answer"
    of_runs = False
    may_shut = True

    def on(self, keys: HttpLockKeys) -> str:
        """The question."""
        return f"what {keys.connection} answers for {keys.path} {sorted(keys.parameters.items())}: {keys.when}"

    def texts(self, keys: HttpLockKeys) -> Iterator[tuple[str, str]]:
        """Path and query."""
        yield "path", keys.path
        yield from ((f"parameters.{name}", text) for name, text in keys.parameters.items())

    def condition(self, keys: HttpLockKeys) -> tuple[str, str, dict[str, str]] | None:
        """The condition."""
        return ("when", keys.when, dict(keys.fields)) if keys.when and keys.fields else None

    def row(self, keys: HttpLockKeys) -> tuple[str, dict[str, JsonValue]]:
        """With the seconds."""
        question: dict[str, Any] = {name: getattr(keys, name) for name in ("connection", "path", "at", "when")}
        question |= {"parameters": dict(keys.parameters), "fields": dict(keys.fields)}
        what = f"{keys.connection}/{keys.path.lstrip('/')}: {keys.when}"
        return self.name, {**question, "what": what, "timeout": int(keys.timeout.total_seconds()), **keys.asking()}


KIND = HttpLockKind()
