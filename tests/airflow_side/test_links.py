"""From a task to why it waits or has failed, and what the events of its assets say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from sqlalchemy import update

from airflow_calib_provider.dags.factory import build_dag
from airflow_calib_provider.hooks import ledger as hooks
from airflow_calib_provider.hooks.assets import as_ranges, tell_assets
from airflow_calib_provider.hooks.links import AwaitedLink, SpecLink
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.operators.jobs import JobsOperator
from airflow_calib_provider.operators.publish import PublishOperator
from airflow_calib_provider.sensors.ledger_sensor import LockSensor
from airflow_calib_provider.spec.language import RUNS_ASSET
from tests.cli.conftest import folder, world  # noqa: F401 - fixtures
from tests.cli.world import World, row
from tests.ledger.making import enough, task, workflow


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_open", {})


def here(dag_id: str, run_id: str, **more: Any) -> Any:
    return SimpleNamespace(dag_id=dag_id, run_id=run_id, **more)


def link(world: World, operator: Any, dag_id: str, run_id: str) -> str:  # noqa: F811
    return AwaitedLink().get_link(operator, ti_key=here(dag_id, run_id))


@pytest.fixture
def summed(world: World) -> World:  # noqa: F811
    """A closed fill of two runs, of which one is done."""
    world.inject(row(2), row(3), row(4, fill=2))
    world.open_dag_runs()
    world.do("run-r2", "skim")
    world.inject()
    world.open_dag_runs()
    return world


def test_a_lock_leads_to_the_first_run_that_is_missing(summed: World) -> None:
    sensor = LockSensor(task_id="scale.locks", workflow=summed.workflows["demo"], task="scale")
    assert link(summed, sensor, "demo__fill", "prompt__fill-r2") == "/dags/demo__run/runs/prompt__run-r3/tasks/skim"
    summed.do("run-r3", "skim")
    assert link(summed, sensor, "demo__fill", "prompt__fill-r2") == "", "nothing is waited for any more"


def test_a_run_that_has_failed_comes_before_one_that_is_merely_missing(world: World) -> None:  # noqa: F811
    world.inject(row(2), row(3), row(4, fill=2))
    world.open_dag_runs()
    task = tables.group_task
    with world.ledger.write() as connection:
        mine = (task.c.group_id == world.group("run-r3").id, task.c.task == "skim")
        connection.execute(update(task).where(*mine).values(state="failed"))
    sensor = LockSensor(task_id="scale.locks", workflow=world.workflows["demo"], task="scale")
    assert link(world, sensor, "demo__fill", "prompt__fill-r2") == "/dags/demo__run/runs/prompt__run-r3/tasks/skim"


def test_a_group_without_a_dag_run_leads_to_its_dag(summed: World) -> None:
    group = summed.group("run-r3")
    with summed.ledger.write() as connection:
        request = tables.dag_run_request
        connection.execute(update(request).where(request.c.group_id == group.id).values(state="wanted"))
    sensor = LockSensor(task_id="scale.locks", workflow=summed.workflows["demo"], task="scale")
    assert link(summed, sensor, "demo__fill", "prompt__fill-r2") == "/dags/demo__run"


def test_a_task_that_began_too_early_leads_to_what_it_needs(summed: World) -> None:
    operator = PublishOperator(task_id="deliver", workflow=summed.workflows["demo"], task="deliver")
    reason = {"code": "not_open", "reason": {"code": "upstream_not_done", "tasks": [["scale", "waiting"]]}}
    task = tables.group_task
    with summed.ledger.write() as connection:
        mine = (task.c.group_id == summed.group("fill-r2").id, task.c.task == "deliver")
        connection.execute(update(task).where(*mine).values(reason=reason))
    found = link(summed, operator, "demo__fill", "prompt__fill-r2")
    assert found == "/dags/demo__fill/runs/prompt__fill-r2/tasks/scale"


def test_what_belongs_to_no_group_leads_nowhere(summed: World) -> None:
    sensor = LockSensor(task_id="scale.locks", workflow=summed.workflows["demo"], task="scale")
    assert link(summed, sensor, "demo__fill", "manual__1") == ""


class Bundle:
    version = "c0ffee"

    def __init__(self, template: str | None) -> None:
        self.template = template

    def view_url_template(self) -> str | None:
        return self.template


@pytest.mark.parametrize(
    ("template", "found"),
    [("https://git.example.org/x/tree/{version}/dags", "https://git.example.org/x/tree/c0ffee/dags"),
     (None, "/dags/demo__run")],
)  # fmt: skip
def test_the_yaml_is_a_click_away(world: World, template: str | None, found: str) -> None:  # noqa: F811
    operator = JobsOperator(task_id="skim", workflow=world.workflows["demo"], task="skim")
    told = here("demo__run", "prompt__run-r2", bundle_instance=Bundle(template))
    assert SpecLink().get_link(operator, ti_key=told) == found


def test_the_events_of_assets_have_the_facts_of_the_group(summed: World) -> None:
    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import OutletEventAccessors

    asset = Asset(name="payload Scale", uri="calib://payload/Scale")
    events = OutletEventAccessors()
    with DAG("demo__fill", schedule=None):
        operator = PublishOperator(
            task_id="deliver", workflow=summed.workflows["demo"], task="deliver", outlets=[asset]
        )
    more = {"tag": "Scale", "iov": "[2, 3]", "revision": 2}
    tell_assets(operator, {"outlet_events": events}, summed.ledger, summed.group("fill-r2").id, more)  # type: ignore[arg-type, typeddict-item]
    extra = events[asset].extra
    assert extra.items() >= {"campaign": "prompt", "group": "fill-r2", "runs": "2-3", "n_runs": 2, **more}.items()
    assert (extra["first_run"], extra["last_run"]) == (2, 3)
    # Of an amended group it is that of its edition.
    with summed.ledger.write() as connection:
        connection.execute(update(tables.run_group).where(tables.run_group.c.name == "fill-r2").values(lowest_run=3))
    tell_assets(operator, {"outlet_events": events}, summed.ledger, summed.group("fill-r2").id, more)  # type: ignore[arg-type, typeddict-item]
    assert events[asset].extra["first_run"] == 3


def test_a_task_whose_values_a_grouping_waits_for_announces_them() -> None:
    flow = workflow("muon", task("skim"), task("select"), task("scale", enough("sum.pairs >= 100.0")))
    of_runs, of_groups = build_dag(flow, "run"), build_dag(flow, "until")
    told = {
        name: [asset.uri for asset in dag.get_task(name).outlets]
        for dag, name in ((of_runs, "skim"), (of_runs, "select"), (of_groups, "scale"))
    }
    assert {name for name, uris in told.items() if RUNS_ASSET in {uri.rstrip("/") for uri in uris}} == {"select"}


@pytest.mark.parametrize(("numbers", "found"), [([], []), ([5], ["5"]), ([1, 2, 3, 7, 9, 10], ["1-3", "7", "9-10"])])
def test_runs_are_ranges(numbers: list[int], found: list[str]) -> None:
    assert as_ranges(numbers) == found
