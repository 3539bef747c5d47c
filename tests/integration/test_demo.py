"""The README's first command, as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

TOP = Path(__file__).resolve().parents[2]
CMS = Path(os.environ.get("CALIB_ZEE_DATA", TOP.parent / "shared/data/cms-open-data/Zee_Run2011A.csv"))


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "demo", "--folder", str(folder), *arguments],
        cwd=TOP,
        env={**os.environ, "PYTHONPATH": "examples", "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell lets its background jobs ignore Ctrl-C, and so would all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def left_processes(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["pid"]):
        try:
            if process.environ().get("AIRFLOW_HOME", "").startswith(str(folder)):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def read_until(process: subprocess.Popen[str], wanted: str, seconds: float) -> str:
    """What it says up to the line that has this text, or to its end."""
    assert process.stdout is not None
    too_late = threading.Timer(seconds, process.terminate)
    too_late.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            break
    too_late.cancel()
    assert lines, "it said nothing"
    assert wanted in lines[-1], "".join(lines)
    return "".join(lines)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """One demonstration that is left running at its end, and its folder."""
    folder = tmp_path_factory.mktemp("kept") / "demo"
    process = demo(folder, "--keep")
    yield process, folder
    process.terminate()
    process.communicate(timeout=200)


def test_demo_recovers_what_was_injected(kept: tuple[subprocess.Popen[str], Path]) -> None:
    process, folder = kept
    output = read_until(process, "Ctrl-C stops it.", 840)
    assert "refused by the validation: ZeeScale revision 1 for runs 1016–1022 stays a candidate" in output
    assert "all scales recovered; the sums of the account agree" in output
    assert (folder / "plots" / "scales.png").stat().st_size > 10_000


def test_ctrl_c_cleans_up(kept: tuple[subprocess.Popen[str], Path]) -> None:
    process, folder = kept
    assert left_processes(folder) != []
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=200)
    assert process.returncode == 0
    assert left_processes(folder) == []


@pytest.mark.long
def test_a_demo_that_is_not_kept_ends_by_itself(tmp_path: Path) -> None:
    process = demo(tmp_path / "demo")
    output, _ = process.communicate(timeout=840)
    assert process.returncode == 0, output
    assert left_processes(tmp_path) == []


@pytest.mark.long
def test_ctrl_c_in_the_midst_cleans_up(tmp_path: Path) -> None:
    process = demo(tmp_path / "demo")
    read_until(process, "batch 1", 400)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=200)
    assert process.returncode == 130
    assert left_processes(tmp_path) == []


@pytest.mark.long
@pytest.mark.skipif(not CMS.is_file(), reason=f"the real CMS events are not at {CMS}; set CALIB_ZEE_DATA")
def test_real_cms_events(tmp_path: Path) -> None:
    process = demo(tmp_path / "demo", "--data", str(CMS))
    output, _ = process.communicate(timeout=840)
    assert process.returncode == 0, output
    assert "160873–166438" in output
    assert "ZeeScaleCms" in output
