"""The loader of compose files, built from its Go module: once, kept in the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.cache import UnavailableError, kept, say
from tests.golang import module_file

PROGRAM = Path(__file__).parent / "loader" / "main.go"
MODULE = module_file("github.com/compose-spec/compose-go/v2", "v2.10.1")
BUILD_SECONDS = 1200


def program() -> Path:
    """The loader, built first if there is none yet.

    :raises UnavailableError: it cannot be built here.
    """
    recipe = MODULE + PROGRAM.read_text()
    return kept("compose-loader", recipe, _build) / "loader"


def _build(folder: Path) -> None:
    if not shutil.which("go"):
        raise UnavailableError("the check against the compose specification needs go, for its loader to be built")
    say("building the loader of compose files (half a minute, once)")
    work = folder / "work"
    work.mkdir()
    shutil.copy(PROGRAM, work)
    (work / "go.mod").write_text(MODULE)
    _go(work, "mod", "tidy")
    _go(work, "build", "-o", str(folder / "loader"), ".")
    shutil.rmtree(work)


def _go(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"}
    command = ["nice", "-n", "19", "go", *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"the loader of compose files was not built within {BUILD_SECONDS} s") from None
    if done.returncode:
        last = " / ".join(done.stderr.strip().splitlines()[-2:])
        raise UnavailableError(f"the loader of compose files cannot be built: {last}")


def load(file: Path, **environment: str) -> dict[str, Any]:
    """The whole project: checked, with defaults and variables filled in, as `docker compose config` shows it.

    :raises ValueError: it is not what the specification allows; the text says where.
    """
    done = subprocess.run(
        [program(), file], env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(done.stderr.strip())
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded
