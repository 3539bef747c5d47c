"""SHA-256 of products, and the file in which the wrapper of a job leaves those of its own.

It needs nothing but the standard library, as what runs beside a job has nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

SUMS = "products.sha256"
"""Beside ``out`` in the folder of an attempt, in the form of ``sha256sum``: the checksum, two spaces, the file."""

MAX_SUMS = 20_000_000
"""Bytes."""

_CHUNK = 1 << 20
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


class Stopped(Exception):
    """There was no time for the whole of it."""


def never() -> bool:
    """Go on to the end."""
    return False


def checksum(path: Path, stop: Callable[[], bool] = never) -> str:
    """The checksum of a file; of a folder that of one line for each of its files, in the order of their names.

    The lines are those of ``sha256sum``, with names relative to the folder; a link counts by what it says.

    :param stop: asked now and then whether to give up.
    :raises OSError: it cannot be read, or is neither a file nor a folder.
    :raises Stopped: it was given up.
    """
    if not path.is_dir():
        return _of_file(path, stop)
    lines = []
    for folder, folders, files in os.walk(path, onerror=_raised):
        for name in (*files, *folders):
            inner = Path(folder, name)
            if name in folders and not inner.is_symlink():
                continue
            content = f"link {inner.readlink()}" if inner.is_symlink() else _of_file(inner, stop)
            lines.append(os.fsencode(inner.relative_to(path)) + b"\0" + os.fsencode(content))
    made = hashlib.sha256()
    for line in sorted(lines):
        name_in_bytes, _, content_in_bytes = line.partition(b"\0")
        made.update(content_in_bytes + b"  " + name_in_bytes + b"\n")
    return made.hexdigest()


def write_sums(folder: Path, files: Iterable[str], stop: Callable[[], bool]) -> None:
    """Leave the checksums of those of these files that are there, as far as there is time.

    :param folder: of the attempt.
    :param files: relative to its ``out``.
    """
    lines = []
    for file in files:
        with contextlib.suppress(OSError):
            try:
                lines.append(f"{checksum(folder / 'out' / file, stop)}  {file}\n")
            except Stopped:
                break
    with contextlib.suppress(OSError):
        (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def read_sums(folder: Path) -> dict[str, str]:
    """File → checksum, as the wrapper of a job has left them; what is no such line is nothing."""
    try:
        # The folder is the job's, and may hold anything under this name.
        with os.fdopen(os.open(folder / SUMS, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return {}
            text = stream.read(MAX_SUMS).decode("utf-8", "replace")
    except OSError:
        return {}
    return {found[2]: found[1] for found in map(_LINE.fullmatch, text.split("\n")) if found is not None}


def _of_file(path: Path, stop: Callable[[], bool]) -> str:
    made = hashlib.sha256()
    # Whatever it is, opening it must not wait.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as stream:
        before = os.fstat(stream.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        left = before.st_size
        while left >= 0 and (chunk := stream.read(_CHUNK)):
            if stop():
                raise Stopped(str(path))
            made.update(chunk)
            left -= len(chunk)
        after = os.fstat(stream.fileno())
        # What is written meanwhile never was as it was read; and what grows as fast as it is read has no end.
        if left or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise OSError(errno.EBUSY, "changed while it was read", str(path))
    return made.hexdigest()


def _raised(error: OSError) -> None:
    raise error
