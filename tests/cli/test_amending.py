"""`calib group amend`: what it says, what it asks Airflow for, and that it can die anywhere (rule 51)."""

from __future__ import annotations

import random
import re
import shlex
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider import api
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.injection.bringing import bring_in
from airflow_calib_provider.ledger import editions, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.locks.base import Look
from airflow_calib_provider.ledger.waiting import look
from airflow_calib_provider.spec.loader import load_sources
from tests import processes
from tests.cli.conftest import Calib
from tests.cli.test_airflow import FakeAirflow, airflow  # noqa: F401 - airflow is a fixture
from tests.cli.world import NOW, World, late_fill, row

CLEAR = "/api/v2/dags/demo__fill/dagRuns/prompt__fill-r2/clear"
AMEND = ("group", "amend", "fill-r2", "--add", "3", "--reason", "its file came late")
ROUNDS = 30


@pytest.fixture
def late(world: World) -> World:
    """Fill 1, which is run 2, is done; run 3 has come late."""
    late_fill(world)
    world.open_dag_runs()
    world.do("run-r2", "skim")
    world.do("fill-r2", "scale")
    world.publish("fill-r2")
    return world


def to_clear(world: World) -> list[tuple[str, int]]:
    with world.ledger.read() as connection:
        return [(row.run_id, row.n) for row in editions.to_clear(connection)]


def test_late_runs_and_their_groups_are_shown(late: World, calib: Calib) -> None:
    (shown,) = [run for run in calib.json("status")["runs"] if run["run"] == 3]
    assert (shown["states"]["demo.skim"], shown["states"]["demo.deliver"]) == ("done (late)", "done (late)")
    lines = calib.json("runs", "list", "--late", "-w", "demo")
    assert {(line["run"], line["state"], line["group"]) for line in lines} == {
        (3, "grouped", "fill-r3"),
        (3, "grouped", "run-r3"),
    }
    assert {line["why"] for line in lines} == {"late: it arrived when all runs below 5 were already assigned"}
    assert {line["name"] for line in calib.json("groups", "-w", "demo") if line["late"]} == {"fill-r3", "run-r3"}
    assert calib.plain("groups", "-w", "demo").count("closed, late") == 2
    found = {line["group_name"]: line for line in calib.json("payload", "list")}
    assert {name: line["state"] for name, line in found.items()} == {"fill-r2": "published", "fill-r3": "candidate"}
    assert found["fill-r3"]["published_at"] is None


def test_what_it_says_and_asks_for(late: World, airflow: FakeAirflow, calib: Calib) -> None:  # noqa: F811
    airflow.set(CLEAR, {"state": "queued"})
    said = calib.plain(*AMEND)
    assert said.splitlines() == [
        "fill-r2 of demo: edition 2, 2 runs from 2 to 3",
        "  added: 3",
        "  groups of late runs, taken over: fill-r3",
        "  to run again: scale, deliver",
        "  cleared in Airflow: prompt__fill-r2",
    ]
    assert said in (processes.ROOT / "docs" / "late-runs.md").read_text(encoding="utf-8")
    method, path, body = airflow.asked[-1]
    assert (method, path) == ("POST", CLEAR)
    assert body == {"dry_run": False, "only_failed": False, "run_on_latest_version": True}
    (line,) = [line for line in calib.json("groups", "-w", "demo") if line["name"] == "fill-r2"]
    assert (line["state"], line["edition"], line["late"], line["tasks"]["scale"]) == ("closed", 2, False, "new")
    assert "closed, edition 2" in calib.plain("groups", "-w", "demo")
    explained = calib.plain("explain", "fill-r2", "--no-airflow")
    assert "edition 2, by " in explained
    assert "added 3 (its file came late)" in explained
    assert "edition 2 is to be processed" in explained
    listed = calib.json("runs", "list", "-w", "demo")
    (why,) = {line["why"].partition(" by ")[0] for line in listed if line["grouping"] == "fill" and line["run"] == 3}
    assert why == "added to fill-r2"
    # calib_inject, which comes a moment later, does not clear it once more.
    with late.ledger.read() as connection:
        assert [row.asked for row in editions.to_clear(connection)] == [1]
        assert editions.review(connection, datetime.now(UTC)) == editions.Review()


def test_what_is_stuck_is_shown(late: World, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALIB_AIRFLOW_URL", raising=False)
    calib.plain(*AMEND)
    with late.ledger.write() as connection:
        (stuck,) = editions.to_clear(connection)
        editions.give_up(connection, stuck)
    assert "closed, edition 2, stuck" in calib.plain("groups", "-w", "demo")
    assert [line["name"] for line in calib.json("groups", "-w", "demo") if line["stuck"]] == ["fill-r2"]


def test_the_first_run_is_that_of_the_edition(late: World, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one that the group is named by."""
    monkeypatch.delenv("CALIB_AIRFLOW_URL", raising=False)
    calib.plain(*AMEND)
    calib.plain("group", "amend", "fill-r2", "--remove", "2", "--reason", "wrong magnet current")
    (line,) = [line for line in calib.json("groups", "-w", "demo") if line["name"] == "fill-r2"]
    assert (line["first_run"], line["last_run"], line["n_runs"]) == (3, 3, 1)


def test_without_airflow_it_is_left_to_calib_inject(late: World, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALIB_AIRFLOW_URL", raising=False)
    found = calib(*AMEND)
    assert found.exit_code == 0
    assert "to be cleared in Airflow by the next calib_inject: prompt__fill-r2" in found.stdout
    assert "note: CALIB_AIRFLOW_URL is not set" in found.stderr
    assert to_clear(late) == [("prompt__fill-r2", 2)]


def test_in_json(late: World, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALIB_AIRFLOW_URL", raising=False)
    found = calib.json(*AMEND)
    assert (found["edition"], found["runs"], found["absorbed"], found["stale"]) == (
        2, [2, 3], ["fill-r3"], ["scale", "deliver"]
    )  # fmt: skip
    assert (found["first"], found["last"], found["cleared"], found["to_clear"]) == (2, 3, [], ["prompt__fill-r2"])


@pytest.fixture
def alone(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Run 3 is late everywhere, and in no group."""
    monkeypatch.delenv("CALIB_AIRFLOW_URL", raising=False)
    world.inject(row(2, lumi=12.0), row(4, fill=3))
    world.inject(row(2, lumi=12.0), row(3, lumi=12.0), row(4, fill=3))
    world.open_dag_runs()
    world.do("run-r2", "skim")
    return world


def scale(world: World) -> Look:
    key = (world.group("fill-r2").id, "scale")
    with world.ledger.read() as connection:
        return look(connection, [key])[key]


def test_what_the_added_run_lacks_is_told_with_the_way_out(alone: World, calib: Calib) -> None:
    said = calib.plain(*AMEND)
    assert "scale waits for demo.skim of 3, in no group there: late there, too, or removed" in said
    assert "say late_runs: new_group for that grouping, and bring 3 in by a backfill into prompt" in said
    (command,) = [line.strip() for line in said.splitlines() if "--remove" in line]
    assert scale(alone).state == "waiting"
    calib.plain(*shlex.split(command)[1:])
    assert scale(alone).state == "open"
    assert calib.json(*AMEND)["in_vain"] == {"scale: demo.skim": [3]}
    # The other way out.
    file = alone.specs / "demo.yaml"
    file.write_text(file.read_text().replace("group_by: run", "group_by: {run: {late_runs: new_group}}"))
    sources = load_sources(alone.specs / "sources.yaml")
    bring_in(alone.ledger, "prompt", alone.workflows["demo"], sources["daq"], [3], NOW)
    alone.do("run-r3", "skim")
    assert scale(alone).state == "open"


def test_what_is_explained_of_it_helps(alone: World, calib: Calib) -> None:
    """A group of single runs cannot be amended, and another campaign releases nothing here."""
    ask = ("explain", "3", "--workflow", "demo", "--task", "skim", "--no-airflow")
    calib.plain(*AMEND)
    (cause,) = [cause for cause in calib.json(*ask)["causes"] if cause["code"] == "late"]
    assert "amendment" not in cause["release"]
    assert "campaign create" not in cause["release"]
    assert (
        "late_runs: new_group for this grouping in the file, then a backfill of its day into prompt" in cause["release"]
    )
    (command,) = re.findall("`([^`]+)`", cause["release"])
    assert scale(alone).state == "waiting"
    calib.plain(*shlex.split(command)[1:])
    assert scale(alone).state == "open"


def test_where_nothing_is_lacked_nothing_is_told(late: World, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALIB_AIRFLOW_URL", raising=False)
    assert calib.json(*AMEND)["in_vain"] == {}


@pytest.mark.parametrize("runs", ["a", "3-", "5-4"])
def test_what_is_no_run(late: World, calib: Calib, runs: str) -> None:
    assert "write numbers and ranges" in calib.fails("group", "amend", "fill-r2", "--add", runs, "--reason", "x")


def amend(arguments: tuple[str, ...]) -> None:
    from airflow_calib_provider.cli.app import app

    app(list(arguments), standalone_mode=False)


@pytest.mark.parametrize("point", ["amend.before_commit", "amend.after_commit", "amend.after_clear"])
def test_it_may_die_at_any_time(
    late: World,
    airflow: FakeAirflow,  # noqa: F811
    calib: Calib,
    tmp_path: Path,
    point: str,
) -> None:
    airflow.set(CLEAR, {"state": "queued"})
    marks = tmp_path / "marks"
    marks.mkdir()
    crash = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)}
    assert processes.run(amend, AMEND, **crash).returncode == -signal.SIGKILL
    done = point != "amend.before_commit"
    assert late.group("fill-r2").edition == (2 if done else 1)
    assert to_clear(late) == ([("prompt__fill-r2", 2)] if done else [])
    again = calib(*AMEND)
    # Whoever does it again is told that it is done, and Airflow is asked by calib_inject.
    assert ("run 3 is in fill-r2 already" in again.stderr) == done
    assert late.group("fill-r2").edition == 2


def act(url: str, name: str, add: list[int], remove: list[int]) -> None:
    ledger = Ledger(url)
    try:
        api.amend_group(ledger, name, add=add, remove=remove, reason="so it is", person="ada", workflow="demo")
    except CalibError as error:
        print(error)
    ledger.close()


@pytest.mark.long
def test_killed_at_random_every_run_stays_in_one_place(world: World, tmp_path: Path) -> None:
    file = world.specs / "demo.yaml"
    file.write_text(file.read_text().replace("short: drop}", "short: keep, late_runs: new_group}"))
    world.inject(*(row(n, fill=n // 5) for n in range(2, 30) if n % 3))
    world.inject(*(row(n, fill=n // 5) for n in range(2, 30)))
    names = [item.name for item in world.rows(tables.run_group) if item.grouping == "fill" and item.workflow == "demo"]
    seed = random.randrange(1 << 32)
    choose, kills = random.Random(seed), 0
    url = world.ledger.url.render_as_string(hide_password=False)
    for n in range(ROUNDS):
        marks = tmp_path / str(n)
        marks.mkdir()
        point = choose.choice(["amend.before_commit", "amend.after_commit", ""])
        crash = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)} if point else {}
        name = choose.choice(names)
        # Mostly what can be: runs that were removed or are in a group of late runs, and the group's own.
        add = [choose.choice([*wanted(world), choose.randrange(2, 30)])] if choose.random() < 0.7 else []
        remove = [choose.choice([*own(world, name), 99])] if choose.random() < 0.5 else []
        kills += processes.run(act, url, name, add, remove, **crash).returncode == -signal.SIGKILL
    check(world, seed)
    assert kills, seed


def members(world: World) -> list[Any]:
    return [item for item in world.rows(tables.membership) if (item.workflow, item.grouping) == ("demo", "fill")]


def wanted(world: World) -> list[int]:
    late = {item.id for item in world.rows(tables.run_group) if item.late}
    return [item.run for item in members(world) if item.state == "removed" or item.group_id in late]


def own(world: World, name: str) -> list[int]:
    ids = {item.id for item in world.rows(tables.run_group) if item.name == name and item.workflow == "demo"}
    return [item.run for item in members(world) if item.group_id in ids]


def check(world: World, seed: int) -> None:
    """Groups, memberships and editions say the same."""
    of_group: dict[int, list[Any]] = {}
    here = members(world)
    for item in here:
        of_group.setdefault(item.group_id, []).append(item)
    assert set(Counter(item.run for item in here).values()) == {1}, seed
    assert {item.state for item in here} <= {"grouped", "removed"}, seed
    last: dict[int, Any] = {}
    for item in world.rows(tables.group_edition):
        assert item.n == last[item.group_id].n + 1 if item.group_id in last else item.n == 2, seed
        last[item.group_id] = item
    for group in world.rows(tables.run_group):
        if (group.workflow, group.grouping) != ("demo", "fill"):
            continue
        runs = sorted(item.run for item in of_group.get(group.id, ()))
        assert bool(runs) == (group.state != "dropped"), seed
        if runs:
            assert (group.lowest_run or group.first_run, group.last_run) == (runs[0], runs[-1]), seed
            assert group.amounts == {"lumi": 6.0 * len(runs)}, seed
        if group.id in last and runs:
            assert (last[group.id].n, last[group.id].runs) == (group.edition, runs), seed
