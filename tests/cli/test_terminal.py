"""What people give to a terminal, and what they see on it: narrow windows, odd bytes, numbers that no run has."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from typing import Any

import pytest

from tests.cli.world import World, row

CALIB = [sys.executable, "-c", "from airflow_calib_provider.cli import main; main()"]
TOO_LARGE = "99999999999999999999"


def on_terminal(columns: int, *arguments: str) -> str:
    """What a terminal of this width shows."""
    primary, secondary = pty.openpty()
    variables = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen([*CALIB, *arguments], stdout=secondary, stderr=subprocess.STDOUT, env=variables)
    os.close(secondary)
    shown = b""
    try:
        while select.select([primary], [], [], 60)[0]:
            shown += os.read(primary, 65536)
    except OSError:  # the other end is closed
        pass
    os.close(primary)
    assert process.wait(60) == 0, shown.decode()
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize("command", [("status",), ("runs", "list"), ("groups",), ("jobs", "list")])
def test_a_narrow_terminal_is_readable(busy: World, command: tuple[str, ...]) -> None:
    narrow = on_terminal(40, *command)
    words = [line for line in narrow.splitlines() if len(line.strip()) == 1]
    assert words == [], f"single letters below each other:\n{narrow}"
    if command != ("status",):  # its totals are lines, which a terminal wraps by itself
        assert max(len(line) for line in narrow.splitlines()) <= 40
    assert "skim" in narrow or "run-r2" in narrow


def test_a_wide_terminal_shows_a_table(busy: World) -> None:
    assert "────" in on_terminal(200, "status")


def test_the_reader_has_enough_after_a_line(busy: World) -> None:
    line = 'set -o pipefail; "$@" | head -1'
    done = subprocess.run(["bash", "-c", line, "bash", *CALIB, "status"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\x07b", "a\x9b2Jb", "a\u202eb"])
def test_a_terminal_obeys_nothing_of_a_name(busy: World, calib: Any, name: str) -> None:
    told = calib.fails("explain", name)
    assert not any(letter in told for letter in "\x1b\x07\x9b\u202e")
    assert "\\x" in told or "\\u" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--run", TOO_LARGE),
        ("explain", TOO_LARGE),
        ("explain", "9" * 5000),
        ("skip", TOO_LARGE, "--reason", "none"),
        ("payload", "get", "Scale", TOO_LARGE),
        ("jobs", "logs", "run-r2", "skim", TOO_LARGE),
        ("runs", "list", "--last", TOO_LARGE),
        ("status", "--run", "-1"),
    ],
)
def test_a_number_that_no_run_has(busy: World, calib: Any, arguments: tuple[str, ...]) -> None:
    calib.fails(*arguments, code=2)


def test_other_digits_are_a_name(busy: World, calib: Any) -> None:
    assert "٢" in calib.fails("explain", "٢")


@pytest.mark.parametrize("arguments", [("explain", b"\xff"), ("status", "--workflow", b"z\xe9e")])
def test_bytes_that_are_no_text(busy: World, arguments: tuple[Any, ...]) -> None:
    done = subprocess.run([*CALIB, *arguments], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"is no text in UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    code = "import getpass, os, pwd\nfrom airflow_calib_provider.cli.common import person\n"
    code += "os.setuid(54321)\nprint(person())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("uid 54321", "")


def test_names_of_runs_are_not_taken_for_markup(world: World, calib: Any) -> None:
    world.inject(row(2))
    assert "[bold]" in calib.fails("explain", "[bold]x[/bold]")
