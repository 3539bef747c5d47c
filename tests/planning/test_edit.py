"""The difference that an edit makes: specs of a git commit against the files."""

from __future__ import annotations

import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_calib_provider.domain.failed_runs import FailedRuns
from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.planning.comparing import _policy, plan_edit
from airflow_calib_provider.planning.records import PlanDifference, PlanRequest
from tests.cli.world import DEMO, OTHER, SOURCES, THIRD
from tests.ledger.making import enough, fill, nightly, write_runs


def bounded(runs: list[int]) -> Grouping:
    return Grouping(kind="boundaries", label="period", options={"first_runs": runs})


SPECS = {"sources": SOURCES.replace("lumi:", "lumi_pb:"), "demo": DEMO.replace("lumi", "lumi_pb"), "other": OTHER}


class Checkout:
    """A folder of specs below the top of a git checkout, committed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "calib specs" / "é"
        self.folder.mkdir(parents=True)
        write_runs(self.folder / "runs.csv", [{"number": number} for number in range(4, 30)])
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
        for name, text in SPECS.items():
            self.write(name, text)
        self.commit()

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.yaml").write_text(text)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "specs")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", "-C", str(self.folder), *arguments], check=True)

    def edit(self, commit: str = "HEAD", *workflows: str) -> PlanDifference:
        return plan_edit(None, PlanRequest(self.folder, workflows), commit, datetime.now(UTC))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def states(found: PlanDifference) -> dict[str, str]:
    return {one.workflow: one.state for one in found.workflows}


def test_no_edit_changes_nothing(checkout: Checkout) -> None:
    checkout.write("demo", f"# a comment\n{SPECS['demo']}".replace("echo, hello", "echo, goodbye"))
    found = checkout.edit()
    assert found.is_none
    assert (states(found), len(found.commit)) == ({"demo": "same", "other": "same"}, 40)


def test_an_edit_of_an_amount(checkout: Checkout) -> None:
    checkout.write("demo", SPECS["demo"].replace("lumi_pb: 10", "lumi_pb: 100"))
    found = checkout.edit()
    changes = {one.workflow: one.changes for one in found.workflows}
    assert changes["demo"] == ["the grouping fill closes otherwise: minimum: 10 lumi_pb → 100 lumi_pb"]
    one = found.groups[0]
    assert (one.group, one.state) == ("fill-r4", "changed")
    assert one.changes == ["closed → dropped", "scale waits for demo.skim no more"]
    assert [(one.grouping, one.before, one.after, one.runs) for one in found.runs] == [
        ("fill", "grouped", "dropped", list(range(4, 28)))
    ]


def test_an_edit_of_what_only_a_kind_knows() -> None:
    """Boundaries, windows, conditions: what changed of them, and not all of them."""
    runs = [*range(100)]
    pairs = (
        (nightly(24, "06:00"), nightly(24, "08:00"), "options: at 06:00 → at 08:00"),
        (enough("sum.n > 1"), enough("sum.n > 2"), "options: when sum.n > 1 → when sum.n > 2"),
        (bounded(runs[:12]), bounded([1]), "first_runs [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … 2 more] → first_runs [1]"),
        (fill(), fill(failed_runs=FailedRuns(exclude=0.1)), "failed_runs: none → 0.1 exclude and after none"),
    )
    for old, new, said in pairs:
        assert said in _policy(old, new)


def test_a_workflow_on_one_side_only(checkout: Checkout) -> None:
    checkout.write("third", THIRD)
    found = checkout.edit()
    assert states(found) == {"demo": "same", "other": "same", "third": "only after"}
    assert {one.state for one in found.groups} == {"only after"}
    checkout.commit()
    (checkout.folder / "third.yaml").unlink()
    gone = checkout.edit("HEAD", "third")
    assert states(gone) == {"third": "only before"}
    assert {(one.state, one.workflow) for one in gone.groups} == {("only before", "third")}
    assert len(gone.groups) == len(found.groups)


def test_a_condition_decides_otherwise(checkout: Checkout) -> None:
    checkout.write("demo", SPECS["demo"].replace("> 0.0", "> 100.0"))
    found = checkout.edit("HEAD", "demo")
    decided = {(one.grouping, one.before, one.after): len(one.runs) for one in found.runs}
    assert decided == {("run", "grouped", "not_selected"): 26, ("fill", "grouped", "not_selected"): 26}
    assert {one.state for one in found.groups} == {"only before"}


@pytest.mark.parametrize("now", [True, False])
def test_a_file_with_mistakes_on_one_side(checkout: Checkout, now: bool) -> None:
    broken = SPECS["demo"].replace("group_by: run", "group_by: runs")
    checkout.write("demo", broken)
    if not now:
        checkout.commit()
        checkout.write("demo", SPECS["demo"])
    found = checkout.edit()
    assert states(found) == {"demo": "mistakes after" if now else "mistakes before", "other": "same"}
    assert found.groups == []
    mistakes = found.after.mistakes if now else found.mistakes_before
    file = checkout.folder / "demo.yaml" if now else f"{found.commit[:12]}:calib specs/é/demo.yaml"
    assert str(mistakes[0]).startswith(f"{file}:7:15: ")
    assert not (found.mistakes_before if now else found.after.mistakes)
    assert states(checkout.edit("HEAD", "demo")) == {"demo": states(found)["demo"]}


def test_a_folder_that_the_commit_does_not_have(checkout: Checkout) -> None:
    new = checkout.folder.parent / "new"
    new.mkdir()
    for file in checkout.folder.iterdir():
        (new / file.name).write_bytes(file.read_bytes())
    checkout.folder = new
    found = checkout.edit()
    assert states(found) == {"demo": "only after", "other": "only after"}
    assert found.mistakes_before == []


@pytest.mark.parametrize("name", ["nothing", "--all", "", "HEAD~9", "HEAD:", "\n"])
def test_a_commit_that_is_not_there(checkout: Checkout, name: str) -> None:
    with pytest.raises(CalibError, match="git knows no commit") as said:
        checkout.edit(name)
    assert "git fetch" in said.value.hint


def test_no_checkout(tmp_path: Path) -> None:
    wanted = PlanRequest(tmp_path)
    with pytest.raises(CalibError, match="lies in no git checkout"):
        plan_edit(None, wanted, "HEAD", datetime.now(UTC))
    with pytest.raises(CalibError, match="there is no folder"):
        plan_edit(None, PlanRequest(tmp_path / "no"), "HEAD", datetime.now(UTC))


def test_a_link_in_a_commit_is_not_followed(checkout: Checkout) -> None:
    (checkout.folder / "link.yaml").symlink_to("demo.yaml")
    (checkout.folder / "out.yaml").symlink_to("/etc/passwd")
    checkout.commit()
    (checkout.folder / "link.yaml").unlink()
    (checkout.folder / "out.yaml").unlink()
    found = checkout.edit()
    assert states(found) == {"demo": "same", "other": "same"}
    assert [error.message for error in found.mistakes_before] == [
        "it is a link in that commit, which is not followed"
    ] * 2


@pytest.mark.parametrize("seed", range(3))
def test_no_text_makes_it_crash(checkout: Checkout, seed: int) -> None:
    """Lines that are lost, doubled or mixed up: a plan, or all mistakes."""
    chance = random.Random(seed)
    planned = 0
    for turn in range(12):
        for name, text in SPECS.items():
            lines = text.splitlines()
            for _ in range(chance.choice([0, 0, 1, 1, 3])):
                place, other = chance.randrange(len(lines)), chance.randrange(len(lines))
                lines[place] = chance.choice(["", lines[other], lines[place][::-1], f"{lines[place]} [", "\t{"])
            checkout.write(name, "\n".join(lines))
        if turn % 4 == 3:
            checkout.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-am", "specs")
            continue
        try:
            found = checkout.edit()
        except CalibError:
            continue
        planned += 1
        assert found.is_none == (not found.groups and not found.runs and set(states(found).values()) <= {"same"})
    assert planned
