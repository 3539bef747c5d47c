"""The file of an SQLite ledger, and what this user may do with it: reading needs no permission to write.

SQLite in write-ahead mode wants to write even where it only reads, since readers are noted in a file beside the
database. What a user who may not write can do instead depends on whether a writer has it open:

- while one has, or after one died, the two files beside it are there, and SQLite reads with them;
- else nothing is written beside it, which must stay so (what a reader makes there belongs to the reader, and keeps the
  writers out), and the file is read as it is: a *snapshot*, which is checked afterwards not to have changed.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote


class Snapshot(sqlite3.Connection):
    """A connection to a file that nobody has open for writing.

    :ivar file: the file.
    :ivar seen: how it was when it was opened.
    """

    file: Path
    seen: tuple[int, int, int]

    @property
    def changed(self) -> bool:
        """Whether what was read may be partly old and partly new."""
        return fingerprint(self.file) != self.seen

    @property
    def outdated(self) -> bool:
        """Whether there is more to read than the file had when it was opened."""
        return self.changed or holds_changes(wal_of(self.file))


def wal_of(file: Path) -> Path:
    """The file of changes that are not in the database's own file yet."""
    return file.with_name(f"{file.name}-wal")


def _shared_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-shm")


def holds_changes(wal: Path) -> bool:
    """Whether there is anything in it."""
    try:
        return wal.stat().st_size > 0
    except OSError:
        return False


def fingerprint(file: Path) -> tuple[int, int, int]:
    """Differs when the file has changed. A file that is gone has one, too."""
    try:
        found = file.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def is_there(file: Path) -> bool:
    """Whether this user can see the file."""
    try:
        return file.exists()
    except OSError:
        return False


def may_write(file: Path) -> bool:
    """Whether this user could write to the ledger: to the file (there, or to be made), and beside it."""
    return os.access(file.parent, os.W_OK) and (not is_there(file) or os.access(file, os.W_OK))


def connect(file: Path, timeout: float) -> sqlite3.Connection:
    """Open it as this user may.

    :raises sqlite3.Error: not even reading is possible; :func:`obstacle` says why.
    """
    path = os.path.realpath(file) if is_there(file.parent) else str(file)
    if may_write(file) or not os.access(file, os.R_OK):
        return sqlite3.connect(path, timeout=timeout, check_same_thread=False)
    place = f"file:{quote(path)}?mode=ro"
    seen = fingerprint(file)
    if holds_changes(wal_of(file)):
        if not _shared_of(file).exists():
            raise sqlite3.OperationalError("unable to open database file")
        return sqlite3.connect(place, uri=True, timeout=timeout, check_same_thread=False)
    opened = sqlite3.connect(
        f"{place}&immutable=1", uri=True, timeout=timeout, check_same_thread=False, factory=Snapshot
    )
    opened.file, opened.seen = file, seen
    return opened


def obstacle(file: Path) -> tuple[str, str] | None:
    """Why this user cannot read it, and what to do; ``None`` if permissions are not the reason."""
    for folder in reversed(file.parents):
        if folder.is_dir() and not os.access(folder, os.X_OK):
            return f"this user may not enter the folder {folder}", _ask_for(folder, "x")
    wal, shared = wal_of(file), _shared_of(file)
    for one in (file, wal, shared):
        if one.exists() and not os.access(one, os.R_OK):
            return f"this user may not read {one}", _ask_for(one, "r")
    if holds_changes(wal) and not shared.exists() and not may_write(file):
        return (
            f"its last changes lie in {wal}, which only a user who may write to {file.parent} can take in",
            f"let its owner run `calib db check` once, or copy {file.name} and {wal.name} to a folder of your own",
        )
    return None


def _ask_for(path: Path, what: str) -> str:
    return f"its owner can permit it: chmod o+{what} {path} (or g+{what}, for a group of both)"
