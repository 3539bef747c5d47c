"""What tests build once and keep outside the repository: servers, and folders to start them in."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UnavailableError(Exception):
    """What a test needs cannot be had on this machine; the text says why in one line."""


def cache_folder() -> Path:
    """Where builds and running servers lie: ``$CALIB_CI_CACHE``, else the user's cache folder."""
    named = os.environ.get("CALIB_CI_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "airflow-calib-provider"


def kept_folder(name: str, recipe: str) -> Path:
    """Where something is, or will be, that was made by this recipe."""
    return cache_folder() / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def kept(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The folder made by this recipe, made first if there is none yet.

    It is made aside and renamed when it is whole, so a making that was interrupted is never taken for a finished one;
    one process makes it, the others wait.

    Args:
        name: what it is, and the beginning of the folder's name.
        recipe: all that it depends on; a change of it means a new folder.
        make: fills the empty folder that it is given.

    Raises:
        UnavailableError: it cannot be made here, as ``make`` says, or as it said to the process that was waited for.
    """
    folder = kept_folder(name, recipe)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    failed = folder.with_name(f"{folder.name}.failed")
    began = time.time()
    with locked(folder.parent / f"{name}.lock", f"waiting for another process that makes {name}"):
        if folder.is_dir():  # another process may have made it while this one waited
            return folder
        if failed.exists() and failed.stat().st_mtime > began:
            raise UnavailableError(failed.read_text())
        for leftover in folder.parent.glob(f"{folder.name}.building-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.building-", dir=folder.parent))
        aside.chmod(0o755)
        try:
            make(aside)
            aside.rename(folder)
        except UnavailableError as error:
            failed.write_text(str(error))
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        failed.unlink(missing_ok=True)
    return folder


def say(line: str) -> None:
    """A line of progress, at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """One process at a time; the kernel frees the lock when its holder dies.

    Args:
        path: the lock's file.
        waiting: what is said if somebody else holds it.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                say(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
