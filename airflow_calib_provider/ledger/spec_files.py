"""The last good text of each workflow, and of the files beside them; what is wrong with the files now (rule 43)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, insert, literal, or_, select, update

from airflow_calib_provider.ledger import tables

SOURCES, CATEGORIES = "sources.yaml", "categories.yaml"
"""Stand for a workflow's name where the text is that of the run sources, or categories: no workflow is called so."""

BESIDE = (SOURCES, CATEGORIES)

GONE = "workflow_gone"

spec_file, spec_text = tables.spec_file, tables.spec_text


@dataclass(frozen=True)
class KeptText:
    """The last text without mistakes.

    :ivar workflow: or one of :data:`BESIDE`.
    :ivar file: the file's name in the folder of the specs.
    """

    workflow: str
    file: str
    hash: str
    text: str
    good_at: datetime


@dataclass(frozen=True)
class Owner:
    """Whose workflow it is, or whose run sources, as it was injected last.

    :ivar team: empty for those who have named none.
    :ivar bundle: Airflow's name of where its file came from; ``None``: it was not injected from Airflow.
    :ivar version: of the bundle, a commit, when the file was good last.
    :ivar hash: of the last good text.
    :ivar is_gone: the file is not there any more: whoever has one of the name now takes it over.
    """

    workflow: str
    team: str
    bundle: str | None
    version: str | None
    file: str
    hash: str
    is_gone: bool

    @property
    def place(self) -> str:
        """In words."""
        team = f"the team {self.team}" if self.team else "those without a team"
        return f"{self.file} of {team}" + (f", in the bundle {self.bundle}" if self.bundle else "")


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


def row_of(name: str, team: str) -> str:
    """Under which a text of a team is kept.

    :param name: a workflow's, or one of :data:`BESIDE`.
    """
    return f"{name}@{team}" if team and name in BESIDE else name


def sources_row(team: str) -> str:
    """Under which the run sources of a team are kept."""
    return row_of(SOURCES, team)


def kept_texts(connection: Connection, team: str | None = "") -> list[KeptText]:
    """The last good texts of a team, those of the newest first.

    :param team: ``None``: those of all teams.
    """
    columns = (spec_file.c.workflow, spec_file.c.file, spec_file.c.hash, spec_text.c.text, spec_file.c.good_at)
    query = select(*columns, spec_file.c.team).join(spec_text, spec_text.c.hash == spec_file.c.hash)
    if team is not None:
        query = query.where(spec_file.c.team == team)
    rows = connection.execute(query.order_by(spec_file.c.good_at.desc(), spec_file.c.workflow)).all()

    def name(row: Any) -> str:
        return next((one for one in BESIDE if row.workflow == row_of(one, row.team)), str(row.workflow))

    return [KeptText(name(row), row.file, row.hash, row.text, row.good_at) for row in rows]


def owners(connection: Connection) -> list[Owner]:
    """Whose the workflows and run sources are."""
    return [_owner(row) for row in connection.execute(select(spec_file)).all()]


def owner_of(connection: Connection, workflow: str) -> Owner | None:
    """Whose a workflow is; ``None``: it was never injected."""
    row = connection.execute(select(spec_file).where(spec_file.c.workflow == workflow)).first()
    return None if row is None else _owner(row)


def _owner(row: Any) -> Owner:
    is_gone = (row.trouble or {}).get("code") == GONE
    return Owner(row.workflow, row.team, row.bundle, row.version, row.file, row.hash, is_gone)


def others_sources(connection: Connection, team: str, bundle: str | None = None) -> dict[str, str]:
    """The last good texts of the run sources of the other teams, by team.

    :param bundle: what is from this one is the team's own, under another name.
    """
    query = select(spec_file.c.team, spec_text.c.text).join(spec_text, spec_text.c.hash == spec_file.c.hash)
    query = query.where(spec_file.c.file == SOURCES, spec_file.c.team != team)
    if bundle is not None:
        query = query.where(or_(spec_file.c.bundle.is_(None), spec_file.c.bundle != bundle))
    rows = connection.execute(query).all()
    return {row.team: row.text for row in rows}


def edited_since(connection: Connection, member: Any) -> dict[str, object]:
    """When the categories were edited that have left a run out, and in which commit; empty: they are as they were.

    :param member: what was decided about it: ``workflow``, ``reason`` and ``assigned_at``.
    """
    if (member.reason or {}).get("code") != "in_no_category":
        return {}
    team = select(spec_file.c.team).where(spec_file.c.workflow == member.workflow)
    key = row_of(CATEGORIES, connection.execute(team).scalar() or "")
    query = select(spec_text.c.recorded_at, spec_file.c.version).join(spec_file, spec_file.c.hash == spec_text.c.hash)
    row = connection.execute(query.where(spec_file.c.workflow == key)).first()
    if row is None or row.recorded_at <= member.assigned_at:
        return {}
    return {"edited_at": row.recorded_at.isoformat(timespec="seconds"), "commit": row.version}


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


def note_good(
    connection: Connection,
    good: Sequence[KeptText],
    team: str = "",
    bundle: str | None = None,
    version: str | None = None,
) -> None:
    """Remember which texts are the last good ones, and whose; nothing is wrong with their files.

    :param version: of the bundle.
    """
    note_texts(connection, good)
    known = {row.workflow: row for row in connection.execute(select(spec_file)).all()}
    for item in good:
        key = row_of(item.workflow, team)
        before = known.get(key)
        owner = {"team": team, "bundle": bundle, "version": version}
        values = {"file": item.file, "hash": item.hash, "trouble": None, "trouble_since": None, "held": False, **owner}
        if before is None:
            row = {"workflow": key, "good_at": item.good_at, **values}
            connection.execute(insert(spec_file).values(**row))
        elif any(getattr(before, name) != value for name, value in values.items()):
            changed = {**values, "good_at": item.good_at}
            connection.execute(update(spec_file).where(spec_file.c.workflow == key).values(**changed))


def note_troubles(connection: Connection, troubles: Mapping[str, Trouble], now: datetime, team: str = "") -> None:
    """Remember what is wrong with the files of these workflows, since when. Unknown ones have nothing to go on with."""
    for row in connection.execute(select(spec_file).where(spec_file.c.team == team)).all():
        beside = next((one for one in BESIDE if row.workflow == row_of(one, team)), None)
        found = troubles.get(beside or row.workflow)
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
    """What was wrong when runs were injected last, by workflow (of run sources: by :func:`sources_row`)."""
    rows = connection.execute(select(spec_file).where(spec_file.c.trouble.is_not(None))).all()
    return {row.workflow: Trouble(row.trouble, row.held, row.trouble_since) for row in rows if row.trouble}


def sources_rows(connection: Connection, workflows: Collection[str]) -> set[str]:
    """Under which the run sources of these workflows are kept."""
    query = select(spec_file.c.team).where(spec_file.c.workflow.in_(sorted(workflows))).distinct()
    return {sources_row(team) for team in connection.execute(query).scalars()}
