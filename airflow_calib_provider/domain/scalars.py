"""The values of the language: how each is read from what is written, what is said of anything else, its JSON Schema.

Nothing is converted: ``5`` is a number and ``"5"`` a text, and the other way round is a mistake that says so. A type is
used as the annotation of a key (:class:`~airflow_calib_provider.domain.keys.Keys`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Annotated, Any, TypeAlias, TypeVar, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from airflow_calib_provider.domain import nodes
from airflow_calib_provider.domain.quantities import DURATION, SIZE, parse_duration, parse_size, parse_time

T = TypeVar("T")

Schema: TypeAlias = dict[str, object]
"""A JSON Schema."""

Written: TypeAlias = "nodes.Scalar | nodes.Mapping | dict[str, Written] | tuple[Written, ...]"
"""What stands in a file, as models read it: a node is a single value, or a template that lacks its quotes."""

WHAT = "\0"
"""In a message: what the value is called, which its place in the file tells."""
ABOVE = "\1"
"""What that is called which holds it."""

NOWHERE = nodes.Position(0, 0, 0, 0)
MISSING = nodes.Scalar("", "missing", NOWHERE)
"""Stands where a key must be and is not."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
TAG = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*", re.ASCII)
CONNECTION = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
NAME_LENGTH = 60
TAG_LENGTH = 120

_READS_AS = {
    "null": "nothing",
    "bool": "a truth value",
    "odd bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "odd number": "a number",
    "date": "a date",
}


class SpelledKey(str):
    """A key of a mapping that YAML does not read as a text."""

    __slots__ = ("node",)
    node: nodes.Scalar


@lru_cache(1024)
def _key(text: str) -> nodes.Scalar:
    return nodes.Scalar(text, "text", NOWHERE, quoted=True)


def mistake(
    said: str,
    expected: str = "",
    hint: str | Callable[[], str] = "",
    *,
    word: str = "",
    options: tuple[str, ...] = (),
    at_key: bool = False,
    find: str = "",
) -> PydanticCustomError:
    """The error of a value.

    :param said: what is wrong; :data:`WHAT` stands for what the value is called.
    :param hint: what to do; a function is called only if it will be read.
    :param word: what may be a misspelling of one of the options.
    :param at_key: it is told at the key instead of the value.
    :param find: it is told where these words stand in the value.
    """
    known = {"said": said, "expected": expected, "hint": hint, "word": word, "options": options}
    return PydanticCustomError("mistake", "{said}", {**known, "at_key": at_key, "find": find})


def describe(value: object) -> str:
    """A value for a message: ``a list``, ``the number 5``, ``'text'``."""
    if isinstance(value, tuple | nodes.Sequence):
        return "a list"
    if isinstance(value, nodes.Mapping):
        return "a template without quotes" if value.is_template else "a mapping"
    if not isinstance(value, nodes.Scalar):
        return "a mapping"
    if value.kind == "null":
        return "nothing"
    shown = value.text if len(value.text) <= 60 else value.text[:57] + "…"
    return (
        repr(shown) if value.kind == "text" else f"{shown}, which YAML reads as {_READS_AS.get(value.kind, value.kind)}"
    )


def unlike(value: object, expected: str, hint: str = "", **more: Any) -> PydanticCustomError:
    """The error of a value that is something else than what is expected."""
    if isinstance(value, nodes.Mapping) and value.is_template:
        hint = 'put the template into quotes: "{{ … }}"'
    elif isinstance(value, nodes.Scalar) and "{{" in value.text and not hint:
        hint = "no template can stand here"
    return mistake(f"{WHAT} is {describe(value)}", f"expected {expected}", hint, **more)


class Reads:
    """Part of a type: how its values are read.

    :param read: a value from what is written; raises :func:`mistake`.
    :param schema: its JSON Schema.
    :param words: what the reference calls it.
    """

    def __init__(self, read: Callable[[object], object], schema: Schema | Callable[[], Schema], words: str) -> None:
        self.read = read
        self.schema = schema
        self.words = words

    def __call__(self, value: object) -> object:
        """The value of a scalar or of a key.

        :raises PydanticCustomError: it is missing, or none of these.
        """
        if value.__class__ is nodes.Scalar and value is not MISSING:
            return self.read(value)
        if value is MISSING:
            raise mistake("missing")
        if isinstance(value, str):  # a key
            value = value.node if isinstance(value, SpelledKey) else _key(value)
        return self.read(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        return self.schema() if callable(self.schema) else dict(self.schema)


def is_text(value: object) -> bool:
    """Whether YAML reads a value as a text."""
    return isinstance(value, nodes.Scalar) and value.kind == "text"


def text(value: object, expected: str = "text") -> str:
    """A text that YAML reads as one."""
    if isinstance(value, nodes.Scalar):
        if value.kind == "text":
            if "\x00" in value.text:
                raise mistake(f"{WHAT} contains a NUL character", "text without it")
            return value.text
        raise unlike(value, expected, f'put it into quotes: "{value.text}"' if value.kind != "null" else "")
    raise unlike(value, expected)


def word(value: object, options: tuple[str, ...], expected: str = "", hint: str = "") -> str:
    """One of a few words. Quotes make none of what is something else, so that nobody is told to put them there.

    :param expected: the default lists them.
    """
    expected = expected or one_of(options)
    if isinstance(value, nodes.Scalar) and value.kind not in ("text", "null") and value.text not in options:
        raise unlike(value, expected, hint)
    found = text(value, expected)
    if found not in options:
        near = "" if hint else found
        raise unlike(value, expected, hint, word=near, options=options)
    return found


def filled(value: object, expected: str = "text") -> str:
    """A text that is not empty."""
    found = text(value, expected)
    if not found.strip():
        raise mistake(f"{WHAT} is empty", "expected text")
    return found


def name(value: object) -> str:
    """Letters, digits and ``_``, starting with a letter."""
    found = text(value, "a name")
    if not NAME.fullmatch(found) or len(found) > NAME_LENGTH:
        # Of an address, which may be a secret one, no name is made.
        is_address = "/" in found or "%" in found
        proposal = "" if is_address else re.sub(r"\W+", "_", found, flags=re.ASCII).strip("_")[:NAME_LENGTH]
        raise mistake(
            f"{WHAT} {found[:80]!r} is not a name",
            f"letters, digits and '_', starting with a letter, at most {NAME_LENGTH}",
            f"for example {proposal!r}" if NAME.fullmatch(proposal) else "",
        )
    return found


def _tag(value: object) -> str:
    found = text(value, "a tag")
    if not TAG.fullmatch(found) or len(found) > TAG_LENGTH:
        raise mistake(
            f"{WHAT} {found[:80]!r} is not a tag",
            f"letters, digits, '_', '-' and '.', starting with a letter, at most {TAG_LENGTH}",
        )
    return found


def _connection(value: object) -> str:
    found = text(value, "the id of a connection")
    if not CONNECTION.fullmatch(found):
        hint = "an address belongs into the connection itself, and its id here" if "/" in found or "%" in found else ""
        raise unlike(value, "the id of an Airflow connection: letters, digits, '_', '-' and '.'", hint)
    return found


def _number_hint(value: object) -> str:
    if isinstance(value, nodes.Scalar) and value.kind == "odd number":
        return "write it with plain decimal digits"
    if isinstance(value, nodes.Scalar) and value.quoted and re.fullmatch(r"[-+]?[0-9.]+", value.text):
        return "remove the quotes"
    return ""


def integer(value: object, least: int, most: int) -> int:
    """A whole number within limits."""
    # The length is looked at first: Python refuses to read whole numbers of thousands of digits.
    found = (
        int(value.text) if isinstance(value, nodes.Scalar) and value.kind == "int" and len(value.text) < 20 else None
    )
    if found is not None and least <= found <= most:
        return found
    # A large limit is named only where it is met.
    limits = f" from {least} to {most}" if most < 10**5 or (found or 0) > most else f", at least {least}"
    if found is not None:
        raise mistake(f"{WHAT} is {found}", f"expected a whole number{limits}")
    raise unlike(value, f"a whole number{limits}", _number_hint(value))


def number(value: object) -> float:
    """A finite number."""
    if isinstance(value, nodes.Scalar) and value.kind in ("int", "float") and math.isfinite(found := float(value.text)):
        return found
    raise unlike(value, "a number", _number_hint(value))


def _positive(value: object) -> float:
    found = number(value)
    if found <= 0:
        raise mistake(f"{WHAT} is {found:g}", "expected a number above 0")
    return found


def _fraction(value: object) -> float:
    found = _positive(value)
    if found > 1:
        raise mistake(
            f"{WHAT} is {found:g}",
            "expected a fraction of the jobs, above 0 and at most 1",
            f"did you mean {found / 100:g}?" if 10 <= found <= 100 else "",
        )
    return found


def boolean(value: object) -> bool:
    """``true`` or ``false``."""
    if isinstance(value, nodes.Scalar) and value.kind == "bool":
        return value.text.lower() == "true"
    raise unlike(value, "true or false")


def _quantity(value: object, expected: str, parse: Callable[[str], T]) -> T:
    if isinstance(value, nodes.Scalar) and value.kind in ("int", "float"):
        raise mistake(f"{WHAT} is a number without a unit", expected)
    if not isinstance(value, nodes.Scalar) or value.kind != "text":
        raise unlike(value, expected)
    try:
        found = parse(value.text)
    except ValueError as error:
        raise mistake(f"{WHAT}: {error}", expected) from error
    if not found:
        raise mistake(f"{WHAT} is 0", expected, "or leave it out")
    return found


def _run_or_time(value: object) -> int | datetime:
    if isinstance(value, nodes.Scalar) and value.kind in ("date", "text"):
        try:
            return parse_time(value.text)
        except ValueError:
            raise unlike(value, "a run number or a time such as 2026-03-01T00:00:00Z") from None
    return integer(value, 1, 2**53)


def plain(value: object) -> str | bool | int | float:
    """A text, a number, ``true`` or ``false``."""
    words = "text, a number, true or false"
    if not isinstance(value, nodes.Scalar):
        raise unlike(value, f"{words}, or a list of these")
    if value.kind == "bool":
        return boolean(value)
    if value.kind == "int":
        return integer(value, -(2**63), 2**63 - 1)
    if value.kind == "float":
        return number(value)
    if value.kind == "odd bool":
        raise unlike(value, "true or false", f'a text goes into quotes: "{value.text}"')
    return text(value, words)


def whole(least: int, most: int) -> Reads:
    """The reading of a whole number within limits, in which both are included."""
    words = f"{least} to {most:,}" if most < 10**7 else f"at least {least}"
    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Reads(lambda value: integer(value, least, most), schema, words)


class OneOf:
    """Part of a type: its values are those of a ``Literal``."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        options: tuple[str, ...] = get_args(source)

        def read(value: object) -> str:
            return word(value, options)

        return core_schema.no_info_plain_validator_function(Reads(read, {}, ""), metadata={"options": options})

    def __get_pydantic_json_schema__(self, schema: Mapping[str, Any], handler: GetJsonSchemaHandler) -> Schema:
        return {"enum": list(schema["metadata"]["options"])}


def one_of(options: Iterable[str]) -> str:
    """``one of a, b, c``; a long list is cut, and of nothing nothing is said."""
    names = list(islice(options, 16))
    if len(names) < 2:
        return "".join(names)
    return "one of " + ", ".join(names[:15]) + (", …" if len(names) > 15 else "")


def single(found: str, called: str) -> str:
    """A name that becomes a part of a DAG's id: otherwise a__b of grouping c and a of b__c would be called the same."""
    if "__" in found:
        raise mistake(f"{called} {found!r} contains '__'", "single underscores")
    return found


_TEXT = {"type": "string"}
_FILLED = {"type": "string", "pattern": r"\S"}
NAME_SCHEMA = {"type": "string", "pattern": rf"^{NAME.pattern}$", "maxLength": NAME_LENGTH}
_DURATION_SCHEMA = {
    "type": "string",
    "pattern": r"^(?=.*[1-9])(?:\d{1,6} ?d)?(?:\d{1,8} ?h)?(?:\d{1,9} ?m(?:in)?)?(?:\d{1,10} ?s)?$",
}
_SIZE_SCHEMA = {"type": "string", "pattern": r"^(?=.*[1-9])\d{1,15}(?:\.\d{1,6})? ?(?:[kKMGT]?B|[KMGT]iB)$"}
_PLAIN_SCHEMA = {"type": ["string", "number", "boolean"]}

Text = Annotated[str, Reads(text, _TEXT, "text")]
Filled = Annotated[str, Reads(filled, _FILLED, "text")]
Template = Annotated[str, Reads(filled, _FILLED, "template")]
Name = Annotated[str, Reads(name, NAME_SCHEMA, "name")]
Tag = Annotated[
    str,
    Reads(
        _tag,
        {"type": "string", "pattern": rf"^{TAG.pattern}$", "maxLength": TAG_LENGTH},
        "letters, digits, `_`, `-`, `.`",
    ),
]
Positive = Annotated[float, Reads(_positive, {"type": "number", "exclusiveMinimum": 0}, "number above 0")]
Fraction = Annotated[
    float, Reads(_fraction, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number above 0, at most 1")
]
Flag = Annotated[bool, Reads(boolean, {"type": "boolean"}, "`true` or `false`")]
Duration = Annotated[
    timedelta, Reads(lambda value: _quantity(value, DURATION, parse_duration), _DURATION_SCHEMA, "duration")
]
Size = Annotated[int, Reads(lambda value: _quantity(value, SIZE, parse_size), _SIZE_SCHEMA, "size")]
RunOrTime = Annotated[
    int | datetime,
    Reads(
        _run_or_time,
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 2**53}, {"type": "string"}]},
        "run number or time",
    ),
]
Plain = Annotated[str | bool | int | float, Reads(plain, _PLAIN_SCHEMA, "text, number, `true` or `false`")]
ConnectionName = Annotated[
    str, Reads(_connection, {"type": "string", "pattern": f"^{CONNECTION.pattern}$"}, "id of a connection")
]
