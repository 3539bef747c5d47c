"""What is made of what HTCondor and its jobs wrote, without a pool."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from airflow_calib_provider.backends.base import FailureClass
from airflow_calib_provider.backends.condor import outcomes
from airflow_calib_provider.backends.condor.outcomes import Proc

T = datetime(2026, 5, 1, tzinfo=UTC)


def not_started(folder: Path) -> str | None:
    return outcomes.ended(Proc(0, 0, 1, folder), T, exit_code=127, signal=None).reason


def test_the_last_words_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "stderr").write_bytes(b"a\nno such\0 program \xff\n")
    assert not_started(tmp_path) == "exit code 127: no such program \ufffd"
    assert outcomes.ended(Proc(0, 0, 1, tmp_path), T, exit_code=127, signal=None).failure is FailureClass.START


def test_a_job_cannot_stop_the_watcher_or_read_with_its_eyes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stderr")
    assert not_started(tmp_path) == "exit code 127"
    (tmp_path / "stderr").unlink()
    (tmp_path / "secret").write_text("the password\n")
    (tmp_path / "stderr").symlink_to(tmp_path / "secret")
    assert not_started(tmp_path) == "exit code 127"
