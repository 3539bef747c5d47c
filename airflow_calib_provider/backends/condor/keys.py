"""The keys of ``condor`` in a spec: what a task says about its jobs on an HTCondor pool."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field

from airflow_calib_provider.backends.condor.names import (
    IDENTIFIER,
    attribute_is_taken,
    command_is_known,
    command_is_ours,
    hint_for,
    nearest_command,
)
from airflow_calib_provider.domain import nodes
from airflow_calib_provider.domain.keys import Keys, Words
from airflow_calib_provider.domain.scalars import WHAT, Flag, Reads, filled, mistake, plain, text, whole
from airflow_calib_provider.spec.templates import is_template

_BREAK = re.compile(r"[\n\r\x0b\x0c\x85\u2028\u2029]")
_LINE_SCHEMA = {"type": "string", "pattern": r"^[^\n\r]*\S[^\n\r]*$"}
_NAMES = {"type": "string", "pattern": rf"^{IDENTIFIER.pattern}$", "maxLength": 120}


def _file(value: object) -> str:
    found = filled(value)
    if _BREAK.search(found):
        raise mistake(f"{WHAT} contains a line break", "one line")
    return found


def _line(value: object) -> str:
    """One line of text that is not a template."""
    found = filled(value)
    if is_template(found):
        raise mistake(f"{WHAT} is a template", "plain text", "templates stand in files")
    return _file(value)


def _attribute(value: object) -> str | bool | int | float:
    if isinstance(value, nodes.Scalar) and value.kind in ("bool", "int", "float"):
        return plain(value)
    found = _line(value)
    if "\\" in found:
        raise mistake(f"{WHAT} holds a backslash, which HTCondor does not read alike everywhere", "a text without one")
    return found


def _identifier(value: object, what: str) -> str:
    found = text(value)
    if not IDENTIFIER.fullmatch(found) or len(found) > 120:
        raise mistake(f"{found[:80]!r} is no name of {what}", "letters, digits and '_', not starting with a digit")
    return found


def _attribute_name(value: object) -> str:
    found = _identifier(value, "an attribute")
    if attribute_is_taken(found):
        said = f"{found!r} is an attribute that HTCondor or this package sets itself"
        raise mistake(said, "an attribute of your own")
    return found


def _command_name(value: object) -> str:
    found = text(value)
    if found.startswith("+") or found.lower().startswith("my."):
        own = found.removeprefix("+") if found.startswith("+") else found[3:]
        said = f"{found!r} is an attribute, not a submit command"
        raise mistake(said, f"condor.attributes: {{{own}: …}}")
    _identifier(value, "a submit command")
    if command_is_ours(found):
        raise mistake(f"{found!r} is a submit command that this package sets itself", "another one", hint_for(found))
    if not command_is_known(found):
        expected = "one of the manual of condor_submit; what a site invented stands in condor.attributes"
        raise mistake(f"HTCondor knows no submit command {found!r}", expected, partial(nearest_command, found))
    return found


Line = Annotated[str, Reads(_line, {**_LINE_SCHEMA, "not": {"pattern": r"\{\{"}}, "text")]
File = Annotated[str, Reads(_file, _LINE_SCHEMA, "template")]
Attribute = Annotated[
    str | bool | int | float,
    Reads(_attribute, {"type": ["string", "number", "boolean"]}, "text, number, `true` or `false`"),
]
AttributeName = Annotated[str, Reads(_attribute_name, _NAMES, "name")]
CommandName = Annotated[str, Reads(_command_name, _NAMES, "name")]
Many = Annotated[int, whole(1, 1_000_000)]
Priority = Annotated[int, whole(-1_000_000, 1_000_000)]


class CondorKeys(Keys):
    """The block ``condor``."""

    called: ClassVar[str] = "{above}.{key}"
    says: ClassVar[str] = "how the jobs run on an HTCondor pool: [condor](#condor)"

    transfer: Annotated[
        Flag | None,
        Words(default="the connection's"),
        Field(description="transfer files instead of using a shared file system"),
    ] = None
    files: Annotated[
        tuple[File, ...],
        Words(type="list of templates, without `job`"),
        Field(description="what the payload needs on the other side, transferred with every job"),
    ] = ()
    container_image: Annotated[Line | None, Field(description="jobs run in this container")] = None
    max_materialize: Annotated[
        Many | None,
        Words(type="at least 1"),
        Field(description="so many jobs of a round exist in the queue at a time"),
    ] = None
    max_idle: Annotated[
        Many | None, Words(type="at least 1", default="1000"), Field(description="so many of these are idle")
    ] = None
    requirements: Annotated[Line | None, Field(description="a ClassAd expression that machines must fulfil")] = None
    accounting_group: Annotated[Line | None, Field(description="whose share is used")] = None
    accounting_group_user: Annotated[Line | None, Field(description="and for whom")] = None
    priority: Annotated[
        Priority | None, Words(type="whole number", default="0"), Field(description="among the jobs of one user")
    ] = None
    attributes: Annotated[
        dict[AttributeName, Attribute],
        Words(
            key="the name of an attribute",
            type="mapping of names to text, numbers, `true` or `false`",
        ),
        Field(
            default_factory=dict,
            description="further attributes of the jobs' ads; merged by name with those of `defaults`",
        ),
    ]
    commands: Annotated[
        dict[CommandName, Line],
        Words(key="the name of a submit command", type="mapping of names to texts"),
        Field(
            default_factory=dict,
            description="further submit commands; merged by name; none that this package sets itself",
        ),
    ]
