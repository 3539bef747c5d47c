"""Campaigns: named passes over runs (rules 3, 26, 53)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, exc, func, select

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.errors import LedgerError, NotFound
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.bulk import insert_rows
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Campaign, first_row, read_rows, select_of
from airflow_calib_provider.ledger.transitions import Move, Subject, move
from airflow_calib_provider.spec.problems import nearest

PROMPT = "prompt"
"""The campaign that takes new data; it exists as soon as the first runs are injected."""

DAGS = "dags"
"""The kind, and the name, of the campaign to which the jobs of hand-written DAGs belong; it takes no runs."""

TAKING = ("grouping", "open", "paused")
"""States in which runs are assigned; a pause of a closed one is none, as its ``closed_at`` says."""

OPENING = ("open", "closed")
"""States in which groups are opened; of a closed one those that it has."""

NEWEST = "newest"
ORDERS = ("ascending", NEWEST)
"""In which order of their runs groups are opened."""

LONGEST = 60
"""Characters of a name: it is a part of the names of DAG runs, folders and batches."""

# What began with a dash would be an option of each command that names it.
_NAME = re.compile(f"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{LONGEST - 1}}}")

DAG_RUN = "dag_run"
"""In the event of a campaign's creation: the DAG run that asked for it, so that a retry finds what it has made."""

AT_ONCE = 10_000
"""Runs of a campaign that are written in one transaction."""


def create(
    connection: Connection,
    name: str,
    *,
    kind: str,
    runs: Mapping[str, Iterable[int]] | None = None,
    base_campaign: str | None = None,
    spec_hashes: Mapping[str, str] | None = None,
    collecting: bool = False,
    **further: object,
) -> None:
    """Create a campaign.

    :param kind: ``streamed``, ``finite``, or :data:`DAGS`.
    :param runs: source → run numbers; a finite campaign's runs are fixed by it.
    :param spec_hashes: workflow → hash of the spec at creation; empty means every workflow.
    :param collecting: runs are still added to a finite one, until it is started.
    :param further: other columns: ``overrides``, ``first_tasks``, ``run_order``, ``priority``, ``max_groups``,
        ``max_jobs``, ``created_by``; and ``dag_run``, that of Airflow which asked for it.
    :raises LedgerError: the name is taken or not usable, or a finite campaign has no runs.
    """
    numbers = _numbers(runs)
    _check(connection, name, kind, base_campaign, numbers, collecting=collecting)
    _write_runs(connection, name, numbers)
    _write(connection, name, kind, base_campaign, spec_hashes, numbers, collecting, further)


def create_large(
    ledger: Ledger,
    name: str,
    *,
    kind: str,
    runs: Mapping[str, Iterable[int]] | None = None,
    base_campaign: str | None = None,
    spec_hashes: Mapping[str, str] | None = None,
    collecting: bool = False,
    **further: object,
) -> None:
    """As :func:`create`, with any number of runs: they are written in parts, and the campaign is there with the last.

    What a creation that died has left is nobody's, and goes with the next one of the name.

    :raises LedgerError: as :func:`create`, or another process creates one of this name at the same time.
    """
    numbers = _numbers(runs)
    listed = tables.campaign_run
    with ledger.read() as connection:
        _check(connection, name, kind, base_campaign, numbers, collecting=collecting)
        left = connection.execute(select(listed.c.source, listed.c.run).where(listed.c.campaign == name)).all()
    for begin in range(0, len(left), AT_ONCE):
        with ledger.write() as connection:
            _check(connection, name, kind, base_campaign, numbers, collecting=collecting)
            some = tables.one_of(listed.c.run, [row.run for row in left[begin : begin + AT_ONCE]])
            connection.execute(delete(listed).where(listed.c.campaign == name, some))
    for begin in range(0, len(numbers), AT_ONCE):
        try:
            with ledger.write() as connection:
                _check(connection, name, kind, base_campaign, numbers, collecting=collecting)
                _write_runs(connection, name, numbers[begin : begin + AT_ONCE])
        except exc.IntegrityError as error:
            raise _created_twice(name) from error
        crash_point("campaign.after_commit", name)
    with ledger.write() as connection:
        _check(connection, name, kind, base_campaign, numbers, collecting=collecting)
        figures = select(func.count(), func.coalesce(func.sum(listed.c.run), 0)).where(listed.c.campaign == name)
        if tuple(connection.execute(figures).one()) != (len(numbers), sum(number for _, number in numbers)):
            raise _created_twice(name)
        _write(connection, name, kind, base_campaign, spec_hashes, numbers, collecting, further)


def _created_twice(name: str) -> LedgerError:
    return LedgerError(
        f"another process creates a campaign {name} at this moment", "see `calib campaign list`, or repeat the command"
    )


def _numbers(runs: Mapping[str, Iterable[int]] | None) -> list[tuple[str, int]]:
    return [(source, number) for source, listed in (runs or {}).items() for number in sorted(set(listed))]


def _check(
    connection: Connection,
    name: str,
    kind: str,
    base_campaign: str | None,
    numbers: Sequence[tuple[str, int]],
    *,
    collecting: bool,
) -> None:
    check_name(connection, name, kind)
    check_base(connection, name, base_campaign)
    if kind == "finite" and not numbers and not collecting:
        raise LedgerError(f"the finite campaign {name} would have no runs", "state runs that the source lists")


def _write_runs(connection: Connection, name: str, numbers: Sequence[tuple[str, int]]) -> None:
    rows = [{"campaign": name, "source": source, "run": number} for source, number in numbers]
    insert_rows(connection, tables.campaign_run, rows)


def _write(
    connection: Connection,
    name: str,
    kind: str,
    base_campaign: str | None,
    spec_hashes: Mapping[str, str] | None,
    numbers: Sequence[tuple[str, int]],
    collecting: bool,
    further: Mapping[str, object],
) -> None:
    now = datetime.now(UTC)
    columns = {key: value for key, value in further.items() if key != DAG_RUN}
    row = {
        "kind": kind,
        "base_campaign": base_campaign,
        "overrides": {},
        "spec_hashes": dict(spec_hashes or {}),
        "created_at": now,
        "closed_at": None,
        "first_tasks": {},
        "run_order": None,
        "priority": 0,
        "since": now,
        **columns,
    }
    state = ("collecting" if collecting else "grouping") if kind == "finite" else "open"
    said = {"by": further.get("created_by"), DAG_RUN: further.get(DAG_RUN)}
    data = {"kind": kind, "runs": len(numbers), **{key: value for key, value in said.items() if value}}
    move(connection, tables.campaign, [Move({"name": name}, None, state, Subject(campaign=name), row, data)])


def check_name(connection: Connection, name: str, kind: str = "finite") -> None:
    """:raises LedgerError: no campaign of this kind can be created under this name."""
    if not _NAME.fullmatch(name):
        raise LedgerError(
            f"{name[: 2 * LONGEST]!r} cannot name a campaign",
            f"use up to {LONGEST} letters, digits, - and _; none begins with -",
        )
    if name == DAGS and kind != DAGS:
        raise LedgerError(f"the name {name} is reserved for the jobs of hand-written DAGs", "choose another")
    if connection.execute(select(tables.campaign.c.name).where(tables.campaign.c.name == name)).first():
        raise LedgerError(
            f"the campaign {name} exists already", "a campaign's name is never used twice; choose another"
        )


def asked_by(connection: Connection, name: str) -> str | None:
    """The DAG run that asked for a campaign; ``None``: none did, or there is no such campaign."""
    event = tables.event
    made = (event.c.campaign == name, tables.CAMPAIGN_LIFE, event.c.from_state.is_(None))
    data = connection.execute(select(event.c.data).where(*made).order_by(event.c.id).limit(1)).scalar()
    found = (data or {}).get(DAG_RUN)
    return None if found is None else str(found)


def check_base(connection: Connection, name: str, base: str | None) -> None:
    """:raises LedgerError: the campaign cannot be based on this one."""
    if base is None:
        return
    if base == name:
        raise LedgerError(f"the campaign {name} cannot be its own base", f"name another, such as {PROMPT}")
    if get(connection, base).kind == DAGS:
        raise LedgerError(f"the campaign {base} takes no runs: nothing can be based on it", "name another")


def ensure_prompt(connection: Connection) -> None:
    """Create ``prompt`` where it is missing; closed, it stays closed."""
    if connection.execute(select(tables.campaign.c.name).where(tables.campaign.c.name == PROMPT)).first() is None:
        create(connection, PROMPT, kind="streamed")


def get(connection: Connection, name: str) -> Campaign:
    """A campaign.

    :raises NotFound: there is none of this name.
    """
    row = first_row(connection, select_of(Campaign, tables.campaign).where(tables.campaign.c.name == name), Campaign)
    if row is None:
        names = connection.execute(select(tables.campaign.c.name).order_by(tables.campaign.c.name)).scalars().all()
        raise NotFound(f"there is no campaign {name}{' yet' if name == PROMPT else ''}", _how_made(name, names))
    return row


def _how_made(name: str, known: Sequence[str]) -> str:
    if name == PROMPT:
        return "calib_inject creates it at its first run: `airflow dags trigger calib_inject`"
    hint = nearest(name, known)
    others = "`calib campaign create` makes one"
    if not known:
        return f"{others}; {PROMPT} is created by calib_inject at its first run"
    return f"{hint + ' ' if hint else ''}known: {', '.join(known)}; {others}"


def takes_runs(row: Campaign) -> bool:
    """Whether runs are still assigned in it."""
    return row.kind != DAGS and row.state in TAKING and row.closed_at is None


def open_campaigns(connection: Connection) -> list[Campaign]:
    """All campaigns that take runs, ``prompt`` first, then by age."""
    table = tables.campaign
    here = (table.c.state.in_(TAKING), table.c.kind != DAGS)
    found = read_rows(
        connection, select_of(Campaign, tables.campaign).where(*here).order_by(table.c.created_at), Campaign
    )
    return sorted((row for row in found if takes_runs(row)), key=lambda row: row.name != PROMPT)


def note_grouped(connection: Connection, name: str, now: datetime) -> bool:
    """A finite campaign is grouped completely: from now on its groups may open (rule 53).

    :returns: whether this is news.
    """
    row = get(connection, name)
    if row.kind != "finite" or row.grouped_at is not None or row.state not in TAKING:
        return False
    target = "open" if row.state == "grouping" else row.state
    columns = {"grouped_at": now, "since": now if target != row.state else row.since}
    change(connection, row, target, columns, {"grouped": True})
    return True


def change(
    connection: Connection, row: Campaign, target: str, columns: Mapping[str, object], data: Mapping[str, object]
) -> None:
    """Move a campaign to a state, with an event."""
    move(connection, tables.campaign, [Move({"name": row.name}, row.state, target, Subject(row.name), columns, data)])


def close(connection: Connection, name: str) -> None:
    """Mark a campaign closed; its unfinished groups must have met their tail rules before.

    :raises NotFound: there is none of this name.
    :raises LedgerError: it is closed already, takes no runs, or was not started.
    """
    row = get(connection, name)
    if row.kind == DAGS:
        raise LedgerError(f"the campaign {name} takes no runs: there is nothing to close")
    if row.state == "closed" or row.closed_at is not None:
        raise LedgerError(f"the campaign {name} is closed already")
    if row.state == "cancelled":
        raise LedgerError(f"the campaign {name} is cancelled: there is nothing to close")
    if row.state == "collecting":
        raise LedgerError(
            f"the campaign {name} was not started: there is nothing to close",
            f"`calib campaign start {name}`, or `calib campaign cancel {name}`",
        )
    now = datetime.now(UTC)
    target = "paused" if row.state == "paused" else "closed"
    change(connection, row, target, {"closed_at": now, "since": now if target == "closed" else row.since}, {})
