"""Reading a mapping of the language by its model: one key for each field, the type says what may stand there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from airflow_calib_provider.spec.positions import Node
    from airflow_calib_provider.spec.reading import Reader

MANY = 10**9


def read_block(reader: Reader, node: Node, what: str, model: type[BaseModel]) -> dict[str, Any]:
    """What is stated, by key; mistakes are reported, and left out.

    :param model: with fields of ``str``, ``bool``, ``int``, ``float``, ``timedelta`` and ``Literal`` of texts, or a
        tuple of texts.
    """
    from airflow_calib_provider.spec.reading import Keys

    fields = model.model_fields
    keys = Keys(reader, node, what, fields)
    found = {}
    for name, field in fields.items():
        read = _reader(reader, field)
        if field.is_required():
            found[name] = keys.require(name, read, field.description or name)
        elif name in keys:
            found[name] = read(keys[name], f"{what}.{name}")
    return {name: value for name, value in found.items() if value is not None}


def _reader(reader: Reader, field: FieldInfo) -> Callable[[Node, str], Any]:
    kind = field.annotation
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
    if get_origin(kind) is Literal:
        return reader.choice(get_args(kind))
    if get_origin(kind) is tuple:
        return reader.texts
    if kind is int:
        least, most = (
            next((getattr(item, name) for item in field.metadata if hasattr(item, name)), other)
            for name, other in (("ge", -MANY), ("le", MANY))
        )
        return reader.integer(least, most)
    found: dict[Any, Callable[[Node, str], Any]] = {
        str: reader.filled,
        bool: reader.boolean,
        float: reader.number,
        timedelta: reader.duration,
    }
    return found[kind]
