"""A folder with a file for each tag that lists its intervals: CSV or JSON, as in a git of conditions."""

from __future__ import annotations

import csv
import errno
import io
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.outside.conditions import ConditionsStore, PlacedPayload, checked

LARGEST = 10_000_000
"""Bytes of a listing."""

_DIGEST = 200
"""Characters of a checksum."""


class FolderStore(ConditionsStore):
    """``<folder>/<tag>.csv`` or ``.json``: ``first_run``, ``last_run`` (may be empty), ``file``, perhaps ``sha256``."""

    @classmethod
    def fault(cls, place: str) -> str:
        """It is an absolute path."""
        if not place.startswith("/"):
            return "is not the absolute path of a folder"
        return "" if place.isprintable() else "has a sign that is not printable"

    def listing(self, tag: str) -> list[PlacedPayload]:
        """What the tag's file says; files are relative to the folder."""
        for suffix, read in ((".csv", _of_csv), (".json", _of_json)):
            path = Path(self.place) / f"{tag}{suffix}"
            try:
                content = _content(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise OutsideError(f"{path}: {error.strerror or error}") from error
            if len(content) > LARGEST:
                raise OutsideError(f"{path} has more than {LARGEST:,} bytes")
            try:
                rows = list(read(content.decode("utf-8-sig")))
                placed = [self._placed(path, number, row) for number, row in enumerate(rows, 1)]
            except UnicodeDecodeError as error:
                raise OutsideError(f"{path} is not UTF-8 (byte {error.start})") from error
            except (csv.Error, ValueError) as error:
                raise OutsideError(f"{path} cannot be read: {error}") from error
            return checked(tag, placed)
        raise OutsideError(f"there is neither {tag}.csv nor {tag}.json in {self.place}")

    def _placed(self, path: Path, number: int, row: Mapping[str, object]) -> PlacedPayload:
        first, last = (_run(path, number, name, row.get(name)) for name in ("first_run", "last_run"))
        file = str(row.get("file") or "")
        if first is None or not file or not file.isprintable():
            raise OutsideError(f"{path}, interval {number}: it has no first_run, or no file")
        digest = str(row.get("sha256") or "")
        if not digest.isprintable() or len(digest) > _DIGEST:
            raise OutsideError(f"{path}, interval {number}: sha256 is {digest[:60]!r}, which is none")
        return PlacedPayload(first, last, str(Path(self.place) / file), digest)


def _content(path: Path) -> bytes:
    """:raises OSError: it cannot be read, or is no file: who opens a pipe would wait for ever."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(opened, "rb") as stream:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        return stream.read(LARGEST + 1)


def _run(path: Path, number: int, name: str, value: object) -> int | None:
    if value in (None, ""):
        return None
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or len(text) > 15:
        raise OutsideError(f"{path}, interval {number}: {name} is {text[:60]!r}, not a run number")
    return int(text)


def _of_csv(text: str) -> Iterator[Mapping[str, object]]:
    yield from csv.DictReader(io.StringIO(text), strict=True)


def _of_json(text: str) -> Iterator[Mapping[str, object]]:
    from airflow_calib_provider.outside.strict_json import parse_json

    found = parse_json(text)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("it is not a list of objects")
    yield from found


STORE = FolderStore
