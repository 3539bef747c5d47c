"""No statement that is given again and again reads a whole large table: an index that is forgotten is found here, long
before a ledger has 100,000 runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, select

from airflow_calib_provider.jobsets.cleaning import clean
from airflow_calib_provider.jobsets.watched import GenerationWatch
from airflow_calib_provider.ledger import (
    alarms,
    backfill_days,
    campaign_progress,
    campaigns,
    dag_groups,
    generations,
    groups,
    open_groups,
    openings,
    planner,
    present_jobs,
    products,
    publication_deadlines,
    queries,
    results,
    skips,
    source_changes,
    sources,
    starting,
    tables,
    throttle,
    waiting,
)
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_group, explain_run
from airflow_calib_provider.messages import outbox
from airflow_calib_provider.payloads import store
from airflow_calib_provider.spec.messages_file import ChannelSpec
from benchmarks.ledger.growing import NOW, Growing
from tests.postgres.places import once

RUNS = 240
LARGE = {"run", "membership", "run_group", "group_task", "lock", "generation", "job", "attempt", "round", "value"}
LARGE |= {"product", "payload", "dag_run_request", "event", "skip", "campaign_run", "publication_deadline"}

SCOPE = Scope("prompt", now=NOW)

Statement = tuple[str, Any]


@pytest.fixture
def grown(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[Growing]:
    """A ledger with done, open and waiting groups."""
    specs = tmp_path_factory.getbasetemp() / "grown"

    def grow(ledger: Ledger) -> None:
        Growing(ledger, specs).grow(RUNS, unfinished=80)
        if database == "postgresql":  # SQLite would see how small the tables are, and read them at once
            planner.refresh(ledger)

    made = Growing(once(tmp_path, "grown", grow), specs)
    made.list_runs(RUNS)
    yield made
    made.ledger.close()


@contextmanager
def given(ledger: Ledger) -> Iterator[list[Statement]]:
    """The statements that are given inside, as the driver gets them."""
    seen: list[Statement] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.split()[0] in ("SELECT", "WITH", "UPDATE", "DELETE"):
            seen.append((statement, parameters[0] if many else parameters))

    event.listen(ledger.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(ledger.engine, "before_cursor_execute", note)


def scans(ledger: Ledger, statements: list[Statement]) -> list[str]:
    """Where a whole large table is read, although a part of it is asked for."""
    found = []
    with ledger.read() as connection:
        for statement, parameters in statements:
            found += [f"{where}: {statement}" for where in _scanned(connection, statement, parameters)]
    return found


def _scanned(connection: Connection, statement: str, parameters: Any) -> list[str]:
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
        steps = [row[3] for row in rows]
        read = [step for step in steps if step.startswith("SCAN ") and step.split()[1] in LARGE | {"other", "old"}]
        # In an order that an index has, up to a limit; or counted, which an index alone tells quickly.
        bounded = "LIMIT" in statement or "count(" in statement
        return [step for step in read if not (bounded and "INDEX" in step)]
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # else small tables are read at once, and rightly so
    plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    return list(_sequential(plan[0]["Plan"]))


def _sequential(node: dict[str, Any]) -> Iterator[str]:
    if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE:
        yield f"Seq Scan on {node['Relation Name']}"
    for inner in node.get("Plans", ()):
        yield from _sequential(inner)


def _waiting_keys(connection: Connection) -> list[waiting.Key]:
    locked = select(tables.lock.c.group_id, tables.lock.c.task).distinct().limit(20)
    return [*((row.group_id, row.task) for row in connection.execute(locked)), (1, waiting.FORMING)]


@dataclass(frozen=True)
class Hot:
    """What is asked about.

    :ivar ids: of generations.
    """

    ledger: Ledger
    connection: Connection
    keys: list[waiting.Key]
    ids: list[int]


def _watched(hot: Hot) -> None:
    connection, ids = hot.connection, hot.ids
    generations.running(connection)
    throttle.with_holds(connection, ids)
    for row, _ in throttle.with_holds(connection, ids[:3]):
        throttle.may_plan(connection, row, NOW)
    throttle.admitted(connection, "prompt", throttle.Hold("open", 5), NOW)
    present_jobs.running_jobs(connection, ids)
    present_jobs.jobs_by_state(connection, ids, NOW)
    present_jobs.held_due(connection, ids, NOW)
    GenerationWatch(hot.ledger, ids, NOW).running()


def _products(hot: Hot) -> None:
    connection, ids = hot.connection, hot.ids
    results.products_listed(connection, "prompt", last=50)
    results.products_listed(connection, "prompt", task="check", runs=[(5, 6)])
    products.page(connection, None, 10, products.product.c.state == products.ACCEPTED)
    products.page(connection, products.Key(ids[0], 0, 0, ""), 10, *products.unsummed(), among=ids)
    products.drop_due(connection, NOW, 10)
    products.dropped_with_files(connection, NOW, 10)
    products.bounds(connection)


def _groups(hot: Hot) -> None:
    connection = hot.connection
    group = groups.find_group(connection, "prompt", "ecal", "run-r5")
    groups.find_group(connection, "prompt", None, "run-r5")
    open_groups.forming_group(connection, "prompt", "ecal", "sum")
    groups.task_of(connection, group, "check")
    generations.latest(connection, group.id, "check")
    openings.concerned(connection, group.id)
    starting.standing_of(connection, group.id, "check", "0")
    starting.require_open(connection, 1, "check")
    skips.members_of(connection, group, "check", ["skim"])


def _told(hot: Hot) -> None:
    alarms.pending(hot.connection, NOW)
    hot.connection.execute(publication_deadlines.pending(NOW)).all()
    found = outbox.after(hot.connection, 10, ChannelSpec("shift", "email", {}, (), ("ecal",), ("prompt",)))
    outbox.facts_of(hot.connection, found.events)
    outbox.first_since(hot.connection, NOW)


HOT: dict[str, Callable[[Hot], object]] = {
    "look": lambda hot: waiting.look(hot.connection, hot.keys),
    "plan": lambda hot: openings.plan(hot.connection, NOW),
    "claim": lambda hot: openings.claim(hot.connection, "me", NOW + timedelta(days=1)),
    "explain a run": lambda hot: explain_run(hot.connection, SCOPE, 5),
    "explain a group": lambda hot: explain_group(hot.connection, SCOPE, "run-r5"),
    "runs": lambda hot: queries.runs_listed(hot.connection, "prompt", last=20),
    "runs of a workflow": lambda hot: queries.runs_listed(hot.connection, "prompt", workflow="ecal", last=20),
    "sources of a workflow": lambda hot: sources.of_workflows(hot.connection, ["ecal"]),
    "sources of a run": lambda hot: sources.of_run(hot.connection, 5),
    "changes of a group": lambda hot: source_changes.of_group(hot.connection, 5),
    "changes of runs": lambda hot: source_changes.of_assigned(hot.connection, "daq", [5, 6]),
    "groups": lambda hot: queries.groups_listed(hot.connection, "prompt", last=20),
    "jobs": lambda hot: queries.jobs_listed(hot.connection, "prompt", last=20),
    "jobs of a group": lambda hot: queries.jobs_listed(hot.connection, "prompt", group_name="run-r5"),
    "status": lambda hot: queries.status(hot.connection, "prompt", runs=[5, 6]),
    "a campaign": lambda hot: campaign_progress.progress(hot.connection, "prompt", NOW),
    "of a cancelled campaign": lambda hot: throttle.of_cancelled(hot.connection),
    "who asked for a campaign": lambda hot: campaigns.asked_by(hot.connection, "prompt"),
    "days of a campaign": lambda hot: backfill_days.days_of(hot.connection, "prompt"),
    "group of a DAG run": lambda hot: dag_groups.group_of_dag_run(hot.connection, "ecal__run", "prompt__run-r5"),
    "campaigns": lambda hot: campaigns.open_campaigns(hot.connection),
    "payload": lambda hot: store.covering(hot.connection, "prompt", "Fit", range(10, 90)),
    "products": lambda hot: _products(hot),
    "messages": lambda hot: _told(hot),
    "watched": lambda hot: _watched(hot),
    "groups by name": lambda hot: _groups(hot),
}


@pytest.mark.parametrize("name", HOT)
def test_no_hot_statement_reads_a_whole_table(grown: Growing, name: str) -> None:
    with grown.ledger.read() as connection:
        keys, ids = (
            _waiting_keys(connection),
            list(connection.execute(select(tables.generation.c.id).limit(5)).scalars()),
        )
    with given(grown.ledger) as statements, grown.ledger.write() as connection:
        HOT[name](Hot(grown.ledger, connection, keys, ids))
    assert statements
    assert scans(grown.ledger, statements) == []


def test_injection_of_nothing_new_and_of_new_runs_reads_no_whole_table(grown: Growing) -> None:
    for runs in (RUNS, RUNS + 20):
        grown.list_runs(runs)
        with given(grown.ledger) as statements:
            grown.inject()
        assert scans(grown.ledger, statements) == []


def test_cleaning_and_a_thorough_look_read_no_whole_table(grown: Growing) -> None:
    with given(grown.ledger) as statements:
        clean(grown.ledger, {}.__getitem__, NOW - timedelta(days=3650))
        openings.ready_beyond(grown.ledger)
    assert scans(grown.ledger, statements) == []


def test_a_scan_is_seen(grown: Growing) -> None:
    with given(grown.ledger) as statements, grown.ledger.read() as connection:
        connection.execute(select(tables.job.c.host).where(tables.job.c.host == "node1")).all()
    assert len(scans(grown.ledger, statements)) == 1
