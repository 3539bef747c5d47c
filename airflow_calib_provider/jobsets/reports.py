"""What a job leaves behind: its products, and the JSON lines of ``CALIB_REPORT``."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_calib_provider.checksums import read_sums
from airflow_calib_provider.errors import ProductError
from airflow_calib_provider.jobsets.products import check_file, check_folder
from airflow_calib_provider.ledger.products import Kept

MAX_REPORT = 20_000_000
"""Bytes."""

MAX_LINE = 100_000
"""Bytes of one line."""

MAX_VALUES, MAX_PRODUCTS = 2_000, 1_000
"""Names of values, and of products, in the report of one attempt. Whole distributions belong into a product."""

LARGEST = 1e300
"""The largest value, and error: sums and differences of many of them are numbers still."""

TAIL = 16_384
"""Bytes at the end of the report of a running job in which its latest progress and values are looked for."""


@dataclass(frozen=True)
class Report:
    """The lines of one attempt, checked.

    :ivar values: name, value, error; of a name given twice the last counts.
    :ivar products: name → file relative to ``CALIB_OUT``.
    :ivar kept: file → how large it is, and its checksum if the job's wrapper has made it.
    """

    values: list[tuple[str, float, float | None]] = field(default_factory=list)
    products: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)


def read_outcome(folder: Path, declared: Mapping[str, str]) -> Report:
    """Check the products of an attempt that ended well, and read its report.

    :param folder: the attempt's folder.
    :param declared: the spec's products: name → file relative to ``CALIB_OUT``.
    :raises ProductError: a product is missing, empty or lies outside its folder, or a line of the report is not valid.
    """
    check_folder(folder)
    report = read_report(folder / "report.jsonl")
    products = {**declared, **report.products}
    sums = {os.path.normpath(file): made for file, made in read_sums(folder).items()} if products else {}
    kept = {}
    # Each file once, however many products it is: a folder may hold very many.
    for file, name in {os.path.normpath(file): name for name, file in reversed(products.items())}.items():
        size = check_file(folder / "out", name, file)
        kept[file] = Kept(size, sums.get(file))
    return Report(report.values, products, {file: kept[os.path.normpath(file)] for file in products.values()})


def read_report(file: Path) -> Report:
    """:raises ProductError: a line is not JSON or not one of the documented objects."""
    values: dict[str, tuple[str, float, float | None]] = {}
    products: dict[str, str] = {}
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE:
            raise ProductError(f"{file.name}:{number}: a line of more than {MAX_LINE:,} characters: {line[:60]}")
        try:
            item = _object(line)
            kind = "metrics" if _is_of_iteration(item) else item.get("type")
            if kind == "value":
                values[_name(item)] = _value(item)
            elif kind == "product":
                products[_name(item)] = _text(item["file"], "file")
            elif kind not in ("progress", "metrics"):
                raise ValueError(f"type must be value, product or progress, not {kind!r}")
        except (ValueError, KeyError, RecursionError) as error:
            why = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise ProductError(f"{file.name}:{number}: not a valid line ({why}): {line[:120]}") from error
        for what, found, limit in (("values", values, MAX_VALUES), ("products", products, MAX_PRODUCTS)):
            if len(found) > limit:
                raise ProductError(
                    f"{file.name}:{number}: more than the {limit:,} {what} that a job may report",
                    "write them into a file and declare it under products",
                )
    return Report(list(values.values()), products)


def _is_of_iteration(item: Mapping[str, object]) -> bool:
    """What an update says of its step: read where that is judged (:func:`told_of_iteration`)."""
    return "type" not in item and ("metrics" in item or "verdict" in item)


def told_of_iteration(file: Path) -> dict[str, Any] | None:
    """What the update of a step has told: the last line such as ``{"metrics": {"mass": {"value": 91.1}}}``.

    :returns: the object, unchecked, with NaN as Python reads it; ``None``: it told nothing.
    :raises ProductError: the report cannot be read.
    """
    found = None
    for number, line in enumerate(_lines(file), start=1):
        if line.strip():
            try:
                item = _object(line)
            except (ValueError, RecursionError) as error:  # changed since it was accepted
                raise ProductError(f"{file.name}:{number}: not a valid line ({error}): {line[:120]}") from error
            found = item if _is_of_iteration(item) else found
    return found


@dataclass(frozen=True)
class Latest:
    """What the end of the report of a running job says.

    :ivar progress: from 0 to 1.
    :ivar values: name, value, error; of a name given twice the last counts.
    """

    progress: float | None = None
    values: list[tuple[str, float, float | None]] = field(default_factory=list)


def read_latest(file: Path) -> Latest:
    """The latest in the report of a job that still runs: ``{"type": "progress", "value": 0.4}``, and its values.

    Only the end of the file is read. A last line that is not complete yet, and whatever else is neither, is passed
    over: the report is judged when the job has ended.

    :returns: nothing, if nothing is said, or the report cannot be seen from here.
    """
    progress: float | None = None
    values: dict[str, tuple[str, float, float | None]] = {}
    for line in _tail(file):
        try:
            item = json.loads(line)
            if item["type"] == "progress":
                progress = min(1.0, max(0.0, _number(item["value"])))
            elif item["type"] == "value":
                values[_name(item)] = _value(item)
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            continue
    return Latest(progress, list(values.values()))


def _tail(file: Path) -> list[bytes]:
    """The complete lines at the end of a report; the first may have lost its beginning."""
    try:
        # A pipe or a link is not followed: the report is the job's, and may be anything.
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        about = os.fstat(opened)
        if not stat.S_ISREG(about.st_mode):
            return []
        data = os.pread(opened, TAIL, max(0, about.st_size - TAIL))
    except OSError:
        return []
    finally:
        os.close(opened)
    return data[: data.rfind(b"\n") + 1].splitlines()


def _lines(file: Path) -> list[str]:
    # A pipe would let us wait for ever, a huge file fill our memory: the report is the job's, and may be anything.
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise ProductError(f"{file.name} is not a regular file") from error
    with os.fdopen(opened, "rb") as stream:
        about = os.fstat(opened)
        if not stat.S_ISREG(about.st_mode):
            raise ProductError(f"{file.name} is not a regular file")
        if about.st_size > MAX_REPORT:
            raise ProductError(f"{file.name} has more than {MAX_REPORT:,} bytes")
        data = stream.read(MAX_REPORT + 1)
    try:
        return data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ProductError(f"{file.name} is not UTF-8: {error.reason} at byte {error.start}") from error


def _object(line: str) -> dict[str, Any]:
    item = json.loads(line)
    if not isinstance(item, dict):
        raise ValueError('expected an object such as {"type": "value", "name": …, "value": …}')
    return item


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what} must be text, not {value!r}")
    if value != value.replace("\x00", "").encode("utf-8", "replace").decode():
        raise ValueError(f"{what} has characters that cannot be stored: {value!r}")
    return value


def _name(item: Mapping[str, object]) -> str:
    name = _text(item["name"], "name")
    if len(name) > 120:
        raise ValueError("a name has at most 120 characters")
    return name


def _value(item: Mapping[str, object]) -> tuple[str, float, float | None]:
    error = item.get("error")
    return _name(item), _number(item["value"]), None if error is None else _number(error)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a value and its error must be numbers, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= LARGEST:
        raise ValueError(f"a value and its error must be finite, and at most {LARGEST:g}")
    return number
