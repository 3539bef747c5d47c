"""Campaigns with values of their own, from the middle, and with a spec of their own; and what is shown of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert, select

from airflow_calib_provider.errors import NotOpen
from airflow_calib_provider.jobsets.begin import Begun, begin
from airflow_calib_provider.jobsets.publish import publish_group
from airflow_calib_provider.ledger import generations, groups, openings, tables
from airflow_calib_provider.ledger.waiting import look
from tests.cli.conftest import Calib
from tests.cli.world import DEMO, NOW, OTHER, SOURCES, World, row

PARAMS = """\
params: {window: 3, scale: 1.5, label: "a b", loud: false, cuts: [1, 2]}
"""
WIDE = DEMO.replace("tasks:\n", f"{PARAMS}tasks:\n").replace(
    'command: [echo, "{{ run.number }}"', 'command: [echo, "{{ params.window }} {{ params.label }}", "{{ run.number }}"'
)
CREATE = ("campaign", "create", "again", "--source", "daq", "--workflow", "demo")


@pytest.fixture
def wide(world: World) -> World:
    (world.specs / "demo.yaml").write_text(WIDE)
    world.inject(row(2), row(3), row(4, fill=2))
    return world


def begun(world: World, name: str, task: str, campaign: str = "again", **params: Any) -> Begun:
    """What a task's operator does, with the params that Airflow fills in from the DAG."""
    flow = world.workflows["demo"]
    group = world.group(name, campaign=campaign)
    given = {**flow.params, **params}
    return begin(world.ledger, flow, flow.tasks[task], group.id, max_tries=8, dag_run_id="d", now=NOW, params=given)


def generation(world: World, one: Begun) -> Any:
    with world.ledger.read() as connection:
        return generations.by_id(connection, one.generation_id)


def command(world: World, one: Begun) -> Any:
    table = tables.job
    query = select(table.c.definition).where(table.c.generation_id == one.generation_id, table.c.job_index == 0)
    with world.ledger.read() as connection:
        return connection.execute(query).scalar_one()


def codes(calib: Calib, *ask: str) -> dict[str, str]:
    return {cause["code"]: cause["release"] for cause in calib.json("explain", *ask, "--no-airflow")["causes"]}


def test_values_of_its_own(wide: World, calib: Calib) -> None:
    calib.plain(
        *CREATE, "--set", "window=4", "--set", "demo.label=c = d", "--set", "resources.memory=4GB", "--set", "cuts=[3]"
    )
    wide.inject()
    mine, theirs = begun(wide, "run-r2", "skim"), begun(wide, "run-r2", "skim", "prompt")
    assert command(wide, mine)["command"][1] == "4 c = d"
    assert command(wide, theirs)["command"][1] == "3 a b"
    assert command(wide, mine)["memory"] == 4_000_000_000
    assert generation(wide, mine).definitions_hash != generation(wide, theirs).definitions_hash
    stated = begun(wide, "run-r3", "skim", window=9)
    assert command(wide, stated)["command"][1] == "9 c = d", "what the DAG run sets comes first"
    shown = calib.json("campaign", "show", "again")
    assert shown["overrides"] == {
        "demo": {"params.window": 4, "params.label": "c = d", "resources.memory": "4GB", "params.cuts": [3]}
    }
    assert "demo.window = 4" in calib.plain("campaign", "show", "again")


def test_another_backend(wide: World, calib: Calib) -> None:
    """With what the file's defaults say of it."""
    file = wide.specs / "demo.yaml"
    file.write_text(WIDE.replace("defaults: {retries: 1}", "defaults: {retries: 1, condor: {accounting_group: higgs}}"))
    wide.inject()
    calib.plain(*CREATE, "--set", "backend=condor:cern")
    wide.inject()
    mine, theirs = (
        generation(wide, begun(wide, "run-r2", "skim")),
        generation(wide, begun(wide, "run-r2", "skim", "prompt")),
    )
    assert (mine.backend, mine.options["accounting_group"]) == ("condor:cern", "higgs")
    assert theirs.backend == "local"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("windw=4", "windw: not a parameter of demo; did you mean 'window'?"),
        ("demo.scal=4", "did you mean 'scale'?"),
        ("other.window=4", "other.window: not a parameter of demo"),
        ("window=four", "window: 'four' is no whole number, as the declared 3 is"),
        ("window=4.5", "is no whole number"),
        ("loud=1", "is no truth value"),
        ("cuts=3", "is no list"),
        ('cuts=["a"]', "is no whole number, of which the list"),
        ("scale=1e999", "is no number"),
        ("backend=slurm", "slurm"),
        ("resources.memory=lots", "lots"),
        ("resources.cpus=0", "cpus is 0"),
        ("resources.memry=1GB", "did you mean 'resources.memory'?"),
    ],
)
def test_values_that_cannot_be_meant(wide: World, calib: Calib, given: str, message: str) -> None:
    assert message in re.sub(r"\s+", " ", calib.fails(*CREATE, "--set", given))
    assert len(calib.json("campaign", "list")) == 1


def test_all_mistakes_at_once(wide: World, calib: Calib) -> None:
    told = calib.fails(
        "campaign", "create", "a b", "--source", "daq", "--runs", "2,77,x", "--base", "promt", "--workflow", "dmo",
        "--workflow", "demo", "--set", "window=x", "--order", "up", "--max-jobs", "-1",
    )  # fmt: skip
    said = re.sub(r"\s+", " ", told)
    for part in (
        "mistakes in the campaign 'a b': nothing was done", "cannot name a campaign", "did you mean 'prompt'",
        "no workflow dmo", "'x' is neither a run", "window: 'x' is no whole number", "max_jobs is -1",
        "the order is 'up'",
    ):  # fmt: skip
        assert part in said, part
    assert len(calib.json("campaign", "list")) == 1
    assert "cannot be its own base" in calib.fails(*CREATE, "--base", "again")
    once = calib.fails(*CREATE, "--set", "resources.memory=lots", "--set", "backend=condr")
    assert (once.count("'lots'"), once.count("'condr'")) == (1, 1), "though the workflow has several tasks"


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (("--source", "daq", "--workflow", "dmo"), "has no workflow dmo"),
        (("--workflow", "dmo"), "has no workflow dmo"),
        (("--workflow", "dmo", "--workflow", "third"), "has no workflow dmo"),
        (("--source", "dqa"), "has no run source dqa"),
    ],
)
def test_what_follows_from_a_wrong_name_is_not_told(
    wide: World, calib: Calib, given: tuple[str, ...], cause: str
) -> None:
    """The parameters and tasks of what is not there are nobody's mistake."""
    settings = ("--set", "window=4", "--set", "demo.scale=2", "--from", "scale")
    said = re.sub(r"\s+", " ", calib.fails("campaign", "create", "again", *given, *settings))
    assert cause in said
    assert "mistakes in" not in said, said
    assert "2 mistakes" in calib.fails(*CREATE, "--set", "windw=4", "--from", "scal"), "else they are"


def test_the_only_run_source_is_found(wide: World, calib: Calib) -> None:
    made = calib.json("campaign", "create", "again", "--workflow", "demo", "--runs", "2-3")
    assert (made["source"], made["runs"], list(made["workflows"])) == ("daq", [2, 3], ["demo"])
    wide.inject()
    lines = calib.json("runs", "list", "-c", "again", "-w", "demo")
    assert {line["run"] for line in lines if line["state"] == "grouped"} == {2, 3}
    assert calib.json("campaign", "create", "all")["source"] == "daq"
    # With another source of another workflow it is still the one of the workflow that is named.
    _, _, daq = SOURCES.partition("sources:\n")
    (wide.specs / "sources.yaml").write_text(SOURCES + daq.replace("daq:", "mc:"))
    (wide.specs / "other.yaml").write_text(OTHER.replace("source: daq", "source: mc"))
    assert calib.json("campaign", "create", "named", "--workflow", "demo")["source"] == "daq"
    told = re.sub(r"\s+", " ", calib.fails("campaign", "create", "any"))
    assert "needs a run source" in told
    assert "name it with --source (daq, mc)" in told
    assert calib.json("campaign", "create", "week", "--collecting")["source"] is None


def test_it_begins_in_the_middle(wide: World, calib: Calib) -> None:
    made = calib.json(*CREATE, "--runs", "2-3", "--from", "scale")
    assert (made["base"], made["first_tasks"]) == ("prompt", {"demo": ["scale"]})
    wide.inject()
    group = wide.group("fill-r2", campaign="again")
    with wide.ledger.read() as connection:
        assert [item.task for item in groups_tasks(connection, "again")] == ["scale", "deliver"]
        assert look(connection, [(group.id, "scale")])[group.id, "scale"].state == "waiting"
    assert "needs" in codes(calib, "fill-r2", "-c", "again", "-w", "demo")
    with pytest.raises(NotOpen):
        begun(wide, "fill-r2", "scale")
    ids = [wide.do(f"run-r{number}", "skim") for number in (2, 3)]
    wide.inject()
    with wide.ledger.read() as connection:
        asked = connection.execute(select(tables.dag_run_request.c.run_id)).scalars().all()
        assert "again__fill-r2" in asked
    mine = generation(wide, begun(wide, "fill-r2", "scale"))
    assert mine.used["generations"] == {"demo.skim": ids}
    assert "not run: skim" in calib.plain("campaign", "show", "again")
    about = calib.json("explain", "2", "-c", "again", "--no-airflow")["causes"]
    assert {cause["group"] for cause in about} == {"fill-r2"}, "nothing is said of a grouping or workflow that it lacks"


def groups_tasks(connection: Any, campaign: str) -> Any:
    table = tables.group_task
    query = select(table.c.task).join(tables.run_group, tables.run_group.c.id == table.c.group_id)
    return connection.execute(query.where(tables.run_group.c.campaign == campaign).order_by(table.c.position)).all()


def test_what_is_published_says_what_was_set_and_taken(wide: World, calib: Calib) -> None:
    calib.plain(*CREATE, "--runs", "2-3", "--from", "deliver", "--set", "window=5")
    for number in (2, 3):
        wide.do(f"run-r{number}", "skim")
    made = wide.do("fill-r2", "scale")
    product = {"generation_id": made, "step": 0, "job_index": 0, "name": "constants", "file": "constants.json"}
    with wide.ledger.write() as connection:
        connection.execute(insert(tables.product).values(**product))
    wide.inject()
    flow = wide.workflows["demo"]
    group = wide.group("fill-r2", campaign="again")
    published = publish_group(wide.ledger, flow, flow.tasks["deliver"], group.id, now=NOW, params=dict(flow.params))
    assert published.new
    table = tables.payload
    with wide.ledger.read() as connection:
        provenance = connection.execute(select(table.c.provenance).where(table.c.campaign == "again")).scalar_one()
    assert provenance["overrides"] == {"params.window": 5}
    assert (provenance["first_tasks"], provenance["base_campaign"]) == (["deliver"], "prompt")
    assert [item["task"] for item in provenance["made_by"]] == ["scale"]


def test_in_the_middle_nothing_opens_only_to_be_seen(wide: World, calib: Calib) -> None:
    calib.plain(*CREATE, "--runs", "2-3", "--from", "scale")
    wide.inject()
    with wide.ledger.write() as connection:
        openings.plan(connection, NOW)
        asked = connection.execute(select(tables.dag_run_request.c.run_id)).scalars().all()
    assert not [name for name in asked if name.startswith("again")]


def test_a_finite_campaign_runs_its_own_version(wide: World, calib: Calib) -> None:
    calib.plain(*CREATE, "--runs", "2-4")
    wide.inject()
    file = wide.specs / "demo.yaml"
    file.write_text(WIDE.replace("window: 3", "window: 7"))
    wide.inject()
    assert command(wide, begun(wide, "run-r2", "skim"))["command"][1] == "3 a b"
    assert command(wide, begun(wide, "run-r2", "skim", "prompt"))["command"][1] == "7 a b"
    assert codes(calib, "run-r3", "-c", "again", "-w", "demo").keys().isdisjoint({"spec_changed"})
    told = calib.json("campaign", "update", "again")
    assert told["updated"] == ["demo"]
    wide.inject()
    assert command(wide, begun(wide, "run-r3", "skim"))["command"][1] == "7 a b"
    assert calib.json("campaign", "update", "again")["updated"] == []


def test_other_tasks_than_the_dag_has_wait_for_an_update(wide: World, calib: Calib) -> None:
    calib.plain(*CREATE, "--runs", "2-4", "--max-groups", "1")
    wide.inject()
    file = wide.specs / "demo.yaml"
    more = "  extra:\n    group_by: run\n    jobs: {command: [echo, more]}\n"
    file.write_text(WIDE + more)
    wide.inject()
    found = codes(calib, "run-r3", "-c", "again", "-w", "demo")
    assert "`calib campaign update again`" in found["spec_changed"]
    assert "the task extra is new" in calib.plain("campaign", "show", "again")
    with pytest.raises(NotOpen, match="does not fit the DAG any more: the task extra is new"):
        begun(wide, "run-r2", "skim")
    file.write_text(WIDE)
    wide.inject()
    assert "spec_changed" not in codes(calib, "run-r3", "-c", "again", "-w", "demo")
    file.write_text(WIDE + more)
    wide.inject()
    assert calib.json("campaign", "update", "again")["updated"] == ["demo"]
    wide.inject()
    assert "spec_changed" not in codes(calib, "run-r3", "-c", "again", "-w", "demo")
    assert begun(wide, "run-r2", "extra").state == "running"


def test_an_update_that_does_not_fit_changes_nothing(wide: World, calib: Calib) -> None:
    calib.plain(*CREATE, "--runs", "2-4", "--set", "window=4", "--from", "scale")
    (wide.specs / "demo.yaml").write_text(
        DEMO.replace("scale:", "calibrate:").replace("scale.", "calibrate.").replace("[scale]", "[calibrate]")
    )
    before = calib.json("campaign", "show", "again")
    said = re.sub(r"\s+", " ", calib.fails("campaign", "update", "again"))
    assert "has no parameter window any more" in said
    assert "has no task scale any more" in said
    assert before == calib.json("campaign", "show", "again")
    assert "follows the files" in calib.fails("campaign", "update", "prompt")


def test_how_far_it_is(wide: World, calib: Calib) -> None:
    calib.plain(*CREATE, "--runs", "2-4", "--max-jobs", "50")
    empty = calib.plain("campaign", "show", "again")
    assert "it has no groups yet" in empty
    wide.inject()
    now = datetime.now(UTC)  # NOW is of some time ago where many tests ran before
    with wide.ledger.write() as connection:
        one = groups.find_group(connection, "again", "demo", "run-r2")
        groups.set_task_states(connection, one.id, "processing", None, now, task="skim")
        groups.set_task_states(connection, one.id, "done", None, now, task="skim")
    shown = calib.json("campaign", "show", "again")
    (skim,) = [item for item in shown["tasks"] if item["task"] == "skim"]
    assert (skim["states"], skim["ended"], skim["total"]) == ({"done": 1, "new": 2}, 1, 3)
    assert (shown["state"], shown["n_runs"], shown["max_jobs"]) == ("open", 3, 50)
    assert shown["expected_end"] is not None
    text = calib.plain("campaign", "show", "again")
    assert "[######..............]  33 %" in text
    assert "0 of at most 50" in text
    assert "no campaign agan" in calib.fails("campaign", "show", "agan")


def test_what_has_no_other_tasks_of_a_base_asks_there(wide: World, calib: Calib) -> None:
    """A workflow that the campaign does not have is its base's."""
    calib.plain("campaign", "create", "laser", "--source", "daq", "--workflow", "third", "--base", "prompt")
    wide.inject()
    group = wide.group("run-r2", "third", "laser")
    with wide.ledger.read() as connection:
        seen = look(connection, [(group.id, "never")])[group.id, "never"]
    assert seen.reason is not None
    assert seen.reason["code"] == "needs_selected_none", "what prompt's other.check selected"


def test_steering(wide: World, calib: Calib) -> None:
    assert calib.json(*CREATE, "--runs", "2-3", "--order", "newest", "--priority", "3")["runs"] == [2, 3]
    assert "paused" in calib.plain("campaign", "pause", "again")
    assert "nothing was changed" in calib.plain("campaign", "pause", "again")
    assert calib.json("campaign", "resume", "again") == {
        "campaign": "again", "before": "paused", "state": "grouping", "changed": True,
    }  # fmt: skip
    assert calib.json("campaign", "set", "again", "--max-groups", "5", "--priority", "2") == {
        "campaign": "again", "priority": 2, "max_groups": 5, "max_jobs": None,
    }  # fmt: skip
    assert "nothing to change" in calib.fails("campaign", "set", "again", code=2)
    assert "--yes" in calib.fails("campaign", "cancel", "again")
    assert "there is no campaign agian" in calib.fails("campaign", "cancel", "agian")
    assert "cancelled" in calib.plain("campaign", "cancel", "again", "--yes", "--reason", "wrong")
    assert "cancelled" in calib.fails("campaign", "resume", "again")
    assert calib.json("campaign", "create", "week", "--collecting", "--source", "daq")["runs"] == []
    assert "week: 2; it has 2 now" in calib.plain("campaign", "add", "week", "--source", "daq", "--runs", "2-3")
    assert "does not list 99" in calib.fails("campaign", "add", "week", "--source", "daq", "--runs", "99")
    assert calib.json("campaign", "start", "week")["state"] == "grouping"
    assert "sets nothing" in calib.fails(*CREATE, "--set", "window", code=2)
