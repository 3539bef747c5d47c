"""Groups of hand-written DAGs: one for each DAG run, with names that make keys (rule 39)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.errors import LedgerError, NotFound
from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import campaigns, names, openings, tables
from airflow_calib_provider.ledger.dag_groups import (
    Source,
    airflow_task_id,
    ensure_group,
    ensure_task,
    group_name,
    note_source,
    task_name,
    workflow_name,
)
from airflow_calib_provider.ledger.engine import Ledger

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = "manual__2026-03-01T12:00:00.123456+00:00_aB3"
LONG = "x" * 250


@pytest.mark.parametrize("name", ["fit", "a-b", "tg.fit", "tg.inner.fit-3", "a__b", "x" * 60])
def test_a_task_id_comes_back_from_its_name(name: str) -> None:
    assert airflow_task_id(task_name(name)) == name
    assert "." not in task_name(name)


@pytest.mark.parametrize("name", ["x" * 61, "ä", "a b", "a+b", "a/b", ""])
def test_a_task_id_that_makes_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="task_id is"):
        task_name(name)


@pytest.mark.parametrize("text", [RUN, LONG, "a.b", "../../etc", "ä", "9", "_", "", "scheduled__x", "a b\nc"])
def test_names_are_safe_and_short(text: str) -> None:
    for name in (workflow_name(text), group_name(text)):
        assert 0 < len(name) <= 60
        assert all(character.isascii() and (character.isalnum() or character in "_-") for character in name)
    key = RoundKey("dags", workflow_name(text), task_name("tg." + "x" * 57), group_name(text), 99, 0, 999)
    assert RoundKey.parse(str(key)) == key
    assert len(str(key)) < 255


def test_names_stay_as_they_are_where_they_can() -> None:
    assert workflow_name("ecal_daily") == "ecal_daily"
    assert group_name("reprocessing-7") == "reprocessing-7"
    assert workflow_name("ecal.daily").startswith("ecal_daily_")


def test_different_ids_have_different_names() -> None:
    ids = ["a.b", "a-b", "a_b", "a b", "a..b", "a:b", LONG, LONG + "y"]
    assert len({workflow_name(text) for text in ids}) == len(ids)
    assert len({group_name(text) for text in ids}) == len(ids)


def make(ledger: Ledger, dag: str = "by-hand", run: str = RUN, start: datetime | None = NOW) -> Any:
    with ledger.write() as connection:
        row = ensure_group(connection, dag, run, start, NOW)
        ensure_task(connection, row, "fit", Source("0" * 64, "text"), NOW)
        note_source(connection, row.workflow, Source("0" * 64, "text"), NOW)
        return row


def rows(ledger: Ledger, table: Any) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.execute(select(table)).all())


def test_a_dag_run_has_one_group(ledger: Ledger) -> None:
    first = make(ledger)
    assert make(ledger).id == first.id
    (row,) = rows(ledger, tables.run_group)
    assert (row.campaign, row.workflow, row.grouping, row.state) == (
        "dags",
        workflow_name("by-hand"),
        "dag_run",
        "closed",
    )
    assert row.first_run == row.last_run == int(NOW.timestamp() * 1e6)
    (request,) = rows(ledger, tables.dag_run_request)
    assert (request.dag_id, request.run_id, request.state) == ("by-hand", RUN, "opened")
    (task,) = rows(ledger, tables.group_task)
    assert (task.task, task.kind, task.state) == ("fit", "jobs", "new")
    assert [item.text for item in rows(ledger, tables.spec_text)] == ["text"]


def test_dag_runs_that_start_at_once_have_different_groups(ledger: Ledger) -> None:
    made = [make(ledger, run=f"run {number}") for number in range(3)]
    assert [row.first_run - made[0].first_run for row in made] == [0, 1, 2]
    assert len({row.name for row in made}) == 3
    assert make(ledger, dag="other", run="run 0").first_run == made[0].first_run


def test_without_a_start_the_present_counts(ledger: Ledger) -> None:
    assert make(ledger, start=None).first_run == int(NOW.timestamp() * 1e6)


def test_the_campaign_takes_no_runs(ledger: Ledger, tmp_path: Path) -> None:
    make(ledger)
    with ledger.write() as connection:
        assert campaigns.open_campaigns(connection) == []
        assert openings.plan(connection, NOW) == 0
        with pytest.raises(LedgerError, match="nothing to close"):
            campaigns.close(connection, "dags")
    with pytest.raises(LedgerError, match="takes no runs"):
        inject(ledger, {}, {}, tmp_path, now=NOW, campaign="dags")


def test_the_name_of_the_campaign_is_reserved(ledger: Ledger) -> None:
    with ledger.write() as connection, pytest.raises(LedgerError, match="reserved"):
        campaigns.create(connection, "dags", kind="streamed")


def test_people_may_name_its_workflow_and_tasks(ledger: Ledger) -> None:
    row = make(ledger)
    with ledger.read() as connection:
        names.check_workflow(connection, row.workflow)
        names.check_task(connection, row.workflow, "fit")
        with pytest.raises(NotFound):
            names.check_workflow(connection, "nobody")
