"""A plan says when locks opened that are asked outside, as groups of the past have waited for them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_calib_provider.domain.locks.deadlines import GO_ON, GROUP_CLOSED, Limits
from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.asking import Asker
from airflow_calib_provider.ledger.waiting import look_and_record
from airflow_calib_provider.planning.records import PlannedLock
from airflow_calib_provider.spec.models import Lock, Workflow
from tests.ledger.making import SOURCE, done, group_ids, new_ledger, task, total, workflow, write_runs
from tests.planning.test_plans import plan_of


def laser(folder: Path, **more: object) -> Lock:
    path = f"{folder}/{{{{ run.number }}}}.json"
    parameters = {"path": path, "what": path, "stable_for": 0, "every": 0, "each_run": True}
    return Lock(kind="file", parameters={**parameters, **more})


def flow(lock: Lock, lumi: float = 40) -> Workflow:
    return workflow("ecal", task("fit", total(lumi)).model_copy(update={"locks": (lock,)}))


class Site:
    """A ledger with groups of two runs each, whose task waits for a file of each run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ledger = folder, new_ledger(folder)
        write_runs(folder / "runs.csv", [{"number": number} for number in range(1, 9)])

    def take(self, spec: Workflow) -> None:
        inject(self.ledger, {"ecal": spec}, {"daq": SOURCE}, self.folder, now=datetime.now(UTC))
        self.keys = [(number, "fit") for number in group_ids(self.ledger, "sum").values()]

    def look(self) -> None:
        asker = Asker(self.ledger)
        asker.start(self.keys)
        asker.finish(20)
        look_and_record(self.ledger, self.keys)

    def come(self, *runs: int) -> None:
        for run in runs:
            (self.folder / f"{run}.json").write_text("1")

    def planned(self, spec: Workflow) -> dict[str, PlannedLock]:
        plan = plan_of({"ecal": spec}, self.folder, self.ledger, now=datetime.now(UTC))
        return {group.name: group.locks[0] for group in plan.groups}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.ledger.close()


def states(found: dict[str, PlannedLock]) -> dict[str, tuple[str, str]]:
    return {name: (one.state, one.basis) for name, one in found.items()}


def test_it_opened_when_its_group_waited_for_it_no_more(site: Site) -> None:
    spec = flow(laser(site.folder))
    site.come(1, 2)
    site.take(spec)
    site.look()
    site.come(3, 4)
    began = datetime.now(UTC)
    site.look()
    done(site.ledger, site.keys[0][0], "fit")
    found = site.planned(spec)
    assert states(found) == {
        "sum-r1": ("opens", "recorded"),
        "sum-r3": ("opens", "recorded"),
        "sum-r5": ("shut", "recorded"),
        "sum-r7": ("shut", "recorded"),
    }
    assert found["sum-r1"].shut_for == timedelta(), "it never waited for it"
    opened = found["sum-r3"].opens_at
    assert opened is not None
    assert began <= opened <= datetime.now(UTC)
    assert found["sum-r5"].why == "its group waits for it still"
    # Of other files, or of runs that are grouped otherwise, nobody knows.
    for other in (flow(laser(site.folder, stable_for=60)), flow(laser(site.folder), 60)):
        assert states(site.planned(other))["sum-r1"] == ("unknown", "planned")


def test_what_was_gone_on_without_has_not_opened(site: Site) -> None:
    lock = laser(site.folder).model_copy(
        update={"limits": dict(Limits(timedelta(hours=1), GROUP_CLOSED, GO_ON).as_json())}
    )
    spec = flow(lock)
    site.take(spec)
    site.look()
    group = tables.run_group
    with site.ledger.write() as connection:
        closed = group.update().where(group.c.id == site.keys[1][0])
        connection.execute(closed.values(closed_at=datetime.now(UTC) - timedelta(hours=2)))
        # The events of the wait are an hour old, too.
        event = tables.event
        old = event.c.entity == "group_task"
        for row in connection.execute(event.select().where(old)).all():
            data = row.data
            if (data.get("reason") or {}).get("deadline"):
                at = datetime.fromisoformat(data["reason"]["deadline"]["at"]) - timedelta(hours=2)
                data["reason"]["deadline"]["at"] = at.isoformat()
                connection.execute(event.update().where(event.c.id == row.id).values(data=data))
    site.look()
    found = site.planned(spec)["sum-r3"]
    assert (found.state, found.basis, found.why) == ("shut", "recorded", "its deadline passed while it was shut")
