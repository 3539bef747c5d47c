"""The last good text of each workflow and of the run sources, and what is wrong with their files now (rule 43)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, exists, insert, literal, select, update

from airflow_calib_provider.ledger import tables

SOURCES = "sources.yaml"
"""Stands for a workflow's name where the text is that of the run sources: no workflow can be called so."""

spec_file, spec_text = tables.spec_file, tables.spec_text


@dataclass(frozen=True)
class KeptText:
    """The last text without mistakes.

    :ivar workflow: or :data:`SOURCES`.
    :ivar file: the file's name in the folder of the specs.
    """

    workflow: str
    file: str
    hash: str
    text: str
    good_at: datetime


@dataclass(frozen=True)
class Trouble:
    """Why the file of a workflow cannot be used now.

    :ivar reason: structured, with a code of :mod:`airflow_calib_provider.domain.reasons`.
    :ivar held: nothing is decided under the workflow's name.
    """

    reason: Mapping[str, object]
    held: bool = False
    since: datetime | None = None


def hash_of(text: str) -> str:
    """Under which a text is kept."""
    return hashlib.sha256(text.encode()).hexdigest()


def kept_texts(connection: Connection) -> list[KeptText]:
    """The last good texts, those of the newest first."""
    columns = (spec_file.c.workflow, spec_file.c.file, spec_file.c.hash, spec_text.c.text, spec_file.c.good_at)
    query = select(*columns).join(spec_text, spec_text.c.hash == spec_file.c.hash)
    rows = connection.execute(query.order_by(spec_file.c.good_at.desc(), spec_file.c.workflow)).all()
    return [KeptText(row.workflow, row.file, row.hash, row.text, row.good_at) for row in rows]


def text_of(connection: Connection, text_hash: str) -> str | None:
    """The text of this hash, if it was ever recorded."""
    return connection.execute(select(spec_text.c.text).where(spec_text.c.hash == text_hash)).scalar()


def note_texts(connection: Connection, texts: Sequence[KeptText]) -> None:
    """Keep these texts; those that are there already stay as they are."""
    if not texts:
        return
    known = set(connection.execute(select(spec_text.c.hash)).scalars())
    new = {item.hash: item for item in texts if item.hash not in known}
    rows = [
        {"hash": item.hash, "workflow": item.workflow, "text": item.text, "recorded_at": item.good_at}
        for item in new.values()
    ]
    if rows:
        connection.execute(insert(spec_text), rows)


def keep_text(connection: Connection, item: KeptText) -> None:
    """Keep a text, if it is not there, in one statement."""
    row = {"hash": item.hash, "workflow": item.workflow, "text": item.text, "recorded_at": item.good_at}
    values = select(*(literal(value, spec_text.c[name].type) for name, value in row.items()))
    new = values.where(~exists().where(spec_text.c.hash == item.hash))
    connection.execute(insert(spec_text).from_select(list(row), new))


def note_good(connection: Connection, good: Sequence[KeptText]) -> None:
    """Remember which texts are the last good ones; nothing is wrong with their files."""
    note_texts(connection, good)
    known = {row.workflow: row for row in connection.execute(select(spec_file)).all()}
    for item in good:
        before = known.get(item.workflow)
        values = {"file": item.file, "hash": item.hash, "trouble": None, "trouble_since": None, "held": False}
        if before is None:
            row = {"workflow": item.workflow, "good_at": item.good_at, **values}
            connection.execute(insert(spec_file).values(**row))
        elif any(getattr(before, name) != value for name, value in values.items()):
            changed = {**values, "good_at": item.good_at}
            connection.execute(update(spec_file).where(spec_file.c.workflow == item.workflow).values(**changed))


def note_troubles(connection: Connection, troubles: Mapping[str, Trouble], now: datetime) -> None:
    """Remember what is wrong with the files of these workflows, since when. Unknown ones have nothing to go on with."""
    for row in connection.execute(select(spec_file)).all():
        found = troubles.get(row.workflow)
        if found is None or (row.trouble == found.reason and row.held == found.held):
            continue
        same = row.trouble is not None and row.trouble.get("code") == found.reason.get("code")
        values = {
            "trouble": dict(found.reason),
            "held": found.held,
            "trouble_since": row.trouble_since if same else now,
        }
        connection.execute(update(spec_file).where(spec_file.c.workflow == row.workflow).values(**values))


def troubles(connection: Connection) -> dict[str, Trouble]:
    """What was wrong when runs were injected last, by workflow."""
    rows = connection.execute(select(spec_file).where(spec_file.c.trouble.is_not(None))).all()
    return {row.workflow: Trouble(row.trouble, row.held, row.trouble_since) for row in rows if row.trouble}
