"""Listings of outside stores: what is none, and how a run is looked up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.outside.conditions import PlacedPayload, look_up
from airflow_calib_provider.outside.conditions_folder import FolderStore


@pytest.mark.timeout(60)
def test_a_listing_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Laser.csv")
    with pytest.raises(OutsideError, match=r"Laser.csv: it is no file"):
        FolderStore(str(tmp_path)).listing("Laser")


def test_looking_up_a_run_goes_through_few_of_many_intervals() -> None:
    class Counting(list[PlacedPayload]):
        looked = 0

        def __getitem__(self, place: Any) -> Any:
            Counting.looked += 1
            return super().__getitem__(place)

        def __iter__(self) -> Any:
            raise AssertionError("all intervals are gone through")

    found = look_up(Counting(PlacedPayload(run, run + 5, "a") for run in range(1, 100_000, 10)), 50_003)
    assert found == PlacedPayload(50_001, 50_006, "a")
    assert Counting.looked < 30
