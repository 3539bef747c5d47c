"""Folders of specs of several teams with one ledger: each is injected by itself, and what clashes is told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider.errors import LedgerError, SpecError
from airflow_calib_provider.injection.inject import inject_folder
from airflow_calib_provider.injection.teams import Bundles
from airflow_calib_provider.ledger import spec_files, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_run
from airflow_calib_provider.spec.team import team_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BUNDLES = frozenset({"ecal", "hcal", "dags-folder"})
WORKFLOW = """\
apiVersion: calib/v1
workflow: {name}
runs: {{source: {source}, since: 1}}
tasks:
  fit: {{group_by: run, jobs: {{command: [fit]}}, products: {{out: o.txt}}}}
"""


class Team:
    """A folder of specs in a bundle of its own."""

    def __init__(self, root: Path, ledger: Ledger, bundle: str, team: str | None = None, source: str = "") -> None:
        self.folder, self.ledger, self.bundle = root / bundle, ledger, bundle
        self.source = source or bundle
        self.folder.mkdir()
        self.name_team(team)
        (self.folder / "runs.csv").write_text("number\n7\n")

    def name_team(self, team: str | None) -> None:
        line = f"team: {team}\n" if team else ""
        text = f"apiVersion: calib/v1\n{line}sources:\n  {self.source}: {{csv: {{path: runs.csv}}}}\n"
        (self.folder / "sources.yaml").write_text(text)

    def write(self, name: str) -> Path:
        file = self.folder / f"{name}.yaml"
        file.write_text(WORKFLOW.format(name=name, source=self.source))
        return file

    def inject(self, version: str = "c1") -> list[str]:
        bundles = Bundles(self.bundle, BUNDLES - {self.bundle}, version)
        report, errors = inject_folder(self.ledger, self.folder, now=NOW, bundles=bundles)
        return [*report.errors, *map(str, errors)]


def troubles(ledger: Ledger) -> dict[str, str]:
    with ledger.read() as connection:
        return {name: str(item.reason["code"]) for name, item in spec_files.troubles(connection).items()}


def runs_of(ledger: Ledger) -> dict[str, int]:
    table = tables.membership
    with ledger.read() as connection:
        return {row.workflow: row.run for row in connection.execute(select(table.c.workflow, table.c.run)).all()}


@pytest.fixture
def ecal(tmp_path: Path, ledger: Ledger) -> Team:
    made = Team(tmp_path, ledger, "ecal")
    made.write("zee")
    assert made.inject() == []
    return made


@pytest.fixture
def hcal(tmp_path: Path, ledger: Ledger) -> Team:
    made = Team(tmp_path, ledger, "hcal", "hcal")
    made.write("pulses")
    return made


def test_none_takes_the_workflows_of_the_other_for_gone(ecal: Team, hcal: Team, ledger: Ledger) -> None:
    assert hcal.inject() == []
    assert ecal.inject() == []
    assert troubles(ledger) == {}
    assert runs_of(ledger) == {"zee": 7, "pulses": 7}
    # What is gone is that of its own team.
    hcal.write("pulses").rename(hcal.folder / "pulses.old")
    assert ecal.inject() == []
    assert troubles(ledger) == {}
    hcal.inject()
    assert troubles(ledger) == {"pulses": "workflow_gone"}


def test_a_workflow_of_one_name_is_told_and_stays_with_the_first(ecal: Team, hcal: Team, ledger: Ledger) -> None:
    file = hcal.write("zee")
    (said,) = hcal.inject()
    assert said.startswith(
        f"{file}:1:1: the workflow zee is that of zee.yaml of those without a team, in the bundle ecal"
    )
    assert "another name" in said
    assert runs_of(ledger) == {"zee": 7, "pulses": 7}
    with ledger.read() as connection:
        owner = spec_files.owner_of(connection, "zee")
    assert owner is not None
    assert (owner.team, owner.bundle) == ("", "ecal")
    assert ecal.inject() == []
    assert troubles(ledger) == {}
    # When the first gives it up, the other has it.
    (ecal.folder / "zee.yaml").unlink()
    ecal.write("laser")
    assert ecal.inject() == []
    assert hcal.inject() == []
    with ledger.read() as connection:
        owner = spec_files.owner_of(connection, "zee")
    assert owner is not None
    assert (owner.team, owner.bundle) == ("hcal", "hcal")


def test_two_bundles_without_a_team_do_not_take_turns(ecal: Team, hcal: Team, ledger: Ledger) -> None:
    hcal.name_team(None)
    with pytest.raises(LedgerError, match=r"the bundles ecal and hcal both have specs of nobody's team.*team: NAME"):
        hcal.inject()
    assert troubles(ledger) == {}
    assert runs_of(ledger) == {"zee": 7}


def test_specs_that_moved_to_another_bundle_go_on(ecal: Team, ledger: Ledger) -> None:
    ecal.bundle = "hcal"
    ecal.write("laser")
    assert ecal.inject("c2") == []
    with ledger.read() as connection:
        owners = {item.workflow: (item.bundle, item.version) for item in spec_files.owners(connection)}
    assert owners["zee"] == owners["laser"] == ("hcal", "c2")


def test_a_team_is_named_later(ecal: Team, hcal: Team, ledger: Ledger) -> None:
    hcal.name_team(None)
    with pytest.raises(LedgerError):
        hcal.inject()
    ecal.name_team("ecal")
    assert ecal.inject("c2") == []
    assert hcal.inject() == []
    assert ecal.inject("c2") == []
    assert troubles(ledger) == {}
    ecal.source = "other"
    ecal.name_team("ecal")
    ecal.write("zee")
    assert ecal.inject("c3") == [], "its own run sources of before are nobody else's"
    with ledger.read() as connection:
        owners = {item.workflow: item.team for item in spec_files.owners(connection)}
    assert (owners["zee"], owners["pulses"]) == ("ecal", "")


def test_two_folders_of_one_bundle(ecal: Team, hcal: Team) -> None:
    hcal.bundle = "ecal"
    hcal.write("zee")
    assert any("the workflow zee is that of zee.yaml" in said for said in hcal.inject())


def test_run_sources_of_one_name_that_differ_are_told_to_who_comes_later(
    ecal: Team, tmp_path: Path, ledger: Ledger
) -> None:
    other = Team(tmp_path, ledger, "hcal", "hcal", source="ecal")
    (other.folder / "sources.yaml").write_text(
        "apiVersion: calib/v1\nteam: hcal\nsources:\n  ecal: {csv: {path: others.csv}}\n"
    )
    other.write("pulses")
    (said,) = other.inject()
    assert "the run source ecal is declared otherwise by those without a team" in said
    assert runs_of(ledger) == {"zee": 7}
    assert ecal.inject() == []
    other.name_team("hcal")  # the same source, in its own words
    assert other.inject() == []
    assert runs_of(ledger) == {"zee": 7, "pulses": 7}


def test_broken_sources_of_a_team_stop_no_one_and_are_told_for_its_workflows(
    ecal: Team, hcal: Team, ledger: Ledger
) -> None:
    assert hcal.inject() == []
    text = (hcal.folder / "sources.yaml").read_text()
    (hcal.folder / "sources.yaml").write_text(text.replace("csv", "cvs"))
    assert team_of(hcal.folder) == "hcal"
    assert any("cvs" in said for said in hcal.inject())
    assert ecal.inject() == []
    assert troubles(ledger)["sources.yaml@hcal"] == "spec_broken"
    with ledger.read() as connection:
        for workflow, told in (("pulses", True), ("zee", False)):
            found = explain_run(
                connection, Scope("prompt", NOW, workflow=workflow, source=workflow_source(workflow)), 7
            )
            assert any(cause.about == "sources.yaml" for cause in found.causes) == told, workflow


def workflow_source(workflow: str) -> str:
    return {"pulses": "hcal", "zee": "ecal"}[workflow]


@pytest.mark.parametrize(("line", "team"), [("team: hcal # ours", "hcal"), ('"team" : "h_1"', "h_1"), ("teams: x", "")])
def test_a_team_is_read_as_yaml_would(tmp_path: Path, line: str, team: str) -> None:
    (tmp_path / "sources.yaml").write_text(f"apiVersion: calib/v1\n{line}\nsources: {{\n")
    assert team_of(tmp_path) == team


def test_what_is_no_name_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "sources.yaml").write_text("apiVersion: calib/v1\nteam: h-cal\n")
    with pytest.raises(SpecError, match=r"sources\.yaml:2:1: 'h-cal' is no name of a team"):
        team_of(tmp_path)
