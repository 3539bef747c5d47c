"""Runs from a file of JSON: a list of objects, or one in each line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.outside.strict_json import BadJson, at_path, kind_of, parse_json
from airflow_calib_provider.runsources.faults import Faults, TooManyFaults
from airflow_calib_provider.runsources.json_kind import JsonKeys
from airflow_calib_provider.runsources.objects import ObjectReader
from airflow_calib_provider.runsources.text_file import read_text, refuse_open_end
from airflow_calib_provider.spec.models import FieldType
from airflow_calib_provider.spec.places import Lines


def read_json(path: Path, keys: JsonKeys, fields: Mapping[str, FieldType]) -> list[RunRecord]:
    """Read the runs of a file.

    :param path: absolute.
    :param fields: the declared fields with their types.
    :raises RunSourceError: anything is wrong with the file.
    """
    faults = Faults(path)
    reader = ObjectReader(keys.keys, fields, keys.times(), faults, folder=path.parent)
    try:
        text = read_text(path, faults, "JSON")
        if text is not None:
            reader.add_all(_lines(path, text, faults) if keys.lines else _listed(path, text, keys.runs, faults))
            if keys.lines:
                refuse_open_end(text, faults)
    except TooManyFaults:
        pass
    faults.raise_if_any()
    return reader.records()


def _lines(path: Path, text: str, faults: Faults) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append((f"{path}:{number}:1", parse_json(line)))
            except BadJson as error:
                hint = "the file may be truncated" if text.endswith(line) else ""
                faults.add(number, (error.position or 0) + 1, f"not JSON: {error}", "an object in each line", hint)
    return [] if faults.messages else found


def _listed(path: Path, text: str, where: str, faults: Faults) -> list[tuple[str, object]]:
    try:
        document = parse_json(text)
    except BadJson as error:
        at = (1, 1) if error.position is None else Lines(text).at(error.position)
        hint = (
            "the file may be truncated" if error.position is not None and error.position >= len(text.rstrip()) else ""
        )
        faults.add(*at, f"not JSON: {error}", "a list of objects", hint)
        return []
    try:
        runs = at_path(document, where)
    except KeyError as error:
        faults.add(1, 1, f"there is no list at {where!r}: nothing has {error.args[0]!r}", "a list of objects")
        return []
    if not isinstance(runs, list):
        hint = f"say with 'runs' where it is: {_options(runs)}" if isinstance(runs, dict) else ""
        faults.add(1, 1, f"it is {kind_of(runs)}" + (f" at {where!r}" if where else ""), "a list of objects", hint)
        return []
    return _placed(path, text, where, runs)


def _options(document: Mapping[str, object]) -> str:
    """The keys that lead to lists."""
    return ", ".join(name[:40] for name, value in document.items() if isinstance(value, list)) or "it has none"


def _placed(path: Path, text: str, where: str, runs: list[object]) -> list[tuple[str, object]]:
    """The runs with the lines and columns where they begin."""
    places = [f"{path}:{line}:{column}" for line, column in _starts(text, where, len(runs))]
    return list(zip(places, runs, strict=True))


def _starts(text: str, where: str, count: int) -> list[tuple[int, int]]:
    """Line and column where each element of the list begins."""
    position = 0
    for key in where.split(".") if where else ():
        position = _value_of(text, position, key)
    position = _skip(text, position) + 1
    lines, found = Lines(text), []
    for _ in range(count):
        position = _skip(text, position, ",")
        found.append(lines.at(position))
        position = _SCANNER.raw_decode(text, position)[1]
    return found


def _value_of(text: str, position: int, key: str) -> int:
    """Where the value of a key begins in the object at a position."""
    position = _skip(text, position) + 1
    while True:
        name, position = _SCANNER.raw_decode(text, _skip(text, position, ","))
        position = _skip(text, position, ":")
        if name == key:
            return position
        position = _SCANNER.raw_decode(text, position)[1]


def _skip(text: str, position: int, signs: str = "") -> int:
    while text[position] in " \t\r\n" or text[position] in signs:
        position += 1
    return position


_SCANNER = json.JSONDecoder()
