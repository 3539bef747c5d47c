"""No view reads a whole large table, but for those that count all of a campaign."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from airflow_calib_provider.page import group, people, runs, tags
from airflow_calib_provider.page.rights import Reader, Rights, rights_of
from benchmarks.ledger.growing import NOW, Growing
from tests.ledger.test_scans import given, grown, scans
from tests.postgres.fixture import database

__all__ = ["database", "grown"]

View = Callable[[Connection, Rights], object]


def of_runs(**wanted: object) -> View:
    return lambda connection, rights: runs.matrix(connection, rights, runs.Wanted("prompt", **wanted))  # type: ignore[arg-type]


def of_group(connection: Connection, rights: Rights) -> object:
    (found,) = group.found_groups(connection, rights, "prompt", "ecal", "run-r5")
    return group.group_view(connection, found, NOW)


VIEWS: dict[str, View] = {
    "runs": of_runs(),
    "runs of a group": of_runs(search="run-r5"),
    "some runs": of_runs(search="5-9,20"),
    "runs behind others": of_runs(before=100, source="daq"),
    **{f"{state} runs": of_runs(state=state) for state in runs.STATES},
    "a group": of_group,
    "a tag": lambda connection, rights: tags.tag_view(connection, rights, "prompt", "Fit", None),
    "people": lambda connection, rights: people.people_view(connection, rights, NOW),
}


@pytest.mark.parametrize("name", VIEWS)
def test_no_view_reads_a_whole_table(grown: Growing, name: str) -> None:
    with grown.ledger.read() as connection:
        rights = rights_of(connection, Reader(frozenset({"ecal__run", "ecal__sum", "ecal__fill", "my_dag"})))
        assert rights.pairs
    with given(grown.ledger) as statements, grown.ledger.read() as connection:
        assert VIEWS[name](connection, rights)
    assert statements
    assert scans(grown.ledger, statements) == []
