"""Edits of files whose groups wait for values (rules 11, 47)."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import delete

from airflow_calib_provider.domain.group_words import why_closed
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from tests.injection.test_until import Muons, flow
from tests.ledger.making import counted, done, enough, task, workflow


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path) -> Muons:
    return Muons(ledger, tmp_path)


def test_an_edit_of_the_condition_holds_for_a_forming_group_only_if_it_is_on_other_values(world: Muons) -> None:
    world.runs(*range(1, 5))
    world.inject(flow())
    world.select(1, 60.0)
    world.inject(flow())
    world.select(2, 60.0)
    world.inject(flow("sum.pairs >= 1000.0 && count >= 2"))
    assert world.made() == [("until-r1", "closed", [1, 2])], "it keeps its own"
    world.select(3, 10.0)
    world.inject(flow())
    done(world.ledger, world.group(4), "select", {"muons": 7.0})
    world.inject(flow())
    assert world.made()[-1] == ("until-r3", "forming", [3]), "nobody reports pairs any more"
    world.inject(flow("sum.muons >= 5.0"))
    assert world.made()[-1] == ("until-r3", "closed", [3, 4])


def test_a_forming_group_ends_when_its_task_goes_and_the_grouping_is_of_another_kind(world: Muons) -> None:
    """Of values that nobody reports any more it could never have enough."""
    world.runs(*range(1, 6))
    world.inject(flow())
    world.select(1, 60.0)
    world.inject(flow())
    counted_now = counted(2).model_copy(update={"label": "until"})
    stays = workflow("muon", task("skim"), task("select"), task("scale", counted_now))
    world.inject(stays)
    assert world.made() == [("until-r1", "forming", [1])], "its values are still to come"
    (cause,) = [one for one in world.why(2, stays).causes if one.code == "value_awaited"]
    assert "the values of run 2 are not known: muon.select" in cause.text
    world.inject(workflow("muon", task("skim"), task("scale", counted_now)))
    assert world.made() == [
        ("until-r1", "closed", [1]), ("until-r2", "closed", [2, 3]), ("until-r4", "closed", [4, 5]),
    ]  # fmt: skip
    said = why_closed(world.reason("until-r1"))
    assert said == "nobody reports its values any more: select is no task of each run"


def test_a_task_that_the_file_has_no_more_holds_nobody(world: Muons) -> None:
    world.runs(1, 2, 3)
    world.inject(flow())
    world.select(1, 60.0)
    world.inject(flow())
    with world.ledger.write() as connection:
        connection.execute(delete(tables.value))
    world.inject(workflow("muon", task("skim"), task("other"), task("scale", enough("sum.n >= 5.0", of="other"))))
    assert world.made() == [("until-r1", "forming", [1])]
