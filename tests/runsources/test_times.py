"""When runs were, as sources write it: one set of rules for all of them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.errors import RunSourceError
from airflow_calib_provider.runsources import base
from airflow_calib_provider.runsources.times import ClockChange, TimeRules, read_span
from airflow_calib_provider.spec.kinds import RunSourceKind
from airflow_calib_provider.spec.models import RunSource

ZURICH = ZoneInfo("Europe/Zurich")
HERE = TimeRules(ZURICH)
SECONDS, MILLISECONDS = TimeRules(unit=1.0), TimeRules(unit=1e-3)


@pytest.mark.parametrize(
    ("rules", "value", "utc"),
    [
        (TimeRules(), "2026-03-01T12:00:00Z", "2026-03-01T12:00:00"),
        (TimeRules(), "2026-03-01T12:00:00+01:00", "2026-03-01T11:00:00"),
        (TimeRules(), "2026-03-01 12:00", "2026-03-01T12:00:00"),
        (TimeRules(), "2026-03-01", "2026-03-01T00:00:00"),
        (HERE, "2026-03-01T12:00:00Z", "2026-03-01T12:00:00"),
        (HERE, "2026-03-01T12:00:00-05", "2026-03-01T17:00:00"),
        (HERE, "2026-03-01T12:00:00", "2026-03-01T11:00:00"),
        (HERE, "2026-07-01T12:00:00", "2026-07-01T10:00:00"),
        (HERE, "2026-07-01", "2026-06-30T22:00:00"),
        (HERE, "20260701", "2026-06-30T22:00:00"),
        (HERE, "2026-10-25T02:30:00", "2026-10-25T00:30:00"),  # there twice: the first
        (HERE, "2016-12-31T23:59:60", "2016-12-31T23:00:00"),
        (HERE, datetime(2026, 7, 1, 12), "2026-07-01T10:00:00"),
        (HERE, datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=5))), "2026-07-01T07:00:00"),
        (HERE, date(2026, 7, 1), "2026-06-30T22:00:00"),
        (SECONDS, 1_772_366_400, "2026-03-01T12:00:00"),
        (SECONDS, 1_772_366_400.5, "2026-03-01T12:00:00.500000"),
        (SECONDS, "1772366400", "2026-03-01T12:00:00"),
        (SECONDS, "2026-03-01T12:00:00", "2026-03-01T12:00:00"),
        (MILLISECONDS, 1_772_366_400_000, "2026-03-01T12:00:00"),
    ],
)
def test_times(rules: TimeRules, value: object, utc: str) -> None:
    found = rules.read(value)
    assert found == datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize("value", ["soon", "", True, None, [], 1e300, "12:00", 1_772_366_400])
def test_what_is_no_time(value: object) -> None:
    with pytest.raises(ValueError, match=r"time|number"):
        HERE.read(value)


def test_an_hour_that_a_clock_change_leaves_out() -> None:
    with pytest.raises(ClockChange, match="2026-03-29 02:30:00 does not exist in Europe/Zurich"):
        HERE.read("2026-03-29T02:30:00")


def test_a_run_within_the_repeated_hour_does_not_end_before_it_starts() -> None:
    start, end = read_span(HERE, "2026-10-25T02:50:00", "2026-10-25T02:10:00")
    assert start is not None
    assert end is not None
    assert end - start == timedelta(minutes=20)


@given(st.datetimes(datetime(1980, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)))
def test_a_time_that_says_its_zone_is_the_same_everywhere(at: datetime) -> None:
    for text in (at.isoformat(), at.astimezone(ZURICH).isoformat(), at.isoformat().replace("+00:00", "Z")):
        assert TimeRules().read(text) == HERE.read(text) == at


@given(st.datetimes(datetime(1980, 1, 1), datetime(2037, 1, 1)))
def test_a_time_that_does_not_is_that_of_its_zone(local: datetime) -> None:
    try:
        found = HERE.read(local.isoformat())
    except ClockChange:
        return
    assert found.astimezone(ZURICH).replace(tzinfo=None) == local


@pytest.mark.parametrize("end", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
def test_times_without_room_for_calculations_are_the_trouble_of_their_source(
    end: datetime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Sentinels(RunSourceKind):
        name = "sentinels"

        def read(self, source: RunSource, folder: Path) -> list[RunRecord]:
            return [RunRecord(1, datetime(2026, 1, 1, tzinfo=UTC)), RunRecord(2, end=end)]

    monkeypatch.setattr(base, "run_source_kind", lambda _: Sentinels())
    source = RunSource(name="daq", kind="sentinels", fields={})
    with pytest.raises(RunSourceError, match=r"'daq', run 2: .* is no time of a run"):
        base.read_source(source, base_folder=tmp_path)
    with pytest.raises(RunSourceError, match=r"'daq', run 2: .* is no time of a run"):
        base.read_on(source, base_folder=tmp_path, mark=None, now=datetime.now(UTC))
