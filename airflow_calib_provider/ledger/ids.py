"""Any number of ids in a statement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import BigInteger, BindParameter, ColumnElement, bindparam

IDS: BindParameter[Any] = bindparam("ids", expanding=True, literal_execute=True, type_=BigInteger())
"""Ids that are given when a statement is executed, which is built once then: ``execute(statement, {"ids": …})``."""

Ids = Iterable[int] | BindParameter[Any]
"""Ids, or :data:`IDS`."""


def one_of(column: ColumnElement[int], numbers: Ids) -> ColumnElement[bool]:
    """``column IN (...)`` for any number of integers: written into the statement, since parameters are limited."""
    if isinstance(numbers, BindParameter):
        return column.in_(numbers)
    values = sorted({int(number) for number in cast("Iterable[int]", numbers)})
    return column.in_(bindparam(None, values, expanding=True, literal_execute=True, type_=BigInteger()))
