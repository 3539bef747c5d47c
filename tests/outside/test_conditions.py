"""Outside stores of payloads do what every one must; what is no listing, and how a run is looked up."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.outside.conditions import PlacedPayload, look_up
from airflow_calib_provider.outside.conditions_folder import FolderStore
from tests.outside.conformance import ConditionsStoreConformance, Interval, Put


class _Folder(ConditionsStoreConformance):
    @pytest.fixture
    def name(self) -> str:
        return "folder"

    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        (tmp_path / "conditions").mkdir()
        return str(tmp_path / "conditions")

    @pytest.fixture
    def no_place(self) -> str:
        return "conditions/of/where"

    @pytest.fixture
    def breaks(self, place: str) -> Callable[[], None]:
        def lose() -> None:
            shutil.rmtree(place)
            Path(place).write_text("a file where the folder should be")

        return lose


class TestFolderOfCsv(_Folder):
    @pytest.fixture
    def put(self, place: str) -> Put:
        def write(tag: str, intervals: Iterable[Interval]) -> None:
            rows = [f"{first},{'' if last is None else last},{file}" for first, last, file in intervals]
            (Path(place) / f"{tag}.csv").write_text("\n".join(["first_run,last_run,file", *rows]) + "\n")

        return write


class TestFolderOfJson(_Folder):
    @pytest.fixture
    def put(self, place: str) -> Put:
        def write(tag: str, intervals: Iterable[Interval]) -> None:
            rows = [dict(zip(("first_run", "last_run", "file"), one, strict=True)) for one in intervals]
            (Path(place) / f"{tag}.json").write_text(json.dumps(rows))

        return write


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
