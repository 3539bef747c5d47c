"""What pods leave in the spool, read without a cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from airflow_calib_provider.backends.kubernetes.folder import Part
from airflow_calib_provider.backends.kubernetes.records import Listing
from airflow_calib_provider.backends.kubernetes.starting import BEGUN, ENDED
from airflow_calib_provider.backends.kubernetes.state import PartState
from airflow_calib_provider.domain.observation import AttemptState

SECOND = 1_800_000_000


def note(folder: Path, name: str, written: int, **values: object) -> None:
    """A record as the starter leaves it; :param written: ns since the second in which everything begins."""
    about = {"pod": "", "host": "node", "start": SECOND}
    (folder / name).write_text(json.dumps(about | values))
    os.utime(folder / name, ns=(0, SECOND * 10**9 + written))


@pytest.mark.parametrize("later", ["a", "z"])
def test_two_starts_in_one_second_are_told_in_their_order(tmp_path: Path, later: str) -> None:
    """The shell's starter knows whole seconds."""
    part = PartState(Part(0, "job", [(4, 1, tmp_path)]), "uid", (), Listing(tmp_path))
    note(tmp_path, f"0.m.{BEGUN}", 100, pod="m")
    assert [item["event"] for item in part.from_records()] == [AttemptState.RUNNING.value]
    note(tmp_path, f"0.{later}.{BEGUN}", 200, pod=later)
    note(tmp_path, f"0.{ENDED}", 300, pod=later, end=SECOND, code=0)
    told = [item["event"] for item in part.from_records()]
    assert told == [state.value for state in (AttemptState.EVICTED, AttemptState.RUNNING, AttemptState.SUCCEEDED)]


def test_what_began_earlier_is_not_told_again(tmp_path: Path) -> None:
    part = PartState(Part(0, "job", [(4, 1, tmp_path)]), "uid", (), Listing(tmp_path))
    note(tmp_path, f"0.m.{BEGUN}", 200, pod="m")
    assert [item["pod"] for item in part.from_records()] == ["m"]
    note(tmp_path, f"0.a.{BEGUN}", 100, pod="a")
    assert list(part.from_records()) == []
