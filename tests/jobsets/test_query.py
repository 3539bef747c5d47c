"""Asking a catalogue for inputs, which may fail, never end, or say too much."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.jobsets import query as asked
from airflow_calib_provider.jobsets.query import query


def sh(script: str) -> list[str]:
    return query(["sh", "-c", script])


def test_lines_are_inputs() -> None:
    assert sh("printf 'a b\\n\\n  c\\r\\né'") == ["a b", "c", "é"]


def test_what_it_says_beside_is_no_input() -> None:
    assert sh("yes warning | head -c 3000000 >&2; echo a") == ["a"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no such data set >&2; exit 3", "the query for inputs sh ended with exit code 3: no such data set"),
        ("true", "the query for inputs sh printed nothing"),
        ("printf '\\377\\n'", "the query for inputs sh failed: 'utf-8' codec can't decode byte 0xff"),
        ("printf 'a\\rb\\n'", r"the query for inputs sh printed the control character '\\r'"),
        ("printf 'a\\000b\\n'", r"the query for inputs sh printed the control character '\\x00'"),
    ],
)
def test_what_it_cannot_be(script: str, message: str) -> None:
    with pytest.raises(RenderError, match=message):
        sh(script)


def test_no_such_program() -> None:
    with pytest.raises(RenderError, match="No such file or directory"):
        query(["/no/such/catalogue"])


def _alive(mark: str) -> bool:
    wanted = mark.encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


def _gone(mark: str) -> bool:
    until = time.monotonic() + 20
    while _alive(mark) and time.monotonic() < until:
        time.sleep(0.05)
    return not _alive(mark)


def test_one_that_never_stops_printing_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "MAX_OUTPUT", 1_000_000)
    mark = f"/data/{os.getpid()}-endless"
    with pytest.raises(RenderError, match="printed more than 1,000,000 bytes"):
        query(["yes", mark])
    assert _gone(mark)


@pytest.mark.parametrize("script", ["sleep {n} & sleep {n}", "exec >&- 2>&-; sleep {n}", "echo a; sleep {n} &"])
def test_one_that_never_ends_is_stopped_with_all_that_it_started(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "INPUTS_TIMEOUT", 1.0)
    n = f"4711.{os.getpid()}"
    with pytest.raises(RenderError, match=r"did not end within 1 seconds|timed out after 1"):
        sh(script.format(n=n))
    assert _gone(n)


def test_what_it_has_left_behind_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    assert sh(f"sleep 471 >/dev/null 2>&1 & echo $! > {file}; echo a") == ["a"]
    stat = Path("/proc", file.read_text().strip(), "stat")
    until = time.monotonic() + 10
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_one_that_closes_its_output_is_waited_for() -> None:
    with pytest.raises(RenderError, match="ended with exit code 3"):
        sh("exec >&- 2>&-; sleep 0.2; exit 3")
