"""The forms of the DAGs, and how their tasks end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from structlog.testing import capture_logs

from airflow_calib_provider.dags.factory import build_dag
from airflow_calib_provider.dags.forms import MORE, backfill_form, campaign_form
from airflow_calib_provider.errors import CalibError, IllegalTransition, OutsideError, RunSourceError
from airflow_calib_provider.hooks import ledger as hooks
from airflow_calib_provider.hooks.told import ToldTrouble, mistakes_are_final
from airflow_calib_provider.injection import backfill, forms
from airflow_calib_provider.ledger import campaigns, engine, tables
from airflow_calib_provider.ledger.backfill_days import Day
from airflow_calib_provider.operators.backfill import CollectOperator, StartOperator
from airflow_calib_provider.operators.campaign import CampaignOperator, CreateCampaignOperator
from airflow_calib_provider.sensors.ledger_sensor import RunGroupSensor
from tests.cli.conftest import folder, world  # noqa: F401 - fixtures
from tests.cli.world import NOW, World, row

DAY = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_open", {})


def context(dag_id: str, params: dict[str, Any] | None = None, **dag_run: Any) -> Any:
    def get_dr_count(dag_id: str, run_ids: list[str] | None, states: list[str]) -> int:
        return 1

    instance = SimpleNamespace(dag_id=dag_id, run_id="manual__1", get_dr_count=get_dr_count)
    about = SimpleNamespace(run_id="manual__1", triggering_user_name="anna", **dag_run)
    return {"ti": instance, "params": params or {}, "dag_run": about}


def test_the_task_reads_the_fields_that_the_form_has() -> None:
    fields = campaign_form()
    assert set(fields) == set(forms.TYPES)
    assert set(fields["kind"].schema["enum"]) == set(forms.KINDS)
    assert tuple(fields["order"].schema["enum"]) == campaigns.ORDERS
    before = [name for name, field in fields.items() if field.schema.get("section") is None]
    assert before == ["name", "runs", "workflows", "base", "dry_run"]
    assert {field.schema.get("section") for field in fields.values()} == {None, MORE}
    assert set(backfill_form()) == {"campaign"} | set(forms.TYPES) - {"name", "runs", "dry_run", "kind"}


def test_what_is_filled_in_nowhere_is_what_the_fields_allow() -> None:
    for field in {**campaign_form(), **backfill_form()}.values():
        assert field.resolve() == field.value


def test_a_wrong_form_ends_without_another_try(world: World) -> None:  # noqa: F811
    world.inject(row(2), row(3))
    for kind in (CampaignOperator, CreateCampaignOperator):
        operator = kind(task_id="t", specs=str(world.specs))
        with pytest.raises(AirflowFailException, match="3 mistakes in the form"):
            operator.execute(
                context("calib_campaign", {"name": "no name", "runs": "7-5", "base": "x", "dry_run": False})
            )


def test_a_ledger_that_is_locked_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A mistake ends the task; what another process holds does not."""
    world.inject(row(2), row(3))
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.2)
    create = CreateCampaignOperator(task_id="create", specs=str(world.specs))
    collect = CollectOperator(task_id="collect", specs=str(world.specs))
    sensor = RunGroupSensor(task_id="wait_for_group", workflow=world.workflows["demo"])
    form = context("calib_campaign", {"name": "again", "runs": "2-3", "dry_run": False})
    days = {"data_interval_start": DAY, "data_interval_end": DAY + timedelta(days=1)}
    day = context("calib_backfill", run_type="backfill", conf={"campaign": "x", "workflows": ["demo"]}, **days)
    by_hand = context("demo__fill", {"runs": "2-3", "campaign": "mine"})
    with world.ledger.write():
        for operator, asked in ((create, form), (collect, day), (sensor, by_hand)):
            with pytest.raises(ToldTrouble, match=r"the ledger .* cannot be used"):
                operator.execute(asked)
    assert create.execute(form)["campaign"] == "again"


@pytest.mark.parametrize(
    "trouble",
    [IllegalTransition("another process was faster"), OutsideError("https://runs/ does not answer")],
    ids=["race", "service"],
)
def test_what_may_pass_is_tried_again(trouble: CalibError) -> None:
    with pytest.raises(type(trouble)), mistakes_are_final():
        raise trouble
    with pytest.raises(AirflowFailException), mistakes_are_final():
        raise RunSourceError("runs.csv:3: no number")


def test_a_run_source_whose_service_is_away_is_tried_again() -> None:
    away = RunSourceError("the run source 'daq': https://runs/ does not answer")
    away.__cause__ = OutsideError("https://runs/ does not answer")
    with pytest.raises(RunSourceError), mistakes_are_final():
        raise away


def test_what_housekeeping_starts_is_announced_and_nothing_else(world: World) -> None:  # noqa: F811
    world.inject(row(2), row(3))
    start = StartOperator(task_id="start")
    here = context("calib_housekeeping")
    here["ti"].get_dr_count, here["ti"].try_number = (lambda **_: 0), 1
    with pytest.raises(AirflowSkipException, match="no campaign has all of its days"):
        start.execute(here)
    end = world.rows(tables.run)[0].end
    day = Day("calib_backfill", "backfill__1", end - timedelta(hours=12), end + timedelta(hours=12))
    form = {"campaign": "week", "workflows": ["demo"]}

    def another(_: str, run_ids: Sequence[str] | None) -> int:
        return 2 if run_ids is None else len(run_ids)

    assert backfill.collect(world.ledger, world.specs, form, day, another, NOW).state == "collecting"
    assert start.execute(here) == {"started": ["week"]}
    with pytest.raises(AirflowSkipException):
        start.execute(here)
    here["ti"].try_number = 2
    assert start.execute(here) == {"started": []}, "a try that died may have started some: it is announced"


def test_a_dry_run_creates_nothing_and_the_other_knows_who_asked(world: World) -> None:  # noqa: F811
    world.inject(row(2), row(3))
    check = CampaignOperator(task_id="check", specs=str(world.specs))
    create = CreateCampaignOperator(task_id="create", specs=str(world.specs))
    values = {"name": "again", "runs": "2-3", "dry_run": True}
    assert check.execute(context("calib_campaign", values)) == {"campaign": "again", "runs": 2}
    with pytest.raises(AirflowSkipException):
        create.execute(context("calib_campaign", values))
    values["dry_run"] = False
    assert create.execute(context("calib_campaign", values))["campaign"] == "again"
    with world.ledger.read() as connection:
        assert campaigns.get(connection, "again").created_by == "anna"


def test_a_dag_run_by_hand_says_what_to_fill_in_or_has_a_group(world: World) -> None:  # noqa: F811
    world.inject(row(2), row(3), row(4, fill=2))
    flow = world.workflows["demo"]
    sensor = RunGroupSensor(task_id="wait_for_group", workflow=flow)
    with pytest.raises(AirflowFailException, match="fill in runs"):
        sensor.execute(context("demo__fill", {"runs": "", "campaign": None}))
    sensor.execute(context("demo__fill", {"runs": "2-3", "campaign": "mine"}))
    assert world.group("fill-r2", campaign="mine").state == "closed"
    assert list(build_dag(flow, "fill").params)[:2] == ["runs", "campaign"]


def test_each_field_of_a_form_by_hand_says_what_it_is(world: World) -> None:  # noqa: F811
    flow = world.workflows["demo"].model_copy(update={"params": {"offset": 52, "names": ["a"]}})
    params = build_dag(flow, "fill").params
    said = {name: params.get_param(name).schema.get("description_md") for name in params}
    assert list(said) == ["runs", "campaign", "offset", "names"]
    assert all(said.values())
    assert "for this DAG run only" in str(said["offset"])
    presets = {"CLD": {"layers": 44}, "CLIC": {"layers": 60}}
    flow = flow.model_copy(update={"params": {"offset": 52, "layers": 60}, "presets": presets, "preset": "CLIC"})
    params = build_dag(flow, "fill").params
    assert list(params) == ["runs", "campaign", "preset", "offset"], "what a preset sets is not filled in"
    preset = params.get_param("preset")
    assert (preset.value, preset.schema["enum"]) == ("CLIC", ["CLD", "CLIC"])


def test_the_log_of_a_dag_run_by_hand_names_its_campaign_and_its_runs(world: World) -> None:  # noqa: F811
    """Nobody filled in a name, and a range may name more runs than there are."""
    world.inject(row(2), row(3), row(4, fill=2))
    sensor = RunGroupSensor(task_id="wait_for_group", workflow=world.workflows["demo"])
    with capture_logs() as logged:
        sensor.execute(context("demo__fill", {"runs": "2-999", "campaign": ""}))
    (made,) = [item.campaign for item in world.rows(tables.run_group) if item.campaign.startswith("hand-")]
    said = [entry["event"] for entry in logged]
    assert f"open: the group fill-r2 of the campaign {made}, 3 runs from 2 to 4" in said


def test_calib_backfill_by_itself_and_by_hand(world: World) -> None:  # noqa: F811
    world.inject(row(2), row(3))
    operator = CollectOperator(task_id="collect", specs=str(world.specs))
    interval = {"data_interval_start": DAY, "data_interval_end": DAY + timedelta(days=1)}
    with pytest.raises(AirflowSkipException):
        operator.execute(context("calib_backfill", run_type="scheduled", conf={"campaign": "x"}, **interval))
    none = {"data_interval_start": None, "data_interval_end": None}
    with pytest.raises(AirflowFailException, match="choose Backfill in the dialog"):
        operator.execute(context("calib_backfill", run_type="manual", conf={"campaign": "x"}, **none))
    with pytest.raises(AirflowFailException, match="tick the box"):
        operator.execute(context("calib_backfill", run_type="backfill", conf=None, **interval))
    conf = {"campaign": "x", "workflows": ["demo"]}
    found = operator.execute(context("calib_backfill", run_type="backfill", conf=conf, **interval))
    assert found == {"campaign": "x", "runs": 0, "added": 0, "state": "collecting"}
