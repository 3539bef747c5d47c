"""The measurements of the mirror: their tags and fields. They are stable, and described in docs/mirror.md.

Tag keys are fixed, since InfluxDB 3 cannot change those of a table; a tag without a value is written as ``none``. A tag
and a field never share a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

NONE = "none"
"""The value of a tag that has none."""

ALL = "all"
"""Campaign and workflow of a figure that concerns the whole installation."""

STATE_CODES = {"new": 0, "waiting": 1, "processing": 2, "done": 3, "failed": 4, "skipped": 5, "removed": 6}
"""The numbers of a task's states; ``removed``: the spec does not have the task any more."""

SHORTENED = 200
"""Characters of a text that are kept in a field."""


@dataclass(frozen=True)
class Measurement:
    """One measurement.

    :ivar tags: in the order in which points have their values.
    :ivar fields: name → type: ``int``, ``float``, ``str`` or ``bool``; in that order, too.
    """

    name: str
    tags: tuple[str, ...]
    fields: Mapping[str, type]


def _measurement(name: str, tags: str, fields: str) -> Measurement:
    types = {"i": int, "f": float, "s": str, "b": bool}
    pairs = (item.split(":") for item in fields.split())
    return Measurement(name, tuple(tags.split()), {field: types[kind] for field, kind in pairs})


MEASUREMENTS: dict[str, Measurement] = {
    item.name: item
    for item in (
        _measurement(
            "run_task",
            "campaign workflow task run",
            "state:s state_code:i group:s generation:i reason:s event:i",
        ),
        _measurement(
            "job",
            "campaign workflow task state failure",
            "group:s generation:i job:i attempt:i from_state:s exit_code:i signal:i host:s memory:i request_memory:i "
            "wall:f reason:s progress:f event:i",
        ),
        _measurement(
            "group",
            "campaign workflow grouping state",
            "group:s first_run:i last_run:i runs:i open_seconds:f reason:s late:b edition:i event:i",
        ),
        _measurement(
            "lock",
            "campaign workflow task lock state",
            "group:s waited:f done:i total:i event:i",
        ),
        _measurement(
            "deadline",
            "campaign workflow task lock state",
            "group:s ends:i left:f near:b then:s event:i",
        ),
        _measurement(
            "value",
            "campaign workflow task name",
            "value:f error:f group:s first_run:i last_run:i generation:i job:i recorded_at:i final:b event:i",
        ),
        _measurement(
            "payload",
            "campaign workflow task tag state",
            "first_run:i last_run:i revision:i group:s size:i content_hash:s event:i",
        ),
        _measurement(
            "campaign",
            "campaign",
            "state:s groups:i groups_new:i groups_waiting:i groups_processing:i groups_failed:i groups_done:i "
            "tasks_left:i jobs_waiting:i jobs_submitted:i jobs_running:i jobs_held:i expected_end:i priority:i "
            "max_groups:i max_jobs:i event:i",
        ),
        _measurement(
            "step",
            "campaign workflow task stage phase metric",
            "value:f error:f deviation:f step:i ending:s group:s generation:i event:i",
        ),
        _measurement(
            "system",
            "campaign workflow",
            "jobs_waiting:i jobs_submitted:i jobs_running:i jobs_held:i groups_waiting:i groups_processing:i "
            "oldest_untreated_seconds:f spool_bytes:i spool_free_bytes:i mirror_lag_seconds:f event:i",
        ),
    )
}


class Point(NamedTuple):
    """One point.

    :ivar tags: values, in the order of the measurement's tags.
    :ivar fields: values, in the order of its fields; ``None``: the point does not have it.
    :ivar time: nanoseconds since 1970.
    """

    measurement: str
    tags: tuple[str, ...]
    fields: tuple[int | float | str | bool | None, ...]
    time: int


def point(measurement: str, tags: tuple[object, ...], fields: Mapping[str, object], time: int) -> Point:
    """A point, with tags and texts as every InfluxDB can store them."""
    get = fields.get
    values = [None if (value := get(name)) is None else check(value) for name, check in _CHECKS[measurement]]
    return Point(measurement, _clean_tags(tags), tuple(values), time)


@lru_cache(maxsize=65_536)
def _clean_tags(tags: tuple[object, ...]) -> tuple[str, ...]:
    return tuple(clean_tag(tag) for tag in tags)


_NOT_IN_TAGS = re.compile(r"[\x00-\x1f\x7f\\]+")
_PLAIN = re.compile(r"[\w.:+ /@-]+\Z")


def clean_tag(value: object) -> str:
    """A tag's value: line protocol has no way to write a backslash before a comma, or the end of a line."""
    text = str(value) if value is not None else ""
    if _PLAIN.match(text):
        return text.strip() or NONE
    return _NOT_IN_TAGS.sub("/", text).encode("utf-8", "replace").decode().strip() or NONE


@lru_cache(maxsize=4096)
def clean_text(value: str) -> str:
    """A field's text: shortened, on one line."""
    if len(value) <= SHORTENED and value.isascii() and value.isprintable():
        return value
    line = value.replace("\r", "").replace("\n", "\\n").replace("\x00", " ")
    return line[:SHORTENED].encode("utf-8", "replace").decode()


_LEAST, _MOST = -(2**63) + 1, 2**63 - 1

# What is not of the field's type, or cannot be stored, is left out.


def _integer(value: object) -> int | None:
    if type(value) is int and _LEAST <= value <= _MOST:
        return value
    if type(value) is int or (isinstance(value, float) and isfinite(value)):
        return int(value) if _LEAST <= value <= _MOST else None
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:
        return None


def _text(value: object) -> str:
    return clean_text(value if type(value) is str else str(value))


Check = Callable[[object], int | float | str | bool | None]

_CHECK_OF: dict[type, Check] = {int: _integer, float: _number, str: _text, bool: bool}

_CHECKS = {
    about.name: [(name, _CHECK_OF[kind]) for name, kind in about.fields.items()] for about in MEASUREMENTS.values()
}
