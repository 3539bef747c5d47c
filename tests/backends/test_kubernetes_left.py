"""What jobs leave where Airflow reads and writes: whatever it is, it is judged, and harms nobody else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.backends.kubernetes import records
from airflow_calib_provider.backends.left import leave

GOOD = {"pod": "uid", "host": "node-1", "start": 1.0, "end": 2.0, "code": 0}


def ended(folder: Path, text: str) -> records.PodRecord | None:
    (folder / "0.ended").write_text(text)
    return records.ended(folder, 0)


def test_a_record_is_read(tmp_path: Path) -> None:
    found = ended(tmp_path, json.dumps(GOOD))
    assert found is not None
    assert (found.code, found.host) == (0, "node-1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": 10**40},
        {"code": -1},
        {"code": True},
        {"signal": 2**63},
        {"memory": 2**63},
        {"host": "\ud800"},
        {"host": "a\0b"},
        {"pod": "\udcff"},
        {"end": 253402300799},
        {"start": -62135596800},
        {"code": None},
    ],
)
def test_what_no_ledger_could_hold_is_no_record(wrong: dict[str, Any], tmp_path: Path) -> None:
    assert ended(tmp_path, json.dumps({**GOOD, **wrong})) is None


def test_brackets_without_end_are_no_record(tmp_path: Path) -> None:
    assert ended(tmp_path, 4096 * "[") is None


def test_a_log_is_left_where_there_is_nothing(tmp_path: Path) -> None:
    leave(tmp_path, "stderr", "a\n")
    leave(tmp_path, "stderr", "b\n")
    assert (tmp_path / "stderr").read_text() == "a\n"


def test_a_log_is_left_nowhere_else(tmp_path: Path) -> None:
    job, other = tmp_path / "job", tmp_path / "other"
    job.mkdir()
    (job / "link").symlink_to(other)
    os.mkfifo(job / "pipe")
    (tmp_path / "folder").symlink_to(job)
    (tmp_path / "empty").touch()
    (job / "same").hardlink_to(tmp_path / "empty")
    for folder, name in ((job, "link"), (job, "pipe"), (tmp_path / "folder", "stderr")):
        with pytest.raises(OSError, match=r"."):
            leave(folder, name, "text")
    leave(job, "same", "text")
    assert not other.exists()
    assert (tmp_path / "empty").read_text() == ""
    assert not (job / "stderr").exists()
