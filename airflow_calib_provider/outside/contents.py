"""Files of outside stores: whether they are what their hashes say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from airflow_calib_provider.errors import StoreUnavailable
from airflow_calib_provider.outside.conditions import PlacedPayload

QUICK_FILES, QUICK_BYTES = 50, 64 * 1024**2
"""How much a publication reads of what was changed last: it is not to take longer, however much a tag has."""

_DIGITS = set("0123456789abcdef")


@dataclass(frozen=True)
class StoredFile:
    """A file that a store has.

    :ivar name: by which people find it there.
    :ivar hash: SHA-256 that it should have, hexadecimal.
    """

    name: str
    path: Path
    hash: str


def with_hashes(listing: Iterable[PlacedPayload]) -> dict[str, str]:
    """The files of a listing that says their SHA-256, each with it."""
    return {one.file: one.hash for one in listing if len(one.hash) == 64 and set(one.hash) <= _DIGITS}


def altered_files(files: Iterable[StoredFile], *, quickly: bool = False) -> list[str]:
    """Read files, and compare them with their hashes.

    :param quickly: all are looked for, and only those are read that were changed last, as far as that is cheap.
    :returns: of each that is not what it should be, why.
    :raises StoreUnavailable: one cannot be read.
    """
    said, there = [], []
    try:
        for one in files:
            try:
                found = one.path.stat()
            except FileNotFoundError:
                said.append(f"{one.name} is not there any more")
                continue
            # A copy may keep the time of what was copied, but not that of its inode.
            there.append((max(found.st_mtime_ns, found.st_ctime_ns), found.st_size, one))
        for one in _changed_last(there) if quickly else [one for _, _, one in there]:
            with one.path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest != one.hash:
                said.append(f"{one.name} has the hash {digest[:12]} now")
    except OSError as error:
        raise StoreUnavailable(f"{error.filename} cannot be read: {error.strerror or error}", "who may?") from error
    return said


def _changed_last(files: Iterable[tuple[int, int, StoredFile]]) -> list[StoredFile]:
    found: list[StoredFile] = []
    left = QUICK_BYTES
    for _, size, one in sorted(files, key=lambda item: -item[0])[:QUICK_FILES]:
        left -= size
        if left < 0:
            break
        found.append(one)
    return found
