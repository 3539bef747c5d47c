"""Files as seen from here: whether they are there, and whether they are still being written."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from airflow_calib_provider.errors import OutsideError


@dataclass(frozen=True)
class FileLook:
    """What there is at a path.

    :ivar fault: why it is no file that is complete; empty: it is one.
    :ivar signature: is another one as soon as the file has changed.
    """

    fault: str
    signature: tuple[int | str, ...] = ()


def path_fault(path: str) -> str:
    """Why a path cannot be looked at; empty: it can."""
    if not path.isprintable():
        return "has a line break, or another sign that is not printable"
    if not path.startswith("/"):
        return "is not absolute"
    if path.endswith("/"):
        return "is a folder"
    return ""


def look_at_file(path: str) -> FileLook:
    """Look at a file; a link counts as what it leads to. May take as long as its file system does.

    :raises OutsideError: it cannot be looked at.
    """
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        is_link = Path(path).is_symlink()
        return FileLook("is a link that leads nowhere" if is_link else "is not there")
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise OutsideError(
            f"{path}: {said}", "see what that machine may read, and whether the place is mounted"
        ) from error
    if stat.S_ISDIR(found.st_mode):
        return FileLook("is a folder")
    if not stat.S_ISREG(found.st_mode):
        return FileLook("is no file, but a device, a pipe or a socket")
    if not found.st_size:
        return FileLook("is empty")
    return FileLook("", (found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev))
