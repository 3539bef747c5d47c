"""What a panel shows, computed as Grafana does it: rows of its queries, then its transformations.

Only the transformations that the dashboards use. A column that a transformation names and that is not there is an
error here, while Grafana would silently show nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

Row = dict[str, Any]
Answer = Sequence[Mapping[str, Any]]
"""Series as InfluxDB's ``/query`` answers: ``tags``, ``columns``, ``values``; times in milliseconds or as text."""


@dataclass
class Frame:
    """A table with its columns in order."""

    columns: list[str]
    rows: list[Row]

    def need(self, *names: str) -> None:
        """:raises KeyError: it has no such column."""
        for name in names:
            if name not in self.columns:
                raise KeyError(f"no column {name!r}; there are {self.columns}")


def frame(answer: Answer) -> Frame:
    """A query's answer as Grafana's format ``table``: ``Time``, the tags in order, the fields."""
    columns: list[str] = []
    rows: list[Row] = []
    for series in answer:
        tags = dict(sorted((series.get("tags") or {}).items()))
        names = ["Time" if name == "time" else name for name in series["columns"]]
        columns = columns or [names[0], *tags, *names[1:]]
        rows += [tags | dict(zip(names, values, strict=True)) for values in series["values"]]
    return Frame(columns, rows)


def named(answer: Answer, alias: str) -> dict[str, list[tuple[Any, Any]]]:
    """A query's answer as Grafana's format ``time_series``: points of each series, by its alias."""
    found: dict[str, list[tuple[Any, Any]]] = {}
    for series in answer:
        tags = series.get("tags") or {}
        for place, column in enumerate(series["columns"][1:], start=1):
            name = re.sub(r"\$tag_(\w+)", partial(_tag, tags), alias).replace("$col", column)
            found.setdefault(name, []).extend((values[0], values[place]) for values in series["values"])
    return found


def _tag(tags: Mapping[str, str], match: re.Match[str]) -> str:
    return str(tags[match[1]])


def transformed(frames: Sequence[Frame], steps: Sequence[Mapping[str, Any]]) -> Frame:
    """The table that a panel shows.

    :param frames: one for each query that answered with anything.
    :raises KeyError: a step names a column that is not there.
    """
    if any(step["id"] == "merge" for step in steps):
        frames = [_merge(frames)]
    shown = frames[0] if frames else Frame([], [])
    for step in steps:
        if step["id"] != "merge":
            shown = _STEPS[step["id"]](shown, step["options"])
    return shown


def _merge(frames: Sequence[Frame]) -> Frame:
    columns = list(dict.fromkeys(name for each in frames for name in each.columns))
    shared = [name for name in columns if all(name in each.columns for each in frames)]
    merged: dict[tuple[Any, ...], Row] = {}
    for each in frames:
        for row in each.rows:
            merged.setdefault(tuple(row.get(name) for name in shared), {}).update(row)
    return Frame(columns, list(merged.values()))


def _organize(shown: Frame, options: Mapping[str, Any]) -> Frame:
    hidden, order, names = options["excludeByName"], options["indexByName"], options["renameByName"]
    shown.need(*hidden, *names)
    kept = [name for name in shown.columns if not hidden.get(name)]
    kept.sort(key=lambda name: order.get(name, len(order)))
    return Frame(
        [names.get(name, name) for name in kept], [{names.get(k, k): row.get(k) for k in kept} for row in shown.rows]
    )


def _sort(shown: Frame, options: Mapping[str, Any]) -> Frame:
    for key in options["sort"]:
        shown.need(key["field"])
        shown.rows.sort(key=itemgetter(key["field"]), reverse=key.get("desc", False))
    return shown


def _group(shown: Frame, options: Mapping[str, Any]) -> Frame:
    fields = options["fields"]
    shown.need(*fields)
    keys = [name for name in shown.columns if fields.get(name, {}).get("operation") == "groupby"]
    sums = [
        (name, how)
        for name in shown.columns
        if name not in keys and name in fields
        for how in fields[name]["aggregations"]
    ]
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for row in shown.rows:
        grouped.setdefault(tuple(row.get(name) for name in keys), []).append(row)
    how_to: dict[str, Callable[[list[Any]], Any]] = {"last": lambda values: values[-1], "count": len, "max": max}
    rows = [
        dict(zip(keys, key, strict=True))
        | {f"{name} ({how})": how_to[how]([row.get(name) for row in members]) for name, how in sums}
        for key, members in grouped.items()
    ]
    return Frame([*keys, *(f"{name} ({how})" for name, how in sums)], rows)


def _filter(shown: Frame, options: Mapping[str, Any]) -> Frame:
    rows = shown.rows
    for condition in options["filters"]:
        shown.need(condition["fieldName"])
        value = condition["config"]["options"]["value"]
        rows = [row for row in rows if row[condition["fieldName"]] == value]
    return Frame(shown.columns, rows)


def _matrix(shown: Frame, options: Mapping[str, Any]) -> Frame:
    column, row, value = (options[name] for name in ("columnField", "rowField", "valueField"))
    shown.need(column, row, value)
    corner = f"{row}\\{column}"
    columns = list(dict.fromkeys(each[column] for each in shown.rows))
    found: dict[Any, Row] = {}
    for each in shown.rows:
        found.setdefault(each[row], {corner: each[row]})[each[column]] = each[value]
    return Frame([corner, *columns], list(found.values()))


def _extract(shown: Frame, options: Mapping[str, Any]) -> Frame:
    shown.need(options["source"])
    pattern = re.compile(options["regExp"].strip("/").replace("(?<", "(?P<"))
    found = [pattern.match(str(row[options["source"]])) for row in shown.rows]
    rows = [row | (match.groupdict() if match else {}) for row, match in zip(shown.rows, found, strict=True)]
    return Frame([*shown.columns, *pattern.groupindex], rows)


_STEPS: dict[str, Callable[[Frame, Mapping[str, Any]], Frame]] = {
    "organize": _organize,
    "sortBy": _sort,
    "groupBy": _group,
    "filterByValue": _filter,
    "groupingToMatrix": _matrix,
    "extractFields": _extract,
}
