"""All tests but the long ones: two lanes of stages beside each other, since what waits for servers leaves CPUs idle.

Command line: ``python -m tests.stages [PYTEST-ARGUMENT …]``. A line when a stage begins and ends; the whole output of
one that fails; the output of all in ``stages/`` of the tests' cache.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cache import cache_folder, say
from tests.cluster.cluster import stop_shared
from tests.marks import names_mark

NEVER = "not long"
AHEAD = -5


@dataclass(frozen=True)
class Stage:
    """One run of pytest.

    :ivar marks: which tests.
    :ivar options: of pytest.
    :ivar files_of: a mark that a test's own module names; only these modules are collected, which takes each process of
        pytest a third of a minute otherwise. conftest.py sees to it that no other module has such tests.
    """

    name: str
    marks: str
    options: tuple[str, ...]
    files_of: str = ""

    def files(self) -> list[str]:
        """What is to be collected; all, if it is empty."""
        return [str(file) for file in sorted(Path("tests").rglob("test_*.py")) if names_mark(file, self.files_of)]


LANES = (
    (
        Stage("airflow", "airflow", ("-n", "2", "--dist", "loadfile"), "airflow"),
        Stage("pool", "condor and not airflow and not kubernetes", ("-n", "3", "--dist", "loadfile"), "condor"),
    ),
    (
        Stage("plain", "not airflow and not condor and not influx and not postgres and not kubernetes", ("-n", "2")),
        Stage("servers", "(influx or postgres) and not airflow and not condor and not kubernetes", ("-n", "2")),
        Stage("kubernetes", "kubernetes and not airflow", ("-n", "3", "--dist", "loadfile")),
    ),
)


def bring_ahead(pid: int) -> None:
    """Let the processes of a stage get more of the CPUs than what they start.

    Linux shares CPUs among sessions, not among processes, however nice these are (autogroups of sched(7)). Each process
    of an Airflow is a session, all workers of a stage are one: left alone they get next to nothing.
    """
    with contextlib.suppress(OSError):  # there are no autogroups, or only root may ask for more
        Path(f"/proc/{pid}/autogroup").write_text(str(AHEAD))


class Lane(threading.Thread):
    """Stages, one after the other; all are run, also behind one that failed."""

    def __init__(self, stages: Sequence[Stage], arguments: Sequence[str], logs: Path) -> None:
        super().__init__(daemon=True)
        self.stages, self.arguments, self.logs = stages, arguments, logs
        self.failed: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        for stage in self.stages:
            log = self.logs / f"{stage.name}.log"
            say(f"{stage.name}: begins")
            begun = time.monotonic()
            with log.open("wb") as stream:
                command = [sys.executable, "-m", "pytest", "-m", f"({stage.marks}) and {NEVER}", *stage.options]
                command += self.arguments or stage.files()
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                bring_ahead(self.process.pid)
                code = self.process.wait()
            text = log.read_text(errors="replace").rstrip()
            summary = text.rpartition("\n")[2].strip("= ")
            if code not in (0, 5):  # 5: no tests, with arguments that choose some
                self.failed.append(stage.name)
                say(text)
            say(f"{stage.name}: {summary or 'nothing'}; {time.monotonic() - begun:.0f} s in all, see {log}")


def main() -> int:
    """Run all lanes; the exit code is 1 if a stage failed."""
    logs = cache_folder() / "stages"
    logs.mkdir(parents=True, exist_ok=True)
    os.environ["CALIB_TESTS_OWNER"] = str(os.getpid())  # of what stages share
    lanes = [Lane(stages, sys.argv[1:], logs) for stages in LANES]
    for lane in lanes:
        lane.start()
    try:
        for lane in lanes:
            while lane.is_alive():
                lane.join(1)
    except KeyboardInterrupt:
        for lane in lanes:
            if lane.process is not None and lane.process.poll() is None:
                os.kill(lane.process.pid, signal.SIGINT)
                lane.process.wait()
        return 130
    finally:
        stop_shared()
    failed = [name for lane in lanes for name in lane.failed]
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
