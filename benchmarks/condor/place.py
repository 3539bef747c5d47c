"""The pool, and the folders that it shares with the benchmarks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cache import cache_folder
from tests.pool.chroot import USER
from tests.pool.config import CPUS, MAIN, PLACE
from tests.pool.pool import Pool

CLEAN_SECONDS = 300.0


@dataclass(frozen=True)
class Ran:
    """A finished process.

    :ivar cpu: seconds, its own and of all its children that ended before it.
    :ivar peak: the largest resident set of one of these processes, in bytes.
    """

    code: int
    wall: float
    cpu: float
    peak: int


class Place:
    """A running pool, and a folder that it shares, removed at the end.

    :param visible: folders that jobs read: the peers' environments.
    :param cpus: that its machine says it has.
    :param negotiates_as_usual: as often as HTCondor does by itself, instead of every second.
    """

    def __init__(self, visible: Sequence[Path] = (), cpus: int = CPUS, *, negotiates_as_usual: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-", dir=_roomy()))
        self.pool = Pool(self.folder / "shared", tuple(visible), cpus=cpus, negotiates_as_usual=negotiates_as_usual)
        self._umask = 0

    def __enter__(self) -> Self:
        # Jobs are another user's than the benchmarks, which are root's; at a site both are one.
        self._umask = os.umask(0)
        self.folder.chmod(0o755)
        try:
            self.pool.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.stop()
        os.umask(self._umask)
        shutil.rmtree(self.folder, ignore_errors=True)

    def new(self, name: str) -> Path:
        """An empty folder that jobs may write in."""
        folder = self.folder / "shared" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        folder.chmod(0o777)
        return folder

    def version(self) -> str:
        """HTCondor's version."""
        words = self.pool.tool("condor_version").split()
        return words[words.index("$CondorVersion:") + 1]

    def empty(self) -> None:
        """Remove all jobs from the queue, and wait until it is empty and the schedd idle."""
        self.pool.tool("condor_rm", "-name", MAIN, "-all", check=False)
        until = time.monotonic() + CLEAN_SECONDS
        while self.pool.tool("condor_q", "-name", MAIN, "-all", "-af", "ClusterId", check=False).strip():
            if time.monotonic() > until:
                raise TimeoutError("the queue does not become empty")
            time.sleep(0.5)
        time.sleep(1)

    def inside(self, line: str, folder: Path, log: Path, **environment: str) -> Ran:
        """Run a line of shell as the owner of the jobs, inside the pool, measured as a whole."""
        variables = {**_variables(folder), **environment}
        command = [*self._enter(variables), "/bin/sh", "-c", f'umask 0; cd "{folder}" && {line}']
        with log.open("ab") as stream:
            return measured(command, stdout=stream, stderr=stream)

    def entering(self, folder: Path) -> list[str]:
        """What a command begins with that is to run inside the pool, in a folder, as the owner of the jobs."""
        move = 'umask 0; cd "$0" && exec "$@"'
        return [*self._enter(_variables(folder)), "/bin/sh", "-c", move, str(folder)]

    def _enter(self, variables: Mapping[str, str]) -> list[str]:
        enter = ["nsenter", "--target", str(self.pool.init), "--mount", "--pid", "--root", "--wd", "--"]
        change = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "env", "-i"]
        return [*enter, *change, *(f"{name}={value}" for name, value in variables.items())]

    def ours(self, what: str, given: Mapping[str, Any], folder: Path, **environment: str) -> tuple[Ran, dict[str, Any]]:
        """Run a part of :mod:`benchmarks.condor.ours` as a process of its own, measured as a whole.

        :returns: the measurement, and what it says.
        """
        plan, answer = folder / f"{what}.json", folder / f"{what}.answer.json"
        plan.write_text(json.dumps({**given, "folder": str(folder), "connection": self.pool.connection()}))
        command = [sys.executable, "-m", "benchmarks.condor.ours", what, str(plan), str(answer)]
        variables = {**os.environ, "CALIB_HOME": str(folder / "calib"), **environment}
        with (folder / f"{what}.log").open("ab") as log:
            ran = measured(command, stdout=log, stderr=log, env=variables)
        if ran.code:
            raise RuntimeError(f"{what} ended with {ran.code}: {_last(folder / f'{what}.log')}")
        return ran, json.loads(answer.read_text())


def _variables(folder: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "CONDOR_CONFIG": f"{PLACE}/condor_config",
        "_CONDOR_SCHEDD_HOST": MAIN,
        "_CONDOR_SEC_TOKEN_DIRECTORY": f"/home/{USER}/.condor/tokens.d",
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def measured(command: Sequence[str], **options: Any) -> Ran:
    """Run a command; the kernel's own account of it, when it is gone."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begin
    return Ran(process.returncode, wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def _last(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").strip().splitlines()[-3:])


def _roomy() -> Path:
    """Not /tmp, which may be memory."""
    folder = cache_folder() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
