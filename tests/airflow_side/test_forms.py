"""The forms of the DAGs, and how their tasks end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_calib_provider.dags.factory import build_dag
from airflow_calib_provider.dags.forms import ADVANCED, backfill_form, campaign_form
from airflow_calib_provider.hooks import ledger as hooks
from airflow_calib_provider.injection import forms
from airflow_calib_provider.ledger import campaigns
from airflow_calib_provider.operators.backfill import CollectOperator
from airflow_calib_provider.operators.campaign import CampaignOperator, CreateCampaignOperator
from airflow_calib_provider.sensors.ledger_sensor import RunGroupSensor
from tests.cli.conftest import folder, world  # noqa: F401 - fixtures
from tests.cli.world import World, row

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
    assert {field.schema.get("section") for field in fields.values()} == {None, ADVANCED}
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
