"""``calib spec plan`` as people and programs use it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from airflow_calib_provider.ledger import tables
from tests.cli.conftest import Calib
from tests.cli.world import DEMO, World, row


@pytest.fixture
def listed(world: World) -> World:
    """No ledger, and a source with eight runs in two fills."""
    world.runs(*(row(number, fill=number // 4) for number in range(2, 10)))
    world.ledger.file.unlink()
    return world


def events(world: World) -> int:
    with world.ledger.read() as connection:
        return int(connection.execute(select(func.count()).select_from(tables.event)).scalar_one())


def test_over_the_past_of_the_ledger(busy: World, calib: Calib) -> None:
    before = events(busy)
    found = calib.json("spec", "plan", "-w", "demo", "-w", "third")
    assert events(busy) == before
    assert [(one["source"], one["basis"], one["n"]) for one in found["runs"]] == [("daq", "ledger", 7)]
    with busy.ledger.read() as connection:
        rows = connection.execute(
            select(tables.run_group).where(tables.run_group.c.workflow.in_(["demo", "third"]))
        ).all()
    assert {(one["workflow"], one["group"], one["state"], one["opened_at"]) for one in found["groups"]} == {
        (one.workflow, one.name, one.state, one.opened_at.isoformat()) for one in rows
    }
    locks = {
        (one["group"], lock["waits_for"]): (lock["state"], lock["known_from"])
        for one in found["groups"]
        for lock in one["locks"]
    }
    assert locks["fill-r2", "demo.skim"] == ("opens", "recorded")
    assert locks["fill-r4", "demo.skim"] == ("opens", "mixed")
    assert locks["run-r3", "Scale"] == ("opens", "recorded")
    assert found["groupings"][0]["runs"] == {"grouped": 5, "not_selected": 1}
    assert found["groupings"][0]["left_out"][0]["run"] == 7


def test_its_table(busy: World, calib: Calib) -> None:
    said = calib.plain("spec", "plan", "--groups", "2")
    assert "7 runs of daq (2–8), as the ledger learnt of them; until" in said
    assert "the newest 2 of 14 groups: --groups 0 shows all" in said
    assert "every run is a group" in said
    assert "known from: recorded: " in said
    assert "run 4 is of a later fill" in calib.plain("spec", "plan", "--groups", "0", "-w", "demo")


def test_deadlines_of_locks(listed: World, calib: Calib, tmp_path: Path) -> None:
    limited = "{payload: {tag: Nobody}, at_most: 2h, then: %s}"
    for name, then in (("waits", "go_on"), ("fails", "fail")):
        text = f"""apiVersion: calib/v1
workflow: {name}
runs: {{source: daq, since: 1}}
tasks:
  fit: {{group_by: run, locks: [{limited % then}], jobs: {{command: [sh, -c, "true"]}}, products: {{c: c.txt}}}}
"""
        (listed.specs / f"{name}.yaml").write_text(text)
    said = calib.plain("spec", "plan", "-w", "waits", "-w", "fails")
    assert "deadline passes" in said
    (line,) = [one for one in said.splitlines() if one.lstrip().startswith("waits.fit")]
    assert re.search(r"Nobody +8 +2h +2h \(run-r\d\) +8 × goes on +0 +0 +0", line), line
    assert "8 × fails" in said
    assert "fit on Nobody: 2h, then goes on" in said
    group = calib.json("spec", "plan", "-w", "waits")["groups"][0]
    (lock,) = group["locks"]
    assert (lock["state"], lock["shut_seconds"], lock["deadline"]["then"]) == ("overdue", 7200.0, "go_on")
    assert lock["deadline"]["passed"] is True
    assert lock["deadline"]["at"] > group["closed_at"]
    file = tmp_path / "plan.svg"
    calib.plain("spec", "plan", "-w", "waits", "--plot", str(file))
    assert "its deadline passes" in file.read_text()
    assert "deadline passes" not in calib.plain("spec", "plan", "-w", "demo")


def test_without_a_ledger_the_sources_are_read(listed: World, calib: Calib) -> None:
    result = calib("spec", "plan")
    assert (result.exit_code, result.stderr) == (0, "there is no ledger: the run sources are read\n")
    assert "8 runs of daq (2–9), as their source lists them: from their start on" in result.stdout
    assert "there is no ledger at" in calib.fails("spec", "plan", "--runs-from", "ledger")
    assert not (listed.folder / "calib" / "ledger.db").exists()


def test_a_campaign_to_be(listed: World, calib: Calib) -> None:
    found = calib.json("spec", "plan", "--finite", "--runs", "4-6", "-w", "demo", "--runs-from", "source")
    assert [(one["group"], one["runs"], one["why"]) for one in found["groups"] if one["grouping"] == "fill"] == [
        ("fill-r4", [4, 5, 6], "the last fill: no run follows")
    ]
    assert found["runs"][0]["basis"] == "campaign"


def test_against_a_commit(listed: World, calib: Calib, checkout: None) -> None:
    same = calib.plain("spec", "plan", "--against", "HEAD")
    assert "the plan is the same: no group, run or lock changes" in same
    (listed.specs / "demo.yaml").write_text(DEMO.replace("lumi: 10", "lumi: 20"))
    (listed.specs / "third.yaml").unlink()
    said = calib.plain("spec", "plan", "--against", "HEAD", "--groups", "3")
    assert "the grouping fill closes otherwise: minimum: 10 lumi → 20 lumi" in said
    assert "the newest 3 of" in said
    found = calib.json("spec", "plan", "--against", "HEAD")
    assert {one["workflow"]: one["state"] for one in found["workflows"]} == {
        "demo": "changed",
        "other": "same",
        "third": "only before",
    }
    changed = next(one for one in found["groups"] if one["group"] == "fill-r2" and one["workflow"] == "demo")
    assert (changed["before"]["state"], changed["after"]["state"]) == ("closed", "dropped")
    assert "git knows no commit 'nothing'" in calib.fails("spec", "plan", "--against", "nothing")


@pytest.fixture
def checkout(listed: World) -> None:
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", str(listed.folder), *arguments], check=True)


def test_mistakes_are_told_and_what_is_good_is_planned(listed: World, calib: Calib, checkout: None) -> None:
    (listed.specs / "other.yaml").write_text("apiVersion: calib/v1\nworkflow: other\nruns: {source: daq}\ntasks: []\n")
    result = calib("spec", "plan", "-w", "demo")
    assert (result.exit_code, "other.yaml:4:" in result.stderr, "demo__fill" in result.stdout) == (2, True, True)
    edit = calib("spec", "plan", "--against", "HEAD")
    assert (edit.exit_code, "mistakes after" in edit.stdout) == (2, True)
    assert "other.yaml:4:" in calib.fails("spec", "plan", "-w", "other", code=2)
    assert "other.yaml:4:" in calib.fails("spec", "plan", "-w", "nothing", code=2)


def test_wrong_command_lines(listed: World, calib: Calib) -> None:
    assert "is no place" in calib.fails("spec", "plan", "--runs-from", "there", code=2)
    assert "add --finite" in calib.fails("spec", "plan", "--base", "prompt", code=2)
    assert "leave out --campaign" in calib.fails("spec", "plan", "--finite", "-c", "again", code=2)
    alone = ("spec", "plan", "--runs-from", "source")
    assert "--base promt is of the ledger" in calib.fails(*alone, "--finite", "--base", "promt", code=2)
    assert "--campaign again is of the ledger" in calib.fails(*alone, "-c", "again", code=2)
    assert "is neither a run nor a range" in calib.fails("spec", "plan", "--runs", "all")
    assert "none of the runs 77 are listed" in calib.fails("spec", "plan", "--runs", "77")
    assert "has no workflow zee" in calib.fails("spec", "plan", "-w", "zee")
    assert "lies in no git checkout" in calib.fails("spec", "plan", "--against", "HEAD")
    assert "there is no such folder" in calib.fails("spec", "plan", "--specs", "nowhere", code=2)
    listed.runs()
    assert "no runs are listed" in calib.fails("spec", "plan")
    (listed.specs / "runs.csv").unlink()
    assert "runs.csv" in calib.fails("spec", "plan")


def test_right_after_the_ledger_was_made_the_sources_are_read(world: World, calib: Calib) -> None:
    world.runs(row(2), row(3), row(4, fill=2))
    said = calib("spec", "plan", "-w", "demo")
    assert said.exit_code == 0
    assert said.stderr == "the ledger has no runs yet: the run sources are read\n"
    assert "3 runs of daq (2–4), as their source lists them" in said.stdout
    assert "the ledger has no runs of daq" in calib.fails("spec", "plan", "-w", "demo", "--runs-from", "ledger")
    world.inject(row(2), row(3), row(4, fill=2))
    said = calib("spec", "plan", "-w", "demo")
    assert (said.stderr, "as the ledger learnt of them" in said.stdout) == ("", True)


FAR = """apiVersion: calib/v1
workflow: NAME
runs: {source: far, since: 1}
tasks:
  fit: {group_by: run, jobs: {command: [sh, -c, "true"]}, products: {c: c.txt}}
"""


def test_a_source_that_cannot_be_read_is_told_once(listed: World, calib: Calib) -> None:
    sources = listed.specs / "sources.yaml"
    fields = "{start: time, end: time, completed: bool, fill: int}"
    sources.write_text(f"{sources.read_text()}  far:\n    csv: {{path: far.csv}}\n    fields: {fields}\n")
    for name in ("one", "two"):
        (listed.specs / f"{name}.yaml").write_text(FAR.replace("NAME", name))
    said = calib("spec", "plan", "-w", "one", "-w", "two", "-w", "demo")
    warned = [line for line in said.stderr.splitlines() if line.startswith("warning")]
    assert len(warned) == 1
    assert warned[0].startswith("warning: run source far (of one, two): ")
    assert "demo__run" in said.stdout
    (listed.specs / "far.csv").write_text("number,start,end,fill,completed\n")
    empty = calib("spec", "plan", "-w", "one", "-w", "two", "-w", "demo").stderr
    assert [line.partition(":")[2].strip() for line in empty.splitlines() if "warning" in line] == [
        f"workflow {name}: there are no runs of its source far" for name in ("one", "two")
    ]


def test_a_ledger_that_has_no_runs_of_the_source(world: World, calib: Calib) -> None:
    assert "the ledger has no runs of daq" in calib.fails("spec", "plan", "--runs-from", "ledger")
    world.inject(row(2))
    assert "there is no campaign again" in calib.fails("spec", "plan", "-c", "again")


@pytest.mark.parametrize(
    ("name", "arguments"), [("plan.png", ()), ("plan.svg", ("--finite",)), ("plan.svg", ("--against", "HEAD"))]
)
def test_a_picture(listed: World, calib: Calib, checkout: None, name: str, arguments: tuple[str, ...]) -> None:
    pytest.importorskip("matplotlib")
    result = calib("spec", "plan", "--plot", name, *arguments)
    assert (result.exit_code, f"drawn into {name}" in result.stderr) == (0, True)
    begin = Path(name).read_bytes()[:200]
    assert begin.startswith(b"\x89PNG") if name.endswith("png") else b"<?xml" in begin


def test_a_picture_that_cannot_be_drawn(listed: World, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be written" in calib.fails("spec", "plan", "--plot", "no/plan.png")
    assert "cannot be written" in calib.fails("spec", "plan", "--plot", "plan.exe")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "airflow-calib-provider[plot]" in calib.fails("spec", "plan", "--plot", "plan.png")
