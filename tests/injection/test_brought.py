"""Late runs that a backfill brings to groupings that wait for values of theirs (rules 47, 58)."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_calib_provider.injection.bringing import bring_in
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.spec.models import Workflow
from tests.injection.test_until import Muons
from tests.ledger.making import RUN, SOURCE, enough, task, workflow


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path) -> Muons:
    return Muons(ledger, tmp_path)


def test_a_backfill_leaves_late_runs_to_injections_which_wait_for_their_values(world: Muons) -> None:
    def spec(late: str) -> Workflow:
        runs = RUN.model_copy(update={"late_runs": late})
        return workflow("muon", task("select", runs), task("scale", enough("sum.pairs >= 100.0", late_runs=late)))

    world.runs(1, 4)
    world.inject(spec("ignore"))
    for run in (1, 4):
        world.select(run, 100.0)
    world.inject(spec("ignore"))
    world.runs(1, 2, 3, 4)
    world.inject(spec("ignore"))
    assert world.members("until", "muon")[2] == "late late"
    now = spec("new_group")
    world.inject(now)
    for _ in range(2):
        brought = bring_in(world.ledger, "prompt", now, SOURCE, [2, 3], world.now)
        assert brought.undecided == {2, 3}
    assert world.inject(now).errors == []
    assert [one[0] for one in world.made()] == ["until-r1", "until-r4"]
    world.select(2, 60.0)
    world.select(3, 50.0)
    world.inject(now)
    assert world.made() == [("until-r1", "closed", [1]), ("until-r2", "closed", [2, 3]), ("until-r4", "closed", [4])]
    assert world.reason("until-r2")["values"] == {"sum.pairs": 110.0}
    assert bring_in(world.ledger, "prompt", now, SOURCE, [2, 3], world.now).undecided == set()
