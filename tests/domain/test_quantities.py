"""Durations, sizes and times."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_calib_provider.domain.listing import counted, of_runs
from airflow_calib_provider.domain.quantities import (
    format_duration,
    format_number,
    format_time,
    parse_duration,
    parse_size,
    parse_time,
    value_text,
)


def test_times_numbers_and_runs_are_as_people_read_them() -> None:
    cest = datetime.fromisoformat("2026-05-01T11:13:58.123456+02:00")
    assert format_time(cest) == format_time(cest.isoformat()) == "2026-05-01 09:13 UTC"
    assert (format_time(None), format_time("soon")) == ("", "soon")
    numbers = [355872.0, 4e6, 0.0314159265, float("nan"), 1e300, -0.5]
    assert [format_number(one) for one in numbers] == ["355,872", "4,000,000", "0.0314159", "nan", "1e+300", "-0.5"]
    assert [value_text(one) for one in (355872.0, True, ["a", 2.0], 0.5)] == ["355872", "true", "a 2", "0.5"]
    assert (of_runs(6, 6), of_runs(6, 9)) == ("run 6", "runs 6–9")
    assert (counted(1, "job"), counted(1_200, "job")) == ("1 job", "1,200 jobs")


@given(st.integers(min_value=0, max_value=3_600 * 24 * 3_000))
def test_durations_survive_writing_and_reading(seconds: int) -> None:
    value = timedelta(seconds=seconds)
    assert parse_duration(format_duration(value)) == value


@given(st.text())
def test_no_text_breaks_the_readers(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_time):
        with contextlib.suppress(ValueError):
            parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", 30),
        ("10m", 600),
        ("36h", 129_600),
        ("2d", 172_800),
        ("1h30m", 5_400),
        ("90m", 5_400),
        ("1d1s", 86_401),
        ("5 min", 300),
        ("14 d", 1_209_600),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration(text).total_seconds() == expected


@pytest.mark.parametrize(
    "text", ["", "h", "1", "1.5h", "1h 30m", "30m1h", "-1h", "1H", "١h", "9999999d", "1h1h", "1w", "4000d", "1h\n"]
)
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration|longer than ten years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1B", 1), ("500MB", 500_000_000), ("2GB", 2 * 10**9), ("4GiB", 4 * 2**30), ("1.5 GB", 1_500_000_000)],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "2", "2G", "2 Gb", "-1GB", "1e3MB", "GB", "2iB", "2kiB"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["1000001TB", "999999999999999TiB"])
def test_a_size_beyond_what_a_ledger_holds(text: str) -> None:
    assert parse_size("1000000TB") < 2**63
    with pytest.raises(ValueError, match="more than a million TB"):
        parse_size(text)


def test_times_without_a_zone_are_utc() -> None:
    assert parse_time("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)
    assert parse_time("2026-03-01T12:00:00+02:00") == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert parse_time("2026-03-01 12:00:00Z").tzinfo is UTC
