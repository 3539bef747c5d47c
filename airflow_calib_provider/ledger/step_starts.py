"""The files with first constants that generations which iterate began with, and for how long these are needed."""

from __future__ import annotations

from sqlalchemy import Connection, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import Generation
from airflow_calib_provider.ledger.steps import StoredPlan


def result_folder(connection: Connection, row: Generation) -> str | None:
    """The folder of the result of a generation, above those of its steps; ``None``: it does not iterate."""
    plan = _plan_of(connection, row.id)
    return None if plan is None else plan["folder"]


def not_needed(connection: Connection, row: Generation) -> list[str]:
    """First constants of a group's task that nobody needs when this generation is cleaned.

    They are needed by those that are not cleaned yet, and by the latest, which may be gone on with, unless it is done.

    :returns: files, relative to the products folder.
    """
    generation, iteration = tables.generation, tables.iteration
    columns = (generation.c.id, generation.c.state, generation.c.cleaned_at, iteration.c.plan)
    query = select(*columns).join(iteration, iteration.c.generation_id == generation.c.id)
    here = (generation.c.group_id == row.group_id, generation.c.task == row.task)
    rows = connection.execute(query.where(*here).order_by(generation.c.id)).all()
    left, needed = {one.plan["start"] for one in rows}, set()
    for one in rows:
        may_go_on = one.id == rows[-1].id and one.state != "done"
        if may_go_on or (one.cleaned_at is None and one.id != row.id):
            needed.add(one.plan["start"])
    return sorted(left - needed)


def _plan_of(connection: Connection, generation_id: int) -> StoredPlan | None:
    table = tables.iteration
    found: StoredPlan | None = connection.execute(
        select(table.c.plan).where(table.c.generation_id == generation_id)
    ).scalar()
    return found
