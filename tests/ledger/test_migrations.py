"""From each version to this software's one, and back: what is there stays, on each kind of database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    DateTime,
    Float,
    MetaData,
    Numeric,
    String,
    Table,
    insert,
    select,
    update,
)
from sqlalchemy import types as kinds

from airflow_calib_provider.ledger import campaigns, schema, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.partial_indices import partial_indices
from tests.postgres.places import is_new, ledger_url

VERSIONS = [script.revision for script in ScriptDirectory.from_config(schema._config()).walk_revisions()][::-1]
# Each way leads over all versions behind its start: the first one sees every step, the last one what was written last.
SOME = [
    version if version in (VERSIONS[0], VERSIONS[-2], VERSIONS[-1]) else pytest.param(version, marks=pytest.mark.long)
    for version in VERSIONS
]
AT = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
Content = dict[str, list[dict[str, Any]]]


@pytest.fixture
def empty(tmp_path: Path, database: str) -> Iterator[Ledger]:
    """A database without tables."""
    is_new(tmp_path, empty=True)
    made = Ledger(ledger_url(tmp_path))
    yield made
    made.close()


def go(ledger: Ledger, version: str, *, back: bool = False) -> None:
    """Bring a ledger to a version."""
    config = schema._config()
    with ledger.write() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if back else command.upgrade)(config, version)


def present(connection: Connection) -> list[Table]:
    """The tables that there are, those that others refer to first."""
    metadata = MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != schema.VERSION_TABLE]


def sample(kind: kinds.TypeEngine[Any], dialect: str) -> Any:
    """A value for a column; the same for all columns of a type, so that what refers to a row meets it."""
    if isinstance(kind, JSON):
        return {"ä": [1, None, "x"]}
    if isinstance(kind, DateTime):
        return AT.replace(tzinfo=None) if dialect == "sqlite" else AT
    if isinstance(kind, Boolean):
        return True
    if isinstance(kind, Float | Numeric):
        return 0.25
    return "x" if isinstance(kind, String) else 1


def fill(ledger: Ledger) -> None:
    """A row in each table, with a value in each column but the numbers that the database gives."""
    with ledger.write() as connection:
        for table in present(connection):
            own = {column.name for column in table.primary_key} if len(table.primary_key) == 1 else set()
            given = {column.name for column in table.c if column.name in own and column.name == "id"}
            dialect = connection.dialect.name
            row = {column.name: sample(column.type, dialect) for column in table.c if column.name not in given}
            connection.execute(insert(table).values(**row))


def content(ledger: Ledger) -> Content:
    """All that there is."""
    with ledger.read() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in present(connection)
        }


def common(before: Content, after: Content) -> tuple[Content, Content]:
    """Both without the tables and columns that only one of them has."""
    names = before.keys() & after.keys()

    def cut(one: Content, other: Content) -> Content:
        found = {name: {key for row in other[name] for key in row} for name in names}
        return {name: [{key: row[key] for key in row if key in found[name]} for row in one[name]] for name in names}

    return cut(before, after), cut(after, before)


def differences(connection: Connection) -> list[Any]:
    """Where the database is not what the code says."""

    def compare_default(
        _context: Any, _there: Any, _wanted: Any, there: str | None, _metadata: Any, wanted: Any
    ) -> Any:
        # PostgreSQL does not compare JSON, and says the type of what it tells.
        text = None if there is None else there.partition("::")[0].strip("'()")
        return text != (None if wanted is None else str(wanted).strip("'()"))

    options = {"version_table": schema.VERSION_TABLE, "compare_server_default": compare_default}
    assert len(partial_indices()) == 6
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata))


@pytest.mark.parametrize("start", SOME)
def test_what_is_there_survives(empty: Ledger, start: str) -> None:
    go(empty, start)
    fill(empty)
    first = content(empty)
    assert all(len(rows) == 1 for rows in first.values())
    assert first.keys() >= {"run", "run_group", "generation", "job", "event"}
    before = first
    for version in VERSIONS[VERSIONS.index(start) + 1 :]:
        go(empty, version)
        after = content(empty)
        same = common(before, after)
        assert same[0] == same[1], version
        before = after
    assert schema.check(empty) == schema.head_version() == VERSIONS[-1]
    with empty.read() as connection:
        assert differences(connection) == []
    with empty.write() as connection:  # the code can use it: the next numbers are free, defaults are there
        campaigns.create(connection, "new", kind="streamed")
    assert sorted(row["id"] for row in content(empty)["event"]) == [1, 2]

    before = content(empty)
    go(empty, start, back=True)
    same = common(before, content(empty))
    assert same[0] == same[1]
    assert schema.upgrade(empty) == (start, schema.head_version())
    same = common(before, content(empty))
    assert [row["name"] for row in same[1]["campaign"]] == ["x", "new"]


def test_locks_and_policies_are_written_anew(empty: Ledger) -> None:
    """What they say survives the way to parameters of any kind, and back."""
    go(empty, "0003")
    fill(empty)
    policy = {"kind": "fill", "label": "fill", "minimum": {"lumi_pb": 2.5}, "short": "next", "max_wait": "PT2H"}
    needs = {"kind": "task", "needs_workflow": "ecal", "needs_grouping": "run", "needs_task": "skim", "tag": None}
    of_tag = {"kind": "payload", "needs_workflow": None, "needs_grouping": None, "needs_task": None, "tag": "Laser"}
    with empty.write() as connection:
        old = {table.name: table for table in present(connection)}
        connection.execute(update(old["run_group"]).values(policy={"json": json.dumps(policy)}))
        for position, row in enumerate((needs, of_tag), 10):
            connection.execute(insert(old["lock"]).values(group_id=1, task="fit", position=position, **row))
    before = content(empty)
    go(empty, "head")
    after = content(empty)
    assert after["run_group"][0]["policy"] == policy
    assert {row["position"]: (row["kind"], row["parameters"], row["deadline"]) for row in after["lock"]} == {
        1: ("x", {}, None),
        10: ("task", {"workflow": "ecal", "grouping": "run", "task": "skim"}, None),
        11: ("payload", {"tag": "Laser"}, None),
    }
    go(empty, "0003", back=True)
    back = content(empty)
    assert back["run_group"][0]["policy"].keys() == {"json"}
    assert json.loads(back["run_group"][0]["policy"]["json"]) == policy
    assert [row for row in back["lock"] if row["kind"] != "x"] == [row for row in before["lock"] if row["kind"] != "x"]


@pytest.mark.parametrize("version", SOME)
def test_back_to_nothing(empty: Ledger, version: str) -> None:
    go(empty, version)
    go(empty, "base", back=True)
    assert content(empty) == {}
    assert schema.upgrade(empty) == (None, schema.head_version())


def test_all_at_once_makes_the_tables_of_the_code(empty: Ledger) -> None:
    assert schema.upgrade(empty) == (None, schema.head_version())
    with empty.read() as connection:
        assert differences(connection) == []
