"""Content that a person has taken back: it is published again only when a person wants it (rule 70)."""

from __future__ import annotations

from sqlalchemy import Connection, select

from airflow_calib_provider.errors import PayloadError
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.campaigns import PROMPT
from airflow_calib_provider.ledger.payload_states import WITHDRAWN, fell_back
from airflow_calib_provider.ledger.rows import Group

payload = tables.payload


def refuse_withdrawn(connection: Connection, group: Group, tag: str, digest: str, run: int) -> None:
    """:raises PayloadError: a person has taken this content back, and nobody has put it there again since."""
    here = (payload.c.group_id == group.id, payload.c.tag == tag, payload.c.content_hash == digest)
    # What held for it in between was nobody's result, and says nothing of its own.
    newest = select(payload.c.id, payload.c.state, payload.c.revision).where(*here, ~fell_back(payload.c.id))
    row = connection.execute(newest.order_by(payload.c.revision.desc()).limit(1)).first()
    if row is None or row.state != WITHDRAWN:
        return
    made = tables.payload_decision
    said = select(made.c.person, made.c.comment).where(made.c.payload_id == row.id, made.c.kind == "withdrawal")
    by = connection.execute(said).first()
    who = f" by {by.person}: {by.comment}" if by is not None else ""
    where = f"{run} --to {row.revision}" + (f" --campaign {group.campaign}" if group.campaign != PROMPT else "")
    raise PayloadError(
        f"this content of {tag} was revision {row.revision} of {group.name}, which was withdrawn{who}",
        f"make other constants; or, if it was right: `calib payload rollback {tag} {where}`",
    )
