"""What Grafana does with the rows of a query before a panel shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

GROUPING = (
    "extractFields",
    {
        "source": "group",
        "format": "regexp",
        "regExp": r"/^(?<grouping>.*)-r\d+$/",
        "replace": False,
        "keepTime": False,
    },
)
"""Transformation: the grouping, out of the name of a group."""


def columns(
    *order: str, hide: Sequence[str] = (), rename: Mapping[str, str] | None = None
) -> tuple[str, Mapping[str, Any]]:
    """Transformation: the columns of a table in this order, without some, with other names."""
    return "organize", {
        "indexByName": {name: place for place, name in enumerate(order)},
        "excludeByName": dict.fromkeys(hide, True),
        "renameByName": dict(rename or {}),
    }


def latest(by: Sequence[str], keep: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
    """Transformations: of all rows with the same ``by``, the one with the highest event; its columns ``keep``."""
    fields: dict[str, Any] = {name: {"operation": "groupby", "aggregations": []} for name in by}
    fields |= {name: {"operation": "aggregate", "aggregations": ["last"]} for name in keep}
    return [
        ("sortBy", {"fields": {}, "sort": [{"field": "event", "desc": False}]}),
        ("groupBy", {"fields": fields}),
        columns(*by, *(f"{name} (last)" for name in keep), rename={f"{name} (last)": name for name in keep}),
    ]


def only(column: str, value: object) -> tuple[str, Mapping[str, Any]]:
    """Transformation: rows whose column has this value."""
    match = {"id": "equal", "options": {"value": value}}
    return "filterByValue", {"type": "include", "match": "all", "filters": [{"fieldName": column, "config": match}]}


def matrix(column: str, row: str, value: str) -> tuple[str, Mapping[str, Any]]:
    """Transformation: a column for each value of one column, a row for each value of another."""
    return "groupingToMatrix", {"columnField": column, "rowField": row, "valueField": value, "emptyValue": "empty"}
