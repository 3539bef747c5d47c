"""Campaigns by the form of calib_campaign, as its tasks read it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.errors import CalibError, Mistakes
from airflow_calib_provider.injection import forms
from airflow_calib_provider.ledger import campaigns, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.planning.new_campaigns import lines_of, plan_campaign
from tests import processes
from tests.cli.world import NOW, World, row

DAG_RUN = "calib_campaign manual__1"


@pytest.fixture
def filled(world: World) -> World:
    world.inject(row(2), row(3), row(4, fill=2), row(5, completed=False))
    return world


def form(**values: Any) -> dict[str, Any]:
    """As Airflow hands it over: whatever is not filled in has its default."""
    return {"name": "", "runs": "", "workflows": [], "base": "prompt", "dry_run": True, "kind": "finite", **values}


def mistakes(world: World, **values: Any) -> list[str]:
    with pytest.raises(CalibError) as caught:
        forms.check(world.ledger, world.specs, form(**values), DAG_RUN)
    found = caught.value
    return [str(one) for one in found.errors] if isinstance(found, Mistakes) else [str(found)]


def created(world: World, name: str) -> Any:
    with world.ledger.read() as connection:
        return campaigns.get(connection, name)


def test_a_dry_run_tells_the_groups_that_injection_makes(filled: World) -> None:
    values = form(name="again", runs="2-4", workflows=["demo", "third"])
    found = forms.check(filled.ledger, filled.specs, values, DAG_RUN).campaign
    assert found is not None
    plan = plan_campaign(filled.ledger, filled.specs, found, NOW)
    assert plan is not None
    lines = lines_of(plan)
    assert "demo__fill: 1 group of 2 runs (fill-r2; at most 2 runs each); 1 dropped" in lines
    assert "third__run: laser waits for Scale in 3 groups" in lines
    forms.create(filled.ledger, filled.specs, values, DAG_RUN, NOW)
    filled.take(NOW, campaign="again")
    with filled.ledger.read() as connection:
        rows = connection.execute(select(tables.run_group).where(tables.run_group.c.campaign == "again")).all()
    assert {(one.workflow, one.name, one.state) for one in rows} == {
        (*group.key[::2], group.state) for group in plan.groups
    }


def test_a_dry_run_of_a_campaign_from_the_middle_asks_its_base(filled: World) -> None:
    filled.do("run-r2", "skim")
    values = form(name="again", runs="2-4", workflows=["demo"], first_tasks=["scale"])
    found = forms.check(filled.ledger, filled.specs, values, DAG_RUN).campaign
    assert found is not None
    plan = plan_campaign(filled.ledger, filled.specs, found, NOW)
    assert plan is not None
    assert {group.grouping for group in plan.groups} == {"fill"}
    lock = plan.groups[0].locks[0]
    assert (lock.what, lock.state, lock.missing) == ("demo.skim", "shut", ((3, "not done in the base campaign"),))
    none = forms.check(filled.ledger, filled.specs, form(name="later", kind="streamed"), DAG_RUN).campaign
    assert none is not None
    assert plan_campaign(filled.ledger, filled.specs, none, NOW) is None


def test_a_form_that_is_right_says_what_it_would_be_and_writes_nothing(filled: World) -> None:
    values = form(name="again", runs="2-3\n5", max_jobs=7, overrides={"demo.backend": "local"})
    found = forms.check(filled.ledger, filled.specs, values, DAG_RUN)
    assert found.campaign is not None
    assert not found.created
    text = "\n".join(forms.plan_of(found.campaign))
    for part in (
        "finite campaign again, based on prompt",
        "3 runs of daq: 2 to 5",
        "1 are not completed (5)",
        "jobs 7",
    ):
        assert part in text
    with pytest.raises(CalibError, match="no campaign again"):
        created(filled, "again")


def test_ten_mistakes_are_told_at_once(filled: World) -> None:
    said = mistakes(
        filled,
        name="no good name",
        runs="9-4, x",
        workflows=["demmo", "demo"],
        base="nobody",
        kind="finit",
        overrides={"resources.memory": "lots"},
        order="oldest",
        max_groups=-1,
        max_jobs="many",
        prioriti=4,
    )
    text = "\n".join(said)
    assert len(said) >= 10, text
    for part in (
        "cannot name a campaign",
        "ends before it begins",
        "no workflow demmo",
        "no campaign nobody",
        "the kind is 'finit'",
        "'lots'",
        "the order is 'oldest'",
        "max_groups is -1",
        "max_jobs is 'many'",
        "no field 'prioriti'",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"runs": "2"}, "fill in name"),
        ({"name": "again"}, "fill in runs"),
        ({"name": "again", "runs": "2", "base": "again"}, "cannot be its own base"),
        ({"name": "prompt", "runs": "2"}, "exists already"),
        ({"name": "again", "runs": "77"}, "does not list 77"),
        ({"name": "again", "runs": "70-80"}, "no runs"),
        ({"name": "again", "runs": "2", "workflows": [3]}, "a list of texts"),
        ({"name": "again", "runs": "2", "priority": True}, "a whole number"),
        ({"name": "again", "runs": "2", "kind": "streamed"}, "leave out"),
        ({"name": "again", "runs": ",".join(["9" * 30] * 3400)}, "more mistakes"),
    ],
)
def test_one_mistake(filled: World, values: dict[str, Any], part: str) -> None:
    assert part in "\n".join(mistakes(filled, **values))


def test_all_runs_are_taken_only_if_a_person_says_so(filled: World) -> None:
    found = forms.check(filled.ledger, filled.specs, form(name="again", runs="All"), DAG_RUN).campaign
    assert found is not None
    assert list(found.runs) == [2, 3, 4, 5]


def test_a_retry_finds_what_was_created_and_another_dag_run_does_not(filled: World) -> None:
    values = form(name="again", runs="2-3", dry_run=False)
    first = forms.create(filled.ledger, filled.specs, values, DAG_RUN, NOW, person="anna")
    assert first.created
    assert created(filled, "again").created_by == "anna"
    for look in (forms.check, lambda *a: forms.create(*a, NOW)):
        again = look(filled.ledger, filled.specs, values, DAG_RUN)
        assert (again.created, again.campaign) == (False, None)
    with pytest.raises(CalibError, match="exists already"):
        forms.create(filled.ledger, filled.specs, values, "calib_campaign manual__2", NOW)


def test_collecting_and_streamed(filled: World) -> None:
    forms.create(filled.ledger, filled.specs, form(name="week", kind="collecting"), DAG_RUN, NOW)
    forms.create(filled.ledger, filled.specs, form(name="beam", kind="streamed"), "another", NOW)
    assert (created(filled, "week").state, created(filled, "beam").kind) == ("collecting", "streamed")


def create_in_a_process(ledger_url: str, specs: Path) -> None:
    forms.create(Ledger(ledger_url), specs, form(name="again", runs="2-3"), DAG_RUN, NOW)


def test_killed_right_after_it_has_created_it_the_retry_finds_it(filled: World, tmp_path: Path) -> None:
    crash = {"CALIB_CRASH_AT": "form.after_create@again", "CALIB_CRASH_FOLDER": str(tmp_path)}
    url = filled.ledger.url.render_as_string(hide_password=False)
    assert processes.run(create_in_a_process, url, filled.specs, **crash).returncode == -signal.SIGKILL
    again = forms.create(filled.ledger, filled.specs, form(name="again", runs="2-3"), DAG_RUN, NOW)
    assert (again.created, again.campaign) == (False, None)
    assert created(filled, "again").state == "grouping"
