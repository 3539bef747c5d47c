"""Whether the store has what the ledger says: the ledger is the truth, and nothing is repaired."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Payload, read_rows
from airflow_calib_provider.payloads import store as rows_of
from airflow_calib_provider.payloads.store import content_path
from airflow_calib_provider.settings import payloads_folder

AT_ONCE = 500


@dataclass(frozen=True)
class CheckedPayload:
    """A payload whose file is not as it was published, or a file that no payload names.

    :ivar what: ``missing``, ``changed`` or ``unknown``.
    :ivar payload: ``None`` of an unknown file.
    """

    what: str
    path: Path
    payload: Payload | None = None


def check(ledger: Ledger, campaign: str | None = None, tag: str | None = None) -> Iterator[CheckedPayload]:
    """Read the files of payloads, of whatever state, and compare them with their hashes.

    Each content is read once. Files that nothing names are looked for where neither campaign nor tag is given; one that
    was kept before a death in the middle of a publication is such a file, and does no harm.
    """
    payload = tables.payload
    seen: set[str] = set()
    last = 0
    while True:
        query = rows_of.with_group().where(payload.c.id > last).order_by(payload.c.id).limit(AT_ONCE)
        if campaign is not None:
            query = query.where(payload.c.campaign == campaign)
        if tag is not None:
            query = query.where(payload.c.tag == tag)
        with ledger.read() as connection:
            rows = read_rows(connection, query, Payload)
        if not rows:
            break
        last = rows[-1].id
        for row in rows:
            if row.content_hash in seen:
                continue
            seen.add(row.content_hash)
            path = content_path(row)
            if (what := _wrong(path, row.content_hash)) is not None:
                yield CheckedPayload(what, path, row)
    if campaign is None and tag is None:
        yield from _unknown(ledger)


def _wrong(path: Path, digest: str) -> str | None:
    if not path.is_file():
        return "missing"
    with path.open("rb") as stream:
        return None if hashlib.file_digest(stream, "sha256").hexdigest() == digest else "changed"


def _unknown(ledger: Ledger) -> Iterator[CheckedPayload]:
    """Files of the embedded store that no row names."""
    payload = tables.payload
    folder = payloads_folder()
    for below in sorted(folder.iterdir()) if folder.is_dir() else []:
        files = {file.name: file for file in below.iterdir()} if below.is_dir() else {}
        with ledger.read() as connection:
            query = select(payload.c.content_hash).where(payload.c.content_hash.in_(files))
            known = set(connection.execute(query).scalars())
        yield from (CheckedPayload("unknown", files[name]) for name in sorted(files.keys() - known))
