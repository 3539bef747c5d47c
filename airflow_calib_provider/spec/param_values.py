"""Values of params: of the type that is declared, also where they come from a command line or a form."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from airflow_calib_provider.spec.positions import kind_of


def as_declared(declared: object, value: object, *, texts: bool = False) -> object:
    """A value of the type of another one; of a list, with elements of its types.

    :param texts: a text stands for the value that it would be in a file.
    :raises ValueError: it is of another type.
    """
    kind = type(declared)
    if kind is str and isinstance(value, str):
        return value
    read = read_text(value) if texts and isinstance(value, str) else value
    if kind is float and isinstance(read, int) and not isinstance(read, bool):
        read = float(read)
    if kind is list and isinstance(read, Sequence) and not isinstance(read, str):
        items = list(read)
        kinds = {type(item) for item in declared} if isinstance(declared, list) else set()
        if wrong := [item for item in items if kinds and not any(_fits(item, one) for one in kinds)]:
            raise ValueError(f"{wrong[0]!r} is no {_name(next(iter(kinds)))}, of which the list {declared!r} consists")
        return items
    if type(read) is not kind or (isinstance(read, float) and not math.isfinite(read)):
        raise ValueError(f"{value!r} is no {_name(kind)}, as the declared {declared!r} is")
    return read


def read_text(text: str) -> object:
    """A text of the command line or a form as the value that it would be in the file."""
    kind = kind_of(text)
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int" and len(text) < 20:
        return int(text)
    if kind == "float" and len(text) < 40:
        return float(text)
    if text.startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _fits(item: object, kind: type) -> bool:
    return type(item) is kind or (kind is float and type(item) is int)


def _name(kind: type) -> str:
    names = {bool: "truth value (true or false)", int: "whole number", float: "number", list: 'list such as ["a", "b"]'}
    return names.get(kind, "text")
