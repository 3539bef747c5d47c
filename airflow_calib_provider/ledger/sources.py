"""Which run source a run, or a workflow, belongs to: several may have a run of the same number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from airflow_calib_provider.domain.reasons import listed
from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.ledger import tables

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

run, membership = tables.run, tables.membership


def check_source(connection: Connection, name: str | None) -> None:
    """:raises NotFound: the ledger has no run of a source of this name."""
    from airflow_calib_provider.ledger.names import known_as

    if name is None or connection.execute(select(run.c.number).where(run.c.source == name).limit(1)).first():
        return
    known = set(connection.execute(select(run.c.source).distinct()).scalars())
    raise NotFound(f"the ledger has no run source {name}", known_as(name, known, "it has no runs yet"))


def of_run(connection: Connection, number: int) -> list[str]:
    """The sources that have a run of this number."""
    return sorted(connection.execute(select(run.c.source).where(run.c.number == number)).scalars())


def the_one(number: int, found: Collection[str]) -> None:
    """:raises NotFound: a run of this number is in several sources."""
    if len(found) > 1:
        raise NotFound(
            f"several sources have a run {number}: {listed(sorted(found))}", "name one with --source, or a --workflow"
        )


def of_workflows(connection: Connection, names: Collection[str]) -> dict[str, set[str]]:
    """Workflow → the sources of its runs: of those that were assigned; before that, of its text as it was injected.

    Of a workflow that nothing tells about there is no entry. Only the first and the last run of each grouping are
    looked at: the source changes with an edit of the file, if ever.
    """
    found: dict[str, set[str]] = {}
    table = tables.grouping
    known = select(table.c.campaign, table.c.workflow, table.c.label).where(table.c.workflow.in_(sorted(names)))
    for row in connection.execute(known).all():
        here = select(membership.c.source).where(
            membership.c.campaign == row.campaign,
            membership.c.workflow == row.workflow,
            membership.c.grouping == row.label,
        )
        for order in (membership.c.run, membership.c.run.desc()):
            source = connection.execute(here.order_by(order).limit(1)).scalar()
            if source is not None:
                found.setdefault(row.workflow, set()).add(source)
    for name in names:
        if name not in found and (sources := _written(connection, name)):
            found[name] = sources
    return found


def _written(connection: Connection, workflow: str) -> set[str]:
    import yaml

    file, text = tables.spec_file, tables.spec_text
    query = select(text.c.text).join(file, file.c.hash == text.c.hash).where(file.c.workflow == workflow)
    kept = connection.execute(query).scalar()
    try:
        read = yaml.safe_load(kept) if kept is not None else None
    except yaml.YAMLError:
        return set()
    runs = read.get("runs") if isinstance(read, dict) else None
    source = runs.get("source") if isinstance(runs, dict) else None
    return {source} if isinstance(source, str) else set()
