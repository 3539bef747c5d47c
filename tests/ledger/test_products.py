"""Products on record, on each kind of database: pages, checksums, what is due to be dropped."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert, update

from airflow_calib_provider.ledger import products, results, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.products import Kept, Key
from tests.ledger.making import RUN, T0, done, facts, group_ids, put_runs, task, workflow

KEPT = products.product.c.state == products.ACCEPTED
LATER = T0 + timedelta(days=2)


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """Four groups of a run, each with a done generation of two jobs with two products."""
    flow = workflow("ecal", task("skim", RUN))
    put_runs(ledger, flow, [facts(number) for number in (1, 2, 3, 4)])
    for number in group_ids(ledger, "run").values():
        done(ledger, number, "skim")
    rows = [
        {"generation_id": generation, "step": 0, "job_index": job, "name": name, "file": f"{name}.txt"}
        for generation in (1, 2, 3, 4)
        for job in (0, 1)
        for name in ("a", "b")
    ]
    with ledger.write() as connection:
        connection.execute(insert(tables.product), rows)
    return ledger


def keys(ledger: Ledger, size: int, **how: object) -> list[Key]:
    found: list[Key] = []
    after: Key | None = None
    while True:
        with ledger.read() as connection:
            rows, after = products.page(connection, after, size, KEPT, **how)  # type: ignore[arg-type]
        assert len(rows) <= size
        found += [row.key for row in rows]
        if after is None:
            return found


@pytest.mark.parametrize("size", [1, 3, 4, 16, 100])
def test_pages_have_each_once_and_in_order(filled: Ledger, size: int) -> None:
    found = keys(filled, size)
    assert len(found) == 16
    assert found == sorted(set(found))
    assert {key.generation_id for key in keys(filled, size, among=[2, 4])} == {2, 4}
    few = keys(filled, size, where=[products.group.c.name == "run-r3"])
    assert [(key.generation_id, key.job_index, key.name) for key in few] == [
        (3, 0, "a"), (3, 0, "b"), (3, 1, "a"), (3, 1, "b")
    ]  # fmt: skip


def test_a_page_of_none(ledger: Ledger) -> None:
    assert keys(ledger, 5) == []
    with ledger.read() as connection:
        assert products.bounds(connection) is None


def test_the_last_ones(filled: Ledger) -> None:
    with filled.read() as connection:
        found = results.products_listed(connection, "prompt", last=3)
        assert [(row.group, row.job_index, row.name) for row in found] == [
            ("run-r4", 0, "b"), ("run-r4", 1, "a"), ("run-r4", 1, "b")
        ]  # fmt: skip
        assert len(results.products_listed(connection, "prompt")) == 16
        assert {row.group for row in results.products_listed(connection, "prompt", runs=[(2, 3)])} == {
            "run-r2",
            "run-r3",
        }
        assert results.products_listed(connection, "prompt", task="other", last=5) == []


def test_a_checksum_is_noted_once(filled: Ledger) -> None:
    key = Key(1, 0, 0, "a")
    for size, text in ((5, "x" * 64), (7, "y" * 64)):
        with filled.write() as connection:
            products.note_content(connection, {key: Kept(size, text)})
    with filled.read() as connection:
        rows, _ = products.page(connection, None, 100, *products.unsummed())
        assert len(rows) == 15
        known, _ = products.page(connection, None, 100, products.product.c.checksum.is_not(None))
    assert [(row.key, row.size, row.checksum) for row in known] == [(key, 5, "x" * 64)]


def test_what_is_due_is_dropped_in_portions(filled: Ledger) -> None:
    with filled.write() as connection:
        here = products.product.c.generation_id.in_([1, 2])
        connection.execute(update(products.product).where(here).values(drop_at=T0))
        running = update(tables.generation).where(tables.generation.c.id == 4)
        connection.execute(running.values(state="running", used={"generations": {"ecal.skim": [2]}, "payloads": []}))
    dropped = []
    for _ in range(3):
        with filled.write() as connection:
            dropped.append([row.key for row in products.drop_due(connection, LATER, 3)])
    assert [len(part) for part in dropped] == [3, 1, 0]
    assert {key.generation_id for part in dropped for key in part} == {1}
    with filled.write() as connection:
        waiting = products.dropped_with_files(connection, LATER, 100)
        assert len(waiting) == 4
        assert products.others_of_job(connection, waiting[0]) == []
        products.note_removed(connection, waiting[:1], LATER)
        assert len(products.dropped_with_files(connection, LATER, 100)) == 3


def test_folders_of_generations_that_there_are(filled: Ledger) -> None:
    known = "prompt/ecal/skim/run-r1/g1"
    others = ["prompt/ecal/skim/run-r1/g2", "prompt/ecal/fit/run-r1/g1", "x/ecal/skim/run-r1/g1", "a/b/c/d/e"]
    with filled.read() as connection:
        assert products.known_folders(connection, [known, *others]) == {known}


def test_values_of_groups_are_means(filled: Ledger) -> None:
    rows = [
        {"generation_id": generation, "step": 0, "job_index": job, "name": "x", "value": value, "error": 0.5}
        for generation, job, value in ((1, 0, 1.0), (1, 1, 3.0), (2, 0, 7.0), (4, 0, 9.0))
    ]
    with filled.write() as connection:
        connection.execute(insert(tables.value), rows)
    with filled.read() as connection:
        found = results.values_by_group(connection, "prompt", name="x", task="skim")
        assert [(row.group, row.n, row.value, row.error) for row in found] == [
            ("run-r1", 2, 2.0, None), ("run-r2", 1, 7.0, 0.5), ("run-r4", 1, 9.0, 0.5)
        ]  # fmt: skip
        assert [row.group for row in results.values_by_group(connection, "prompt", last=2)] == ["run-r2", "run-r4"]
        assert [row.group for row in results.values_by_group(connection, "prompt", runs=[(1, 3)])] == [
            "run-r1",
            "run-r2",
        ]
        assert results.published(connection, "prompt", None, None, None) == []
