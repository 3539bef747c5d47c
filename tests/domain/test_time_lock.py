"""Hours in which a lock is shut, in zones whose clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_calib_provider.domain.clocks import range_ends
from airflow_calib_provider.domain.locks.time import odd_hour

ZURICH = ZoneInfo("Europe/Zurich")


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        ("2026-03-28T20:59", None),
        ("2026-03-28T21:00", "2026-03-29T04:00"),  # from winter into summer: an hour less
        ("2026-03-29T03:59", "2026-03-29T04:00"),
        ("2026-03-29T04:00", None),
        ("2026-10-24T20:00", "2026-10-25T05:00"),  # and an hour more
        ("2026-07-01T12:00", None),
    ],
)
def test_a_night_when_the_clock_changes(at: str, opens: str | None) -> None:
    found = range_ends("22:00", "06:00", "Europe/Zurich", datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert found == (None if opens is None else datetime.fromisoformat(opens).replace(tzinfo=UTC))


TIMES = st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.integers(0, 59))


@given(
    TIMES,
    TIMES,
    st.sampled_from(["UTC", "Europe/Zurich", "America/Chicago", "Asia/Kathmandu"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
)
@settings(max_examples=150, deadline=None)
def test_it_opens_when_it_says_and_no_earlier(begin: str, end: str, zone: str, at: datetime) -> None:
    if begin == end or odd_hour(begin, zone) or odd_hour(end, zone):
        return
    now = at.replace(tzinfo=UTC)
    found = range_ends(begin, end, zone, now)
    wall = f"{now.astimezone(ZoneInfo(zone)):%H:%M}"
    assert (found is not None) == (begin <= wall < end if begin < end else not end <= wall < begin)
    if found is not None:
        assert now < found <= now + timedelta(hours=25)
        assert range_ends(begin, end, zone, found) is None
        assert range_ends(begin, end, zone, found - timedelta(minutes=1)) == found


@pytest.mark.parametrize(
    ("at", "zone", "said"),
    [
        ("02:00", "Europe/Zurich", "is left out in Europe/Zurich on 2026-03-29"),
        ("03:00", "Europe/Zurich", ""),
        ("01:30", "America/Chicago", "is there twice in America/Chicago on 2026-11-01"),
        ("02:30", "America/Chicago", "is left out in America/Chicago on 2026-03-08"),
        ("02:30", "UTC", ""),
    ],
)
def test_hours_that_are_there_twice_or_not_at_all(at: str, zone: str, said: str) -> None:
    assert odd_hour(at, zone).startswith(said)
    assert bool(odd_hour(at, zone)) == bool(said)
