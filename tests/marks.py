"""Marks that a test's own module names, so that who wants these tests need not collect all."""

from __future__ import annotations

from pathlib import Path

import pytest

NAMED = ("airflow", "condor")


def names_mark(file: Path, mark: str) -> bool:
    """Whether a module marks tests with it."""
    return bool(mark) and f"mark.{mark}" in file.read_text()


def check_named(items: list[pytest.Item]) -> None:
    """See to it that these marks come from nowhere else.

    :raises pytest.UsageError: a test has one that its module does not name.
    """
    for mark in NAMED:
        for file in {item.path for item in items if item.get_closest_marker(mark)}:
            if not names_mark(file, mark):
                raise pytest.UsageError(f"{file}: has tests with the mark {mark}, and does not name it")
