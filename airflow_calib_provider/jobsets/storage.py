"""Products on record beside what lies in storage: missing checksums, what differs, what is dropped (rule 62).

Everything here goes in portions, and reads files outside any transaction.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from sqlalchemy import ColumnElement

from airflow_calib_provider.checksums import Stopped, checksum
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.errors import ProductError
from airflow_calib_provider.jobsets.folders import CONSTANTS_FOLDER, attempt_folder, generation_folder, job_folder
from airflow_calib_provider.jobsets.products import check_folder, check_product
from airflow_calib_provider.ledger import products
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.products import Kept, Key, StoredProduct
from airflow_calib_provider.settings import products_folder

AT_ONCE = 500
"""Products that are read from the ledger by one statement, and folders that are looked for by one."""

SUMMING = 60.0
"""Seconds of one housekeeping for checksums that nobody has made yet."""

SAMPLE, SAMPLE_HOUR, SAMPLING = 200, 2, 120.0
"""Products that housekeeping compares each night, at which hour (UTC), and for so many seconds at most."""

NEAR = 50
"""Products of a generation of which one is taken for the sample."""

DROPPED_AT_ONCE = 20_000
"""Products that one housekeeping drops, and of which it removes the files."""


class Found(StrEnum):
    """What a comparison of a product with storage says."""

    SAME = "same"
    """As on record."""
    UNSUMMED = "unsummed"
    """Of the size on record; there is no checksum to compare with."""
    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"
    """In storage, and of no generation that the ledger knows."""

    @property
    def fine(self) -> bool:
        """Whether nothing is to be done about it."""
        return self in (Found.SAME, Found.UNSUMMED)


@dataclass(frozen=True)
class Compared:
    """A product beside what lies in storage.

    :ivar product: ``None``: a folder that no generation has.
    :ivar said: what differs, in words.
    """

    state: Found
    path: Path
    product: StoredProduct | None = None
    said: str = ""

    def __str__(self) -> str:
        if self.product is None:
            return f"{self.path} is {self.said}"
        item = self.product
        where = f"{item.campaign} {item.workflow}.{item.task} {item.group}, generation {item.generation}"
        return f"product {item.name} of job {item.job_index} ({where}) is {self.state}: {self.path}: {self.said}"


def path_of(item: StoredProduct) -> Path:
    """Where a product lies: in its place, or still where its attempt ran."""
    return _out_of(item) / item.file


def _out_of(item: StoredProduct) -> Path:
    place = job_folder(item.folder, item.job_index)
    if item.accepted_attempt is None or place.exists():
        return place / "out"
    return attempt_folder(item.folder, item.job_index, item.accepted_attempt) / "out"


def compare(
    ledger: Ledger,
    *where: ColumnElement[bool],
    among: Sequence[int] | None = None,
    sizes_only: bool = False,
) -> Iterator[Compared]:
    """Compare products on record with storage, one after the other.

    :param where: which, by group and generation; dropped ones never.
    :param among: only of these generations.
    :param sizes_only: do not read them.
    """
    kept = products.product.c.state == products.ACCEPTED
    parts = [None] if among is None else [among[n : n + AT_ONCE] for n in range(0, len(among), AT_ONCE)]
    for part in parts:
        for item in _all(ledger, kept, where=where, among=part):
            yield compared(item, sizes_only=sizes_only)


def _all(
    ledger: Ledger,
    *of_product: ColumnElement[bool],
    where: Sequence[ColumnElement[bool]] = (),
    among: Sequence[int] | None = None,
) -> Iterator[StoredProduct]:
    """Products page by page, with no transaction open between two pages."""
    after: Key | None = None
    while True:
        with ledger.read() as connection:
            found, after = products.page(connection, after, AT_ONCE, *of_product, where=where, among=among)
        yield from found
        if after is None:
            return


def compared(item: StoredProduct, *, sizes_only: bool = False) -> Compared:
    """Compare one product with storage."""
    path = path_of(item)
    try:
        os.lstat(path)
        size = check_product(_out_of(item), item.name, item.file)
        if item.size is not None and size != item.size:
            return Compared(Found.CHANGED, path, item, f"it has {size:,} bytes, not {item.size:,}")
        if item.checksum is None:
            return Compared(Found.UNSUMMED, path, item)
        if not sizes_only and (made := checksum(path)) != item.checksum:
            return Compared(Found.CHANGED, path, item, f"its checksum is {made[:12]}…, not {item.checksum[:12]}…")
    except (FileNotFoundError, NotADirectoryError):
        return Compared(Found.MISSING, path, item, "it is not there")
    except ProductError as error:
        return Compared(Found.CHANGED, path, item, error.message)
    except OSError as error:
        return Compared(Found.UNREADABLE, path, item, error.strerror or str(error))
    return Compared(Found.SAME, path, item)


def unknown_folders(ledger: Ledger, campaign: str | None = None) -> Iterator[Compared]:
    """The folders of generations in storage that the ledger does not know.

    :param campaign: only of this one.
    :raises ProductError: storage cannot be read.
    """
    root = generation_folder("")
    batch: list[str] = []
    for folder in _generation_folders(root, campaign):
        batch.append(folder)
        if len(batch) == AT_ONCE:
            yield from _unknown(ledger, root, batch)
            batch = []
    if batch:
        yield from _unknown(ledger, root, batch)


def _unknown(ledger: Ledger, root: Path, folders: Sequence[str]) -> Iterator[Compared]:
    with ledger.read() as connection:
        known = products.known_folders(connection, folders)
    for folder in folders:
        if folder not in known:
            yield Compared(Found.UNKNOWN, root / folder, said="of no generation that the ledger knows")


def _generation_folders(root: Path, campaign: str | None) -> Iterator[str]:
    """``campaign/workflow/task/group/g<n>``, without holding more than one folder's list at each level."""
    try:
        if campaign is not None:
            yield from _below(root, campaign, 1)
        else:
            yield from _below(root, "", 0)
    except OSError as error:
        raise ProductError(f"{error.filename} cannot be read: {error.strerror}") from error


_DEPTH = 5


def _below(root: Path, folder: str, depth: int) -> Iterator[str]:
    if depth == _DEPTH:
        yield folder
        return
    if depth <= 1 and not (root / folder).is_dir():
        return
    with os.scandir(root / folder) as entries:
        for entry in entries:
            is_generation = depth + 1 < _DEPTH or entry.name != CONSTANTS_FOLDER
            if is_generation and entry.is_dir(follow_symlinks=False):
                yield from _below(root, f"{folder}/{entry.name}" if folder else entry.name, depth + 1)


def make_checksums(ledger: Ledger, seconds: float = SUMMING) -> int:
    """Make checksums that are missing, for about so long.

    It begins at a place by chance, so that what cannot be read holds nothing up for ever.

    :returns: how many were made.
    """
    until = time.monotonic() + seconds
    with ledger.read() as connection:
        known = products.bounds(connection)
    if known is None:
        return 0
    start, of = random.randint(*known), products.product.c.generation_id
    return sum(_make(ledger, until, here) for here in (of >= start, of < start))


def _make(ledger: Ledger, until: float, *where: ColumnElement[bool]) -> int:
    made: dict[Key, Kept] = {}
    count = 0
    for item in _all(ledger, *products.unsummed(), *where):
        if time.monotonic() > until:
            break
        # What is not as it was accepted gets no checksum: it is not what the jobs made.
        with suppress(OSError, ProductError, Stopped):
            size = check_product(_out_of(item), item.name, item.file)
            if item.size in (None, size):
                made[item.key] = Kept(size, checksum(path_of(item)))
        if len(made) == AT_ONCE:
            count += _note(ledger, made)
    return count + _note(ledger, made)


def _note(ledger: Ledger, made: dict[Key, Kept]) -> int:
    count = len(made)
    if made:
        with ledger.write() as connection:
            products.note_content(connection, made)
        made.clear()
    return count


def sample(ledger: Ledger, count: int = SAMPLE, seconds: float = SAMPLING) -> list[Compared]:
    """Compare some products that are taken by chance with storage.

    :returns: what is not fine.
    """
    until = time.monotonic() + seconds
    column = products.product.c
    found: dict[Key, Compared] = {}
    with ledger.read() as connection:
        known = products.bounds(connection)
    for _ in range(count if known is not None else 0):
        if known is None or time.monotonic() > until:
            break
        here = (column.generation_id >= random.randint(*known), column.state == products.ACCEPTED)
        with ledger.read() as connection:
            near, _ = products.page(connection, None, NEAR, *here)
        if near:
            item = random.choice([one for one in near if one.generation_id == near[0].generation_id])
            found[item.key] = compared(item)
    return [item for item in found.values() if not item.state.fine]


@dataclass
class Dropped:
    """What became of products whose time is over.

    :ivar marked: these are dropped from now on; :ivar removed: of these the files are gone.
    """

    marked: int = 0
    removed: int = 0
    errors: list[str] = field(default_factory=list)


def drop(ledger: Ledger, now: datetime, at_once: int = DROPPED_AT_ONCE) -> Dropped:
    """Remove the files of what was dropped in an earlier call, and drop what is due now.

    Whoever began before a product was dropped is on record as running by the next call: its files are left until that
    has ended.
    """
    result = Dropped()
    with ledger.read() as connection:
        items = products.dropped_with_files(connection, now, at_once)
    for first in range(0, len(items), AT_ONCE):
        gone = [item for item in items[first : first + AT_ONCE] if _is_gone(ledger, item, result.errors)]
        with ledger.write() as connection:
            products.note_removed(connection, gone, now)
        result.removed += len(gone)
    while result.marked < at_once:
        with ledger.write() as connection:
            due = products.drop_due(connection, now, AT_ONCE)
        result.marked += len(due)
        if len(due) < AT_ONCE:
            break
    return result


def _is_gone(ledger: Ledger, item: StoredProduct, errors: list[str]) -> bool:
    """Remove the files of a product that is dropped, and say whether that was done."""
    crash_point("product.before_remove", item.group)
    try:
        _remove(ledger, item)
    except (OSError, ProductError) as error:
        errors.append(f"the dropped product {item.name} of {item.folder} cannot be removed: {error}")
        return False
    crash_point("product.after_remove", item.group)
    return True


def _remove(ledger: Ledger, item: StoredProduct) -> None:
    """Remove a product's files, but for those that are another product, too."""
    with ledger.read() as connection:
        others = products.others_of_job(connection, item)
    path = Path(os.path.normpath(path_of(item)))
    out = _out_of(item)
    # Nobody's files are removed because a link leads there.
    check_folder(out.parent)
    if link := next((folder for folder in path.parents if folder.is_relative_to(out) and folder.is_symlink()), None):
        raise ProductError(f"{link} is a link")
    kept = [Path(os.path.normpath(out / file)) for file in others]
    if any(path == other or path in other.parents or other in path.parents for other in kept):
        return
    if path.is_symlink() or not path.is_dir():
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
    else:
        shutil.rmtree(path)


@dataclass
class Housekept:
    """What housekeeping did about products.

    :ivar drift: what is not as it is on record, in words.
    """

    checksums: int
    dropped: Dropped
    drift: list[str]


def keep_house(ledger: Ledger, now: datetime) -> Housekept:
    """Housekeeping's part: what is due is dropped, checksums are made, and at night a sample is compared."""
    if not products_folder().is_dir():
        return Housekept(0, Dropped(), [])
    dropped = drop(ledger, now)
    made = make_checksums(ledger)
    odd = sample(ledger) if now.hour == SAMPLE_HOUR else []
    return Housekept(made, dropped, [str(item) for item in odd])
