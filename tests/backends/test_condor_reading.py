"""What is made of what HTCondor and its jobs wrote, without a pool."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_calib_provider.backends.base import FailureClass
from airflow_calib_provider.backends.condor import eventlog, outcomes, submission
from airflow_calib_provider.backends.condor.cursor import Cursor
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


HEAD = """\
000 (005.000.000) 2026-05-01 05:36:09 Job submitted from host: <127.0.0.1:9618>
...
001 (005.000.000) 2026-05-01 05:36:10 Job executing on host: <127.0.0.1:9618>
...
"""
EVICTED = """\
004 (005.000.000) 2026-05-01 05:36:11 Job was evicted.{code}
\t(0) CPU times
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Remote Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Local Usage
\t0  -  Run Bytes Sent By Job
\t219  -  Run Bytes Received By Job
\tReason: {why}
...
"""
HELD = """\
012 (005.000.000) 2026-05-01 05:36:11 Job was held.
\tvia condor_hold (by user calib)
\tCode 1 Subcode 0
...
"""


def read(log: Path, cursor: Cursor) -> list[str]:
    return [one.state.value for one in eventlog.read(log, cursor, [Proc(0, 0, 1, log.parent)]).observations]


def test_a_hold_of_a_running_job_is_no_loss(tmp_path: Path) -> None:
    """HTCondor logs an eviction first; counted, the tenth release of a job would be its last."""
    log = tmp_path / "log"
    log.write_text(HEAD + EVICTED.format(code=" Code 1 Subcode 0", why="via condor_hold (by user calib)") + HELD)
    assert read(log, Cursor()) == ["running", "held"]
    log.write_text(
        HEAD + EVICTED.format(code=" Code 1010 Subcode 0", why="preempted") + EVICTED.format(code="", why="")
    )
    assert read(log, Cursor()) == ["running", "evicted", "evicted"]


def test_evictions_are_not_told_again_from_a_log_that_was_replaced(tmp_path: Path) -> None:
    """They are counted each time: what is told again must do no harm."""
    log, cursor = tmp_path / "log", Cursor()
    log.write_text(HEAD + EVICTED.format(code="", why="preempted"))
    assert read(log, cursor) == ["running", "evicted"]
    log.rename(tmp_path / "old")
    log.write_text((tmp_path / "old").read_text())
    assert read(log, cursor) == ["running"]
    with log.open("a") as stream:
        stream.write(EVICTED.format(code="", why="preempted"))
    assert read(log, cursor) == ["evicted"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("/data/geo.root", '"$CALIB_SCRATCH"/in/0'),
        ("--geo=/data/geo.root:x", '--geo="$CALIB_SCRATCH"/in/0:x'),
        ("-I/data/lib/x.h", '-I"$CALIB_SCRATCH"/in/1/x.h'),
        ("file:///data/geo.root", 'file://"$CALIB_SCRATCH"/in/0'),
        ("/data/lib/own", '"$CALIB_SCRATCH"/in/2'),
        ("/data/lib/owner", '"$CALIB_SCRATCH"/in/1/owner'),
        ("/jobs/a b/job-1-a1/out", '"$CALIB_SCRATCH"/out'),
        # Other paths, of which those that were moved are only parts.
        ("/data/geo.root.bak", "/data/geo.root.bak"),
        ("/data/lib2", "/data/lib2"),
        ("/backup/data/geo.root", "/backup/data/geo.root"),
        ("../data/geo.root", "../data/geo.root"),
        ("root://host//data/geo.root", "root://host//data/geo.root"),
        ("/jobs/a b/job-1-a12/out", "'/jobs/a b/job-1-a12/out'"),
    ],
)
def test_paths_in_words(word: str, expected: str) -> None:
    moved = {"/data/geo.root": "in/0", "/data/lib": "in/1", "/data/lib/own": "in/2", "/jobs/a b/job-1-a1": ""}
    made = submission._with_moved_paths(word, moved, submission._any_of(moved))
    assert made == expected
