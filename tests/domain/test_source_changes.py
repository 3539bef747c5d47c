"""What counts as a change of a run's source, on pure functions."""

from __future__ import annotations

import pytest

from airflow_calib_provider.domain.source_changes import source_changes


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        ("5", 5, False),
        (5, "5", False),
        (5, 5.0, False),
        ("true", True, False),
        ("05", 5, True),
        ("5", "6", True),
        (5, None, True),
        (None, "None", True),
    ],
)
def test_a_field_with_another_type_is_no_change_if_it_says_the_same(before: object, now: object, changed: bool) -> None:
    found = source_changes(
        {"kind": before, "files": []}, {"kind": now}, start=None, end=None, files=[], completed=True, listed=True
    )
    assert found == ({"kind": [before, now]} if changed else {})
