"""Categories of runs: conditions that are named once (rule 52)."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.spec import known
from airflow_calib_provider.spec.cache import checked
from airflow_calib_provider.spec.condition_parts import unmet
from airflow_calib_provider.spec.known import good_workflow
from airflow_calib_provider.spec.loader import (
    FolderCheck,
    check_folder,
    load_categories,
    load_folder,
    load_text,
    load_workflow,
)
from airflow_calib_provider.spec.models import FieldType

SOURCES = """\
apiVersion: calib/v1
sources:
  daq: {csv: {path: runs.csv}, fields: {lumi: float, status: string, n: int}}
  beam: {csv: {path: beam.csv}, fields: {status: string}}
"""
CATEGORIES = """\
apiVersion: calib/v1
categories:
  physics: "run.lumi > 0.5 && run.status == 'good'"
  cosmics: run.status == 'cosmics'
"""
FLOW = """\
apiVersion: calib/v1
workflow: ecal
runs: {source: daq, since: 1, categories: [physics, cosmics], where: run.n > 3}
tasks:
  fit: {group_by: run, jobs: {command: [fit]}}
"""
TYPES = {"lumi": FieldType.FLOAT, "status": FieldType.STRING, "n": FieldType.INT}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sources.yaml").write_text(SOURCES)
    (tmp_path / "categories.yaml").write_text(CATEGORIES)
    (tmp_path / "ecal.yaml").write_text(FLOW)
    return tmp_path


def mistakes(folder: Path, file: str = "", old: str = "", new: str = "") -> list[str]:
    if file:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
    return [str(error).removeprefix(f"{folder}/") for error in load_folder(folder)[1]]


def told(check: FolderCheck) -> object:
    files = [(item.workflow, [str(error) for error in item.errors]) for item in check.files]
    return files, check.categories, check.categories_text, [str(error) for error in check.errors]


def test_a_workflow_has_the_conditions_of_its_categories(folder: Path) -> None:
    assert mistakes(folder) == []
    expected = {"physics": "run.lumi > 0.5 && run.status == 'good'", "cosmics": "run.status == 'cosmics'"}
    assert load_folder(folder)[0]["ecal"].runs.categories == expected
    assert load_workflow(folder / "ecal.yaml").runs.categories == expected
    assert load_categories(folder / "categories.yaml") == expected
    # A text alone does not say what they are.
    assert load_text(FLOW, folder / "ecal.yaml").runs.categories == {"physics": "", "cosmics": ""}
    assert load_text(FLOW, folder / "ecal.yaml", {"physics": "true"}).runs.categories["physics"] == "true"


def test_one_that_is_not_declared(folder: Path) -> None:
    assert mistakes(folder, "ecal.yaml", "physics", "phisics") == [
        "ecal.yaml:3:44: unknown category 'phisics'; expected one of cosmics, physics; did you mean 'physics'?"
    ]


def test_no_file_of_them(folder: Path) -> None:
    (folder / "categories.yaml").unlink()
    assert mistakes(folder)[0] == (
        "ecal.yaml:3:44: unknown category 'physics'; expected a file categories.yaml with it"
    )
    with pytest.raises(SpecErrors, match="there is no such file"):
        load_categories(folder / "categories.yaml")


def test_two_of_one_name(folder: Path) -> None:
    said = mistakes(folder, "categories.yaml", "cosmics:", "physics:")
    assert said[-1].startswith("categories.yaml:4:3: the key 'physics' is there twice")


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "ecal.yaml",
            "[physics, cosmics]",
            "[]",
            "ecal.yaml:3:43: categories is empty; expected at least one category",
        ),
        ("ecal.yaml", "[physics, cosmics]", "physics", "ecal.yaml:3:43: categories is 'physics'; expected a list"),
        ("ecal.yaml", "cosmics]", "physics]", "ecal.yaml:3:53: the category 'physics' is there twice; expected each"),
        ("categories.yaml", "run.status == 'cosmics'", "5", "categories.yaml:4:12: the category 'cosmics' is 5, which"),
        ("categories.yaml", "cosmics:", "7up:", "categories.yaml:4:3: the category '7up' is not a name"),
        ("categories.yaml", "categories:", "kategories:", "categories.yaml:2:1: unknown key 'kategories'"),
        ("categories.yaml", "calib/v1", "calib/v9", "categories.yaml:1:13: apiVersion 'calib/v9' is not known"),
        ("categories.yaml", "== 'cosmics'", "= 'cosmics'", "categories.yaml:4:23: the condition cannot be read"),
        ("categories.yaml", "run.status == 'cosmics'", "status == 'cosmics'", "categories.yaml:4:12: unknown name"),
    ],
)
def test_a_mistake_is_told_at_its_place(folder: Path, file: str, old: str, new: str, expected: str) -> None:
    said = mistakes(folder, file, old, new)
    assert any(one.startswith(expected) for one in said), said


def test_a_broken_category_is_that_of_who_names_it(folder: Path) -> None:
    (folder / "mu.yaml").write_text(FLOW.replace("ecal", "mu").replace("[physics, cosmics]", "[physics]"))
    (folder / "tk.yaml").write_text(FLOW.replace("ecal", "tk").replace("categories: [physics, cosmics], ", ""))
    said = mistakes(folder, "categories.yaml", "== 'cosmics'", "= 'cosmics'")
    assert [one.partition(";")[0] for one in said] == [
        "ecal.yaml:3:53: the category 'cosmics' has mistakes of its own",
        "categories.yaml:4:23: the condition cannot be read at \"= 'cosmics'\"",
    ]
    assert sorted(load_folder(folder)[0]) == ["mu", "tk"]


def test_one_whose_file_cannot_be_read(folder: Path) -> None:
    (folder / "categories.yaml").write_text("apiVersion: calib/v1\ncategories: {physics: [}\n")
    said = mistakes(folder)
    assert said[0].startswith("ecal.yaml:3:44: the category 'physics' has mistakes of its own; see categories.yaml")
    assert said[-1].startswith("categories.yaml:2:24: ")


def test_a_field_that_the_source_lacks(folder: Path) -> None:
    (folder / "beam.yaml").write_text(
        FLOW.replace("ecal", "beam").replace("daq", "beam").replace(", where: run.n > 3", "")
    )
    said = mistakes(folder)
    assert said == [
        "beam.yaml:3:45: the category 'physics' is no condition on runs of the source 'beam'; see categories.yaml",
        "categories.yaml:3:13: the source 'beam' supplies no field 'lumi'; expected one of number, status; "
        "declare it under 'fields' of the run source",
    ]
    assert sorted(load_folder(folder)[0]) == ["ecal"]


def test_what_is_kept_of_files_follows_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(folder / "calib"))
    monkeypatch.setattr(known, "SETTLED", -1.0)
    for new in (CATEGORIES, CATEGORIES.replace("0.5", "0.7"), CATEGORIES.replace("lumi", "lumy")):
        (folder / "categories.yaml").write_text(new)
        for _ in range(2):
            found, anew = checked(folder), check_folder(folder)
            assert told(found) == told(anew)
            kept = good_workflow(folder / "ecal.yaml")
            assert (kept and kept.runs) == (anew.workflows["ecal"].runs if anew.workflows else None)


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("run.lumi > 0.5 && run.status == 'good'", {"lumi": 0.3, "status": "good"}, ["run.lumi > 0.5"]),
        ("run.lumi > 0.5 || run.n in [1, 2]", {"lumi": 0.3, "n": 5}, ["run.lumi > 0.5", "run.n in [1, 2]"]),
        (
            "(run.lumi > 0.5 || run.n == 5) && run.status == 'a'",
            {"lumi": 0.3, "n": 5, "status": "b"},
            ["run.status == 'a'"],
        ),
        ("((run.n == 1))", {"n": 2}, ["run.n == 1"]),
        ("(run.n == 1) || (run.n == 2)", {"n": 3}, ["run.n == 1", "run.n == 2"]),
        ("run.n > 1 ? run.n == 3 : run.n == 0 && true", {"n": 2}, ["run.n > 1 ? run.n == 3 : run.n == 0 && true"]),
        ("[1, 2].exists(x, x == run.n && x > 0)", {"n": 4}, ["[1, 2].exists(x, x == run.n && x > 0)"]),
        ("run.status == '&& (' || run.n == 1", {"n": 4, "status": "y"}, ["run.status == '&& ('", "run.n == 1"]),
        ("has(run.lumi) && run.lumi > 3.0", {}, ["has(run.lumi)"]),
        ("run.n > 1 && run.status == 'a'", {"n": 2, "status": "a"}, []),
    ],
)
def test_the_part_that_is_false(text: str, fields: dict[str, object], expected: list[str]) -> None:
    parts = unmet(text, TYPES, fields)
    assert [part.text for part in parts] == expected
    assert not any(part.error for part in parts)


def test_the_part_that_cannot_be_told() -> None:
    assert [str(part) for part in unmet("run.lumi > 0.5 && run.n == 1", TYPES, {"n": 1})] == [
        "`run.lumi > 0.5` cannot be told: the field 'lumi' is null (lumi is null)"
    ]
    assert [str(part) for part in unmet("run.status == 'a'", TYPES, {"status": "b"})] == [
        "`run.status == 'a'` is false (status is 'b')"
    ]
