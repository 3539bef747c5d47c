"""What workers that share no files with this side have left arrives in the mailbox as one file for each attempt."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tarfile
import threading
from pathlib import Path

from airflow_calib_provider.domain.iteration.reserving import HandedOver
from airflow_calib_provider.errors import ProductError

LAST = "stdout"
"""Of what an attempt leaves, packed and moved last: with it everything has arrived, and is in its place."""

_OF_CONTENT = frozenset(
    {
        errno.EEXIST,
        errno.EFBIG,
        errno.EILSEQ,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
    }
)
"""Errors that what is in a bundle can make, so that another look would only make them again; the disk makes others."""


def unpack(outputs: Path, name: HandedOver, result: dict[str, object], place: Path) -> None:
    """Put what an attempt has left into its folder; doing it again changes nothing.

    :param outputs: the folder of the mailbox, :param result: what the worker says of the file.
    :param place: the folder of the attempt.
    :raises ProductError: it did not arrive as it is said to be, or holds what leads out of the folder.
    :raises OSError: it cannot be read or written.
    """
    file = result.get("files")
    if not isinstance(file, str) or not re.fullmatch(rf"{re.escape(str(name))}\.[0-9]+-[0-9]+\.tar", file):
        raise ProductError(f"{str(file)[:80]!r} is no name of what {name} has left")
    source = outputs / file
    try:
        about = source.lstat()
    except FileNotFoundError:
        if (place / LAST).exists():
            return  # another watcher, or one before, has done it
        raise ProductError(f"{file} has not arrived") from None
    # A pipe would let us wait for ever.
    if not stat.S_ISREG(about.st_mode):
        raise ProductError(f"{file} is no file")
    if about.st_size != result.get("bytes"):
        raise ProductError(f"{file} has {about.st_size} bytes, and not {str(result.get('bytes'))[:20]}")
    place.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        _put(source, part, place)
    except (tarfile.TarError, ValueError, OverflowError, LookupError, RecursionError) as error:
        # A NUL in a name, a time that is none, a link to what is not there: not all are the module's own.
        raise ProductError(f"{file} cannot be unpacked: {error}") from error
    except OSError as error:
        if error.errno not in _OF_CONTENT:
            raise
        raise ProductError(f"{file} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    source.unlink(missing_ok=True)


def _put(source: Path, part: Path, place: Path) -> None:
    """:raises ProductError: something is missing, as of a bundle that is cut between two files."""
    part.mkdir(exist_ok=True)
    with tarfile.open(source, "r:") as bundle:
        bundle.extractall(part, filter="data")
    if not stat.S_ISREG((part / LAST).lstat().st_mode):
        raise ProductError(f"{LAST} in {source.name} is no file")
    for child in sorted(part.iterdir(), key=lambda one: (one.name == LAST, one.name)):
        _move(child, place / child.name)


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        # A folder that is not empty is there: by another watcher, or one before.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
