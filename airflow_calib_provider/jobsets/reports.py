"""What a job leaves behind: its products, and the JSON lines of ``CALIB_REPORT``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_calib_provider.errors import ProductError


@dataclass(frozen=True)
class Report:
    """The lines of one attempt, checked.

    :ivar values: name, value, error; of a name given twice the last counts.
    :ivar products: name → file relative to ``CALIB_OUT``.
    """

    values: list[tuple[str, float, float | None]] = field(default_factory=list)
    products: dict[str, str] = field(default_factory=dict)


def read_outcome(folder: Path, declared: Mapping[str, str]) -> Report:
    """Check the products of an attempt that ended well, and read its report.

    :param folder: the attempt's folder.
    :param declared: the spec's products: name → file relative to ``CALIB_OUT``.
    :raises ProductError: a product is missing, empty or lies outside its folder, or a line of the report is not valid.
    """
    report = read_report(folder / "report.jsonl")
    products = {**declared, **report.products}
    for name, file in products.items():
        check_product(folder / "out", name, file)
    return Report(report.values, products)


def check_product(out: Path, name: str, file: str) -> None:
    """
    :raises ProductError: the product is missing, empty, or lies outside ``out`` (also through a symbolic link).
    """
    path = out / file
    if not path.resolve().is_relative_to(out.resolve()):
        raise ProductError(f"product {name}: {file} leaves its folder")
    if not path.exists():
        raise ProductError(f"product {name}: {file} is missing")
    if path.is_file() and not path.stat().st_size:
        raise ProductError(f"product {name}: {file} is empty")


def read_report(file: Path) -> Report:
    """
    :raises ProductError: a line is not JSON or not one of the documented objects.
    """
    if not file.exists():
        return Report()
    values: dict[str, tuple[str, float, float | None]] = {}
    products: dict[str, str] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ProductError(f"{file.name} is not UTF-8: {error.reason} at byte {error.start}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            kind = item.get("type")
            if kind == "value":
                values[str(item["name"])] = _value(item)
            elif kind == "product":
                products[str(item["name"])] = str(item["file"])
            elif kind != "progress":
                raise ProductError(f"{file.name}:{number}: type must be value, product or progress, not {kind!r}")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ProductError(f"{file.name}:{number}: not a valid line ({error!r}): {line[:120]}") from error
    return Report(list(values.values()), products)


def _value(item: Mapping[str, Any]) -> tuple[str, float, float | None]:
    name, number, error = str(item["name"]), float(item["value"]), item.get("error")
    if not name or len(name) > 120:
        raise ValueError("a value's name has 1 to 120 characters")
    if not math.isfinite(number) or (error is not None and not math.isfinite(float(error))):
        raise ValueError("a value and its error must be finite")
    return name, number, None if error is None else float(error)
