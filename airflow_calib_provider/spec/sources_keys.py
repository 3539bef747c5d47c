"""The keys of ``sources.yaml``, and the types that the blocks of run sources use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import BLOCKS, Blocks, Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.scalars import WHAT, Filled, Name, OneOf, Reads, Schema, filled, mistake
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.kinds import RUN_SOURCES
from airflow_calib_provider.spec.language import API_VERSION
from airflow_calib_provider.spec.models import FieldTypeName
from airflow_calib_provider.spec.templates import TemplateSyntaxError, is_template, render_text, uses_of


def _version(value: object) -> str:
    found = filled(value)
    if found != API_VERSION:
        raise mistake(f"apiVersion {found!r} is not known", API_VERSION)
    return found


def _path(value: object) -> str:
    found = filled(value)
    if not is_template(found):
        return found
    try:
        uses = uses_of(found)
        if not uses:
            render_text(found, {})
    except TemplateSyntaxError as error:
        raise mistake(error.message, hint=error.hint, find=error.expression) from error
    except RenderError as error:
        raise mistake(error.message, hint=error.hint) from error
    for use in uses:
        if len(use.path) != 2 or use.path[0] != "env" or not use.path[1].startswith("CALIB_"):
            dotted = ".".join(use.path)
            expected = "an environment variable whose name starts with CALIB_: env.CALIB_…"
            raise mistake(f"unknown variable {dotted!r}", expected, find=dotted)
    return found


Version = Annotated[str, Reads(_version, {"const": API_VERSION}, f"`{API_VERSION}`")]
SourcePath = Annotated[str, Reads(_path, {"type": "string", "pattern": r"\S"}, "text, may contain `{{ env.CALIB_… }}`")]
"""Where a file is: may name environment variables of ours."""

FieldWord = Annotated[FieldTypeName, OneOf()]


class SourceKeys(Keys):
    """One source: the block of exactly one kind, and the fields of its runs."""

    blocks: Annotated[
        dict[str, Keys], Blocks(RUN_SOURCES), Words(entry="{key}"), Field(default_factory=dict, alias=BLOCKS)
    ]
    fields: Annotated[
        dict[Name, FieldWord],
        Words(key="the field", type="mapping of names to types", default="none"),
        Field(
            default_factory=dict,
            description="the metadata that the source supplies: `int`, `float`, `string`, `bool` or `time`",
        ),
    ]

    def stated(self) -> list[str]:
        """The blocks that are there, readable or not."""
        return [name for name in RUN_SOURCES.names() if name in self.blocks or self.has(name)]

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A source is of exactly one kind."""
        known, stated = RUN_SOURCES.names(), self.stated()
        if len(stated) > 1:
            both = "both " if len(stated) == 2 else ""
            yield (), mistake(f"\0 has {both}{' and '.join(stated)}", "exactly one of them", at_key=True)
        if not stated:
            yield (), mistake(f"\0 has neither {' nor '.join(known)}", "exactly one of them", at_key=True)

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        return {"oneOf": [{"required": [name]} for name in RUN_SOURCES.names()]}


class SourcesKeys(Keys):
    """The whole file."""

    version: Annotated[
        Version, Words(missing=API_VERSION), Field(alias="apiVersion", description="the version of the language")
    ] = ""
    team: Annotated[
        Name | None,
        Field(
            description="whose folder this is, where one Airflow has the specs of several teams: its DAG is "
            "`calib_inject_<team>`, see [git.md](git.md#several-teams)"
        ),
    ] = None
    sources: Annotated[
        dict[Name, SourceKeys],
        NotEmpty("at least one source", "there are no sources"),
        Words(
            missing="{<name>: {csv: …}}, or another kind of source",
            key="the source",
            entry="the source {key!r}",
            type="mapping of names to sources",
        ),
        Field(default_factory=dict, description="at least one"),
    ]
    approvers: Annotated[
        dict[Name, Annotated[tuple[Filled, ...], NotEmpty("at least one user id", f"nobody is in {WHAT}")]],
        Words(key="the list", entry="the list {key!r}", type="mapping of names to lists of user ids", default="none"),
        Field(
            default_factory=dict,
            description="lists of user ids of Airflow, which `publish.approve.by` names: who may approve payloads",
        ),
    ]
