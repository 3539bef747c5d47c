"""Line protocol: the one way in which points are written; a point always gives the same line."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from airflow_calib_provider.mirror.schema import MEASUREMENTS, Point


def line_of(point: Point) -> str:
    """A point as a line, without its end."""
    fields = ",".join(
        [
            written(value)
            for written, value in zip(_writers(point.measurement), point.fields, strict=True)
            if value is not None
        ]
    )
    return f"{_head(point.measurement, point.tags)} {fields} {point.time}"


@lru_cache(maxsize=65_536)
def _head(measurement: str, tags: tuple[str, ...]) -> str:
    names = MEASUREMENTS[measurement].tags
    return ",".join([measurement, *(f"{name}={_tag(value)}" for name, value in zip(names, tags, strict=True))])


def _tag(value: str) -> str:
    return value.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


@lru_cache(maxsize=64)
def _writers(measurement: str) -> tuple[Callable[[int | float | str | bool], str], ...]:
    return tuple(_writer(name, kind) for name, kind in MEASUREMENTS[measurement].fields.items())


def _writer(name: str, kind: type) -> Callable[[int | float | str | bool], str]:
    if kind is int:
        return lambda value: f"{name}={value}i"
    if kind is float:
        return lambda value: f"{name}={value!r}"
    if kind is bool:
        return lambda value: f"{name}={'true' if value else 'false'}"
    # Hosts, groups, states and reasons are the same ones again and again.
    return lru_cache(maxsize=1024)(lambda value: f'{name}="{_text(str(value))}"')


def _text(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"') if "\\" in value or '"' in value else value
