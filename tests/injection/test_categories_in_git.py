"""An edit of categories.yaml in a git repository, whose commits are injected from checkouts of their own (rule 52)."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_calib_provider.injection.categories import categories_of
from airflow_calib_provider.injection.inject import inject_folder
from airflow_calib_provider.injection.teams import Bundles
from airflow_calib_provider.ledger import spec_files
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_run
from airflow_calib_provider.ledger.runs import runs_numbered
from airflow_calib_provider.planning.comparing import plan_edit
from airflow_calib_provider.planning.records import PlanRequest
from airflow_calib_provider.spec.loader import check_folder
from tests.injection.test_categories import CATEGORIES, FLOW, SOURCES, Place

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Repository(Place):
    """A repository, of which each commit has a checkout, as Airflow's bundles have."""

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self.root, self.ledger, self.now = root, ledger, NOW
        self.folder = root / "work"
        self.folder.mkdir()
        self.git("init", "-q", "-b", "main", ".")
        self.write("sources", SOURCES.replace("runs.csv", f"{root}/runs.csv"))
        self.write("categories", CATEGORIES)
        self.write("ecal", FLOW)

    def list(self, *rows: str) -> None:
        (self.root / "runs.csv").write_text("\n".join(["number,lumi,status", *rows]) + "\n")

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *who, *arguments], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "edit")
        return self.commit_of()

    def commit_of(self) -> str:
        """The newest one."""
        return self.git("rev-parse", "HEAD")

    def inject_commit(self, commit: str) -> list[str]:
        """What calib_inject does of a bundle's newest version, an hour later each time.

        :returns: the mistakes of the files.
        """
        checkout = self.root / commit
        if not checkout.exists():
            self.git("worktree", "add", "-q", "--detach", str(checkout), commit)
        self.now += timedelta(hours=1)
        report, errors = inject_folder(self.ledger, checkout, now=self.now, bundles=Bundles("calib", version=commit))
        assert report.errors == []
        return [str(error) for error in errors]

    def states(self) -> dict[int, str]:
        return {run: state for run, (state, _) in self.decided().items()}

    def told(self, run: int) -> str:
        with self.ledger.read() as connection:
            found = explain_run(connection, Scope("prompt", self.now, workflow="ecal"), run)
        return "\n".join(cause.text for cause in found.causes)


@pytest.fixture
def repository(tmp_path: Path, ledger: Ledger) -> Repository:
    return Repository(tmp_path, ledger)


def test_a_commit_acts_on_what_comes_after_it_and_is_named_for_what_came_before(repository: Repository) -> None:
    repository.list("1,0.9,good", "2,0.1,good")
    first = repository.commit()
    assert repository.inject_commit(first) == []
    repository.edit("categories", "0.5", "0.05")
    second = repository.commit()
    # Before it is injected: what it would have changed.
    edit = plan_edit(repository.ledger, PlanRequest(repository.folder, last=0), first, repository.now)
    planned = [
        {run: one.state for run, one in plan.groupings[0].decisions.items()} for plan in (edit.before, edit.after)
    ]
    assert planned == [{1: "grouped", 2: "not_selected"}, {1: "grouped", 2: "grouped"}]
    assert [(one.group, one.before) for one in edit.groups] == [("run-r2", None)]
    (change,) = edit.workflows
    condition = "physics run.lumi > {} && run.status == 'good'"
    assert change.changes == [f"runs.categories: {condition.format(0.5)} → {condition.format(0.05)}"]
    assert repository.told(2) == "not selected: in none of the categories physics, cosmics"
    repository.list("1,0.9,good", "2,0.1,good", "3,0.1,good")
    assert repository.inject_commit(second) == []
    assert repository.states() == {1: "grouped", 2: "not_selected", 3: "grouped"}
    said = f"as they were then; they were edited since (2026-03-01 02:00 UTC, in {second[:12]})"
    assert repository.told(2) == f"not selected: in none of the categories physics, cosmics, {said}"
    with repository.ledger.read() as connection:
        (row,) = runs_numbered(connection, 2)
    check = check_folder(repository.root / second)
    asked = {one.name: one.is_in for one in categories_of(row, check.sources["daq"], check.categories, check.workflows)}
    assert asked == {"physics": True, "cosmics": False}, "what it lacks now is nothing: a campaign of its own takes it"


def test_a_commit_with_a_mistake_is_told_with_its_place_and_the_one_before_goes_on(repository: Repository) -> None:
    repository.list("1,0.9,good")
    first = repository.commit()
    repository.inject_commit(first)
    repository.edit("categories", "run.lumi > 0.5", "run.lumi >> 0.05")
    broken = repository.commit()
    repository.list("1,0.9,good", "2,0.1,good", "3,0.9,good")
    place = f"{repository.root}/{broken}/categories.yaml:3:"
    (said,) = [one for one in repository.inject_commit(broken) if one.startswith(place)]
    assert repository.states() == {1: "grouped", 2: "not_selected", 3: "grouped"}
    assert said in repository.told(2)
    assert repository.troubles()["ecal"].reason["code"] == "spec_broken"
    # Taken back, it is as if it had not been; nothing says that the categories were edited.
    repository.git("revert", "--no-edit", "HEAD")
    assert repository.inject_commit(repository.commit_of()) == []
    assert repository.told(2) == "not selected: in none of the categories physics, cosmics"
    with repository.ledger.read() as connection:
        kept = {one.workflow: one.text for one in spec_files.kept_texts(connection)}
    assert kept["categories.yaml"] == CATEGORIES
