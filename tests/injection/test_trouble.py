"""A grouping in trouble is its own: all else is injected."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from tests.injection.test_inject import World
from tests.ledger.making import fill, nightly, task, workflow


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path) -> World:
    return World(ledger, tmp_path)


def test_a_grouping_that_fails_for_a_reason_that_nobody_foresaw_holds_up_no_other(world: World) -> None:
    nights = workflow("ecal", task("fit", nightly()), task("skim"))
    other = workflow("muon", task("fit", fill(50)))
    world.runs(1, 2)
    world.inject(nights, other)
    group = tables.run_group
    with world.ledger.write() as connection:
        connection.execute(update(group).where(group.c.grouping == "window").values(marks={"window_end": "soon"}))
    world.runs(1, 2, 3)
    (said,) = world.inject(nights, other).errors
    assert "workflow ecal in campaign prompt: the grouping window (window) has failed: ValueError" in said
    assert world.members("run")[3] == "run-r3"
    assert world.members("fill", "muon")[3] == "fill-r1"
    assert 3 not in world.members("window")
