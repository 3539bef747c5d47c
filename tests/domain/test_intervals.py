from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_calib_provider.domain.intervals import Iov

runs = st.integers(0, 60)


@st.composite
def intervals(draw: st.DrawFn) -> Iov:
    first = draw(runs)
    return Iov(first, draw(st.integers(first, 70)))


@pytest.mark.parametrize(("first", "last"), [(5, 4), (-1, 3), (-3, -2)])
def test_impossible(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="no interval of validity"):
        Iov(first, last)


@given(a=intervals(), b=intervals())
def test_overlap_is_a_common_run(a: Iov, b: Iov) -> None:
    common = set(range(a.first, a.last + 1)) & set(range(b.first, b.last + 1))
    assert a.overlaps(b) == b.overlaps(a) == bool(common)
    assert a.overlaps(a)


@given(a=intervals(), run=runs)
def test_contains(a: Iov, run: int) -> None:
    assert (run in a) == (a.first <= run <= a.last) == a.overlaps(Iov(run, run))


@given(a=intervals(), b=intervals())
def test_order_is_by_first_run(a: Iov, b: Iov) -> None:
    assert sorted([a, b])[0].first == min(a.first, b.first)
