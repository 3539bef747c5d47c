"""Files of a spool: written so that they last, and read although a job may have put anything in their place."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path


def write_durably(file: Path, text: str, mode: int | None = None) -> None:
    """Write a file as a whole, on disk when this returns."""
    # A process number alone is not unique where hosts or containers share a file system.
    part = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
    try:
        with part.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def leave(folder: Path, name: str, text: str) -> None:
    """Write a file into the folder of a job that has left nothing there.

    :raises OSError: it cannot be written, or a pipe or a link is in the way.
    """
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # The folder is the job's: what it has put there may lead anywhere, and must not be followed.
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=place)
    finally:
        os.close(place)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        about = os.fstat(file)
        if stat.S_ISREG(about.st_mode) and about.st_nlink == 1 and not about.st_size:
            stream.write(text)


def last_line(file: Path) -> str:
    """The last line of a file that a job wrote; empty if there is none."""
    try:
        # A pipe or a link is not followed: the file is the job's, and may be anything.
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        about = os.fstat(opened)
        if not stat.S_ISREG(about.st_mode):
            return ""
        data = os.pread(opened, 2000, max(0, about.st_size - 2000))
    except OSError:
        return ""
    finally:
        os.close(opened)
    lines = data.decode(errors="replace").strip().splitlines()
    return short(lines[-1]) if lines else ""


def short(text: str) -> str:
    """A text of others as one line of at most 500 characters."""
    # No database column takes a NUL.
    return " ".join(str(text).replace("\0", " ").split())[:500]
