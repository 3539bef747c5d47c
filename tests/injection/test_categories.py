"""Categories decide which runs enter: those of the file now, for runs that are not assigned yet (rule 52)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.injection.categories import categories_of
from airflow_calib_provider.injection.inject import InjectionReport, inject_folder
from airflow_calib_provider.injection.serving import serve
from airflow_calib_provider.ledger import campaigns, spec_files, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_run
from airflow_calib_provider.ledger.runs import runs_numbered
from airflow_calib_provider.planning.plans import PlanSpecs, basis_of, plan_on, specs_of
from airflow_calib_provider.planning.records import PlanRequest
from airflow_calib_provider.spec.conditions import Condition
from airflow_calib_provider.spec.loader import check_folder

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SOURCES = "apiVersion: calib/v1\nsources:\n  daq: {csv: {path: runs.csv}, fields: {lumi: float, status: string}}\n"
CATEGORIES = """\
apiVersion: calib/v1
categories:
  physics: run.lumi > 0.5 && run.status == 'good'
  cosmics: run.status == 'cosmics'
"""
FLOW = """\
apiVersion: calib/v1
workflow: ecal
runs: {source: daq, since: 1, categories: [physics, cosmics], where: run.number != 4}
tasks:
  fit: {group_by: run, jobs: {command: [fit]}}
"""
RUNS = ["1,0.9,good", "2,0.1,good", "3,,cosmics", "4,0.9,good", "5,,good", "6,0.9,"]


class Place:
    """A folder of specs with a ledger."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder, self.ledger = folder, ledger
        self.write("sources", SOURCES)
        self.write("categories", CATEGORIES)
        self.write("ecal", FLOW)
        self.list(*RUNS)

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.yaml").write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / f"{name}.yaml").read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def list(self, *rows: str) -> None:
        (self.folder / "runs.csv").write_text("\n".join(["number,lumi,status", *rows]) + "\n")

    def inject(self, campaign: str | None = None) -> tuple[InjectionReport, list[str]]:
        report, errors = inject_folder(self.ledger, self.folder, now=NOW, campaign=campaign)
        return report, [str(error).removeprefix(f"{self.folder}/") for error in errors]

    def decided(self, workflow: str = "ecal", campaign: str = "prompt") -> dict[int, tuple[str, str]]:
        table = tables.membership
        query = select(table.c.run, table.c.state, table.c.reason)
        here = (table.c.workflow == workflow, table.c.campaign == campaign)
        with self.ledger.read() as connection:
            return {row.run: (row.state, render(row.reason)) for row in connection.execute(query.where(*here))}

    def troubles(self) -> dict[str, spec_files.Trouble]:
        with self.ledger.read() as connection:
            return spec_files.troubles(connection)


@pytest.fixture
def place(tmp_path: Path, ledger: Ledger) -> Place:
    return Place(tmp_path, ledger)


def test_a_run_enters_that_is_in_any_of_them(place: Place) -> None:
    assert place.inject()[0].errors == []
    found = place.decided()
    none = "not selected: in none of the categories physics, cosmics"
    assert found[1] == ("grouped", "")
    assert found[2] == ("not_selected", none)
    # That physics cannot be told of it does not matter: it is of cosmics.
    assert found[3] == ("grouped", "")
    assert found[4] == ("not_selected", "not selected: `run.number != 4` is false")
    said = "refused: in the category physics: the field 'lumi' is null; ask first: has(run.lumi) && …"
    assert found[5] == ("refused", said)
    assert found[6][0] == "refused"


def test_each_is_asked_once_for_all_workflows(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("mu", FLOW.replace("ecal", "mu").replace("[physics, cosmics]", "[physics]"))
    place.edit("mu", "fit:", "sum: {group_by: {sum: {lumi: 9}}, jobs: {command: [x]}}\n  fit:")
    place.list("1,0.9,good", "2,0.1,good")
    asked: list[tuple[str, object]] = []
    real = Condition.evaluate

    def evaluate(self: Condition, fields: Mapping[str, object]) -> bool:
        asked.append((self.text, fields["number"]))
        # Others can write meanwhile.
        with place.ledger.write():
            return real(self, fields)

    monkeypatch.setattr(Condition, "evaluate", evaluate)
    with place.ledger.write() as connection:
        campaigns.create(connection, "again", kind="streamed")
    place.inject()
    assert sorted(asked, key=str) == sorted(set(asked), key=str)
    assert {text for text, _ in asked} == {
        "run.lumi > 0.5 && run.status == 'good'",
        "run.status == 'cosmics'",
        "run.number != 4",
    }
    assert place.decided("mu")[1] == ("grouped", "")


def test_an_edit_acts_on_runs_that_are_not_assigned(place: Place) -> None:
    place.list("1,0.9,good", "2,0.1,good")
    place.inject()
    place.edit("categories", "0.5", "0.05")
    place.list("1,0.9,good", "2,0.1,good", "3,0.1,good")
    assert place.inject()[1] == []
    assert {run: state for run, (state, _) in place.decided().items()} == {
        1: "grouped",
        2: "not_selected",
        3: "grouped",
    }


def test_a_plan_shows_what_an_edit_would_have_changed(place: Place) -> None:
    place.list("1,0.9,good", "2,0.1,good")
    place.inject()
    before = planned(place)
    place.edit("categories", "0.5", "0.05")
    after = planned(place)
    assert before == {1: "grouped", 2: "not_selected"}
    assert after == {1: "grouped", 2: "grouped"}


def planned(place: Place) -> dict[int, str]:
    specs: PlanSpecs = specs_of(place.folder)
    basis = basis_of(place.ledger, specs, [specs], PlanRequest(place.folder, last=0), NOW)
    (one,) = plan_on(specs, ["ecal"], basis, NOW).groupings
    return {run: decision.state for run, decision in one.decisions.items()}


def test_a_broken_file_stops_nothing(place: Place) -> None:
    place.write("mu", FLOW.replace("ecal", "mu").replace("[physics, cosmics]", "[physics]"))
    place.write("tk", FLOW.replace("ecal", "tk").replace("categories: [physics, cosmics], ", ""))
    place.list("1,0.9,good")
    place.inject()
    place.edit("categories", "run.status == 'cosmics'", "run.status = 'cosmics'")
    place.edit("categories", "0.5", "0.7")
    place.list("1,0.9,good", "2,0.6,good")
    report, said = place.inject()
    assert report.errors == []
    mistake = "categories.yaml:4:23: the condition cannot be read at \"= 'cosmics'\"; write == to compare"
    assert mistake in said
    # What was good last goes on as a whole, and it is told for each workflow that names a category.
    for name in ("ecal", "mu", "tk"):
        assert place.decided(name)[2] == ("grouped", "")
    troubles = place.troubles()
    assert sorted(troubles) == ["categories.yaml", "ecal", "mu"]
    for name in ("ecal", "mu"):
        reason: Mapping[str, Any] = troubles[name].reason
        assert (reason["code"], reason["file"]) == ("spec_broken", str(place.folder / "categories.yaml"))
        assert reason["mistakes"] == [f"{place.folder}/{mistake}"]
        with place.ledger.read() as connection:
            causes = explain_run(connection, Scope("prompt", NOW, workflow=name), 2).causes
        assert mistake in "".join(cause.text for cause in causes if cause.code == "spec_broken")
    place.write("categories", CATEGORIES.replace("0.5", "0.7"))
    place.list("1,0.9,good", "2,0.6,good", "3,0.6,good")
    assert place.inject()[1] == []
    assert place.troubles() == {}
    assert place.decided()[3][0] == "not_selected"


@pytest.mark.parametrize("how", ["field", "gone", "renamed"])
def test_an_edit_that_spoils_a_workflow_that_nobody_edited(place: Place, how: str) -> None:
    place.list("1,0.9,good")
    place.inject()
    if how == "field":
        place.edit("categories", "run.lumi", "run.lumi_pb")
    elif how == "renamed":
        place.edit("categories", "physics:", "fysics:")
    else:
        (place.folder / "categories.yaml").unlink()
    place.list("1,0.9,good", "2,0.9,good")
    report, said = place.inject()
    assert report.errors == []
    expected = {
        "field": "categories.yaml:3:12: the source 'daq' supplies no field 'lumi_pb'",
        "renamed": "ecal.yaml:3:44: unknown category 'physics'",
        "gone": "ecal.yaml:3:44: unknown category 'physics'; expected a file categories.yaml with it",
    }
    assert any(one.startswith(expected[how]) for one in said), said
    assert place.decided()[2] == ("grouped", "")
    assert "ecal" in place.troubles()


def test_nothing_is_decided_by_one_that_never_was_good(place: Place) -> None:
    place.write("tk", FLOW.replace("ecal", "tk").replace("categories: [physics, cosmics], ", ""))
    place.edit("categories", "run.status == 'cosmics'", "run.status = 'cosmics'")
    place.inject()
    assert place.decided() == {}
    assert place.decided("tk")[1] == ("grouped", "")


def test_a_campaign_with_a_spec_of_its_own_takes_those_of_now(place: Place) -> None:
    place.list("1,0.9,good", "2,0.1,good")
    place.inject()
    text = (place.folder / "ecal.yaml").read_text()
    with place.ledger.write() as connection:
        hashes = {"ecal": spec_files.hash_of(text)}
        campaigns.create(connection, "again", kind="finite", runs={"daq": [1, 2]}, spec_hashes=hashes)
    place.edit("ecal", "command: [fit]", "command: [fit, again]")
    place.edit("ecal", "[physics, cosmics]", "[cosmics]")
    place.edit("categories", "0.5", "0.05")
    report, said = place.inject("again")
    assert (report.errors, said) == ([], [])
    assert {run: state for run, (state, _) in place.decided(campaign="again").items()} == {1: "grouped", 2: "grouped"}


def test_in_which_a_run_is_and_why_not_in_the_others(place: Place) -> None:
    place.inject()
    check = check_folder(place.folder)
    found = {}
    with place.ledger.read() as connection:
        for number in (2, 3, 5):
            (row,) = runs_numbered(connection, number)
            asked = categories_of(row, check.sources["daq"], check.categories, check.workflows)
            found[number] = {one.name: (one.is_in, one.why) for one in asked}
            assert [list(one.workflows) for one in asked] == [["ecal"], ["ecal"]]
    assert found[2]["physics"] == (False, "`run.lumi > 0.5` is false (lumi is 0.1)")
    assert found[2]["cosmics"] == (False, "`run.status == 'cosmics'` is false (status is 'good')")
    assert found[3]["cosmics"] == (True, "")
    said = "`run.lumi > 0.5` cannot be told: the field 'lumi' is null (lumi is null)"
    assert found[3]["physics"] == (None, f"{said}; `run.status == 'good'` is false (status is 'cosmics')")
    assert found[5]["physics"] == (None, said)


def test_a_team_has_its_own(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    place.inject()
    there = Place(other, place.ledger)
    there.write("sources", SOURCES.replace("sources:\n  daq", "team: mu\nsources:\n  muons"))
    there.write("ecal", FLOW.replace("ecal", "mu").replace("daq", "muons"))
    there.edit("categories", "0.5", "0.05")
    there.inject()
    assert there.decided("mu")[2] == ("grouped", "")
    with place.ledger.read() as connection:
        texts = {team: spec_files.kept_texts(connection, team) for team in ("", "mu")}
    kept = {
        team: next(one.text for one in found if one.workflow == spec_files.CATEGORIES) for team, found in texts.items()
    }
    assert kept == {"": CATEGORIES, "mu": CATEGORIES.replace("0.5", "0.05")}
    place.edit("categories", "==", "=")
    assert serve(place.folder, lambda: texts[""]).categories["physics"] == "run.lumi > 0.5 && run.status == 'good'"
