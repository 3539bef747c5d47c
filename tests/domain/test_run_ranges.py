"""Runs as people write them."""

from __future__ import annotations

import time

import pytest

from airflow_calib_provider.domain.run_ranges import LONGEST, parse_ranges
from airflow_calib_provider.errors import CalibError


@pytest.mark.parametrize(
    ("text", "ranges", "single"),
    [
        ("5", [(5, 5)], [5]),
        ("1-3, 7", [(1, 3), (7, 7)], [7]),
        ("3-5,1-4,6", [(1, 6)], [6]),
        ("1-3\n5-6\n\n9", [(1, 3), (5, 6), (9, 9)], [9]),
        ("007", [(7, 7)], [7]),
    ],
)
def test_what_is_meant(text: str, ranges: list[tuple[int, int]], single: list[int]) -> None:
    found = parse_ranges(text)
    assert (list(found.ranges), list(found.single)) == (ranges, single)
    numbers = {number for first, last in ranges for number in range(first, last + 1)}
    assert {number for number in range(20) if number in found} == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is neither a run"),
        ("2,x", "'x' is neither a run nor a range of runs"),
        ("1,,3", "'' is neither a run"),
        ("5-2", "the range 5-2 ends before it begins"),
        ("1-2-3", "'1-2-3' is neither"),
        ("٣", "'٣' is neither"),
        ("9" * 30, "the largest possible one is"),
        ("a,b,c,d,e,f,g", "and 2 more mistakes"),
        ("a,9-1", "'a' is neither a run nor a range of runs; the range 9-1 ends"),
        ("1," * LONGEST, "at most"),
    ],
)
def test_what_cannot_be_meant(text: str, message: str) -> None:
    with pytest.raises(CalibError) as error:
        parse_ranges(text)
    assert message in str(error.value)
    assert len(str(error.value)) < 800


def test_a_text_of_a_hundred_kilobytes_is_read_quickly() -> None:
    begun = time.process_time()
    found = parse_ranges(",".join(f"{number}-{number + 3}" for number in range(0, 70_000, 7)))
    assert len(found.ranges) == 10_000
    assert sum(number in found for number in range(70_000)) == 40_000
    assert time.process_time() - begun < 5.0
