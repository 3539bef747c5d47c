"""calib spec new: what it writes runs at once, to the first payload; nothing is overwritten or left half written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.cli import new_workflow
from airflow_calib_provider.cli.app import app
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.payloads import store
from airflow_calib_provider.spec.loader import load_folder
from tests.cli.conftest import Calib
from tests.docs.stand_in import StandIn
from tests.postgres.places import migrated

CSV = "run,start,end,lumi,good,note,fill\n1,2026-01-01,2026-01-02,1.5,true,a,7\n2,2026-01-02,2026-01-03,2,false,,8\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "group"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    monkeypatch.setenv("CALIB_RETRY_DELAY", "0")
    return folder


def files(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def payloads(place: Path) -> list[dict[str, Any]]:
    """What is published once all that was written has run."""
    migrated().close()
    airflow = StandIn(place / "workflow_specs")
    try:
        airflow.inject()
        return [json.loads(store.content_path(row).read_text()) for row in airflow.rows(tables.payload)]
    finally:
        airflow.ledger.close()


def test_with_all_defaults_it_runs_to_a_payload_for_each_run(place: Path, calib: Calib) -> None:
    said = calib.plain("spec", "new", "--yes")
    assert files(place) == [
        "dags/calib_problems.py",
        "dags/calib_system.py",
        "dags/calibration.py",
        "workflow_specs/calibration.yaml",
        "workflow_specs/calibration/fit.py",
        "workflow_specs/calibration_runs.csv",
        "workflow_specs/sources.yaml",
    ]
    assert all(name in said for name in files(place))
    assert calib.plain("spec", "stubs", "--check") == "3 stubs are as they should be\n"
    assert payloads(place) == [{"scale": 1.0, "runs": [number, number]} for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("grouping", "closed"),
    [
        ("fill", [1, 2]),
        ("sum:events:14000", [1, 2]),
        ("{sum: {events: 100}}", [1, 1]),
        ("{count: {runs: 2}}", [1, 2]),
        ('{window: {every: 1d, at: "12:00", zone: Europe/Zurich, max_wait: 2h}}', [1, 3]),
        ("{boundaries: {first_runs: [1, 3]}}", [1, 2]),
    ],
)
def test_groupings(grouping: str, closed: list[int], place: Path, calib: Calib) -> None:
    calib.plain("spec", "new", "--yes", "--grouping", grouping)
    assert payloads(place)[0]["runs"] == closed


def test_questions_are_asked_with_their_defaults(place: Path, calib: Calib) -> None:
    found = calib.runner.invoke(app, ["spec", "new"], input="pi0\n\nfill\n\nPi0\n")
    assert found.exit_code == 0, found.output
    for asked in ("[calibration]", "[example]", "[run]", "[skeleton]", "[Pi0Constants]"):
        assert asked in found.stderr
    asked = found.stderr.partition("How are runs put together?")[2].partition("]: ")[0]
    assert all(f"{{{kind}: " in asked for kind in ("count", "window", "boundaries"))
    assert "until" not in asked, "no answer to the other questions makes a task that reports values"
    assert calib.plain("spec", "check").count("pi0__fill") == 1


def test_an_answer_that_cannot_be_meant_is_told_and_asked_for_again(place: Path, calib: Calib) -> None:
    (place / "open.csv").write_text("run,lumi\n1,5\n2,6")
    (place / "daq.csv").write_text("Run;lumi;note\n1;5;a, b\n2;6;\n")
    answers = [
        *("a-b", "pi0"),
        *("nowhere.csv", "open.csv", "daq.csv"),
        *("filll", "count", "fill", "sum:lumi:x", "{boundaries: {file: none.csv}}", "{count: {runs: 2}}"),
        *("fit | tee log", "sh -c 'echo 1 > $CALIB_OUT/constants.json'"),
        *("two words", "Pi0"),
    ]
    found = calib.runner.invoke(app, ["spec", "new"], input="\n".join([*answers, ""]))
    assert found.exit_code == 0, found.output
    told = [line.split("Error: ")[1] for line in found.stderr.splitlines() if "Error: " in line]
    for line, said in zip(
        told,
        (
            "'a-b' is no name",
            "there is no file nowhere.csv",
            "open.csv:3:0: the last line does not end",
            "did you mean 'fill'?",
            "expected {count: {runs: 10}}",
            "supplies no field 'fill'",
            "is 'x'; expected a number",
            "workflow_specs/none.csv:0:0: the boundaries cannot be read: No such file or directory",
            "'|' in a command",
            "'two words' is not a tag",
        ),
        strict=True,
    ):
        assert said in line
    assert 'separator: ";", files_separator: ","' in (place / "workflow_specs" / "sources.yaml").read_text()
    calib.plain("spec", "check")
    assert payloads(place) == [1]


def test_an_option_that_cannot_be_meant_asks_nothing(place: Path, calib: Calib) -> None:
    found = calib.runner.invoke(app, ["spec", "new", "--name", "a-b"], input="\n" * 9)
    assert (found.exit_code, "?" in found.stderr) == (1, False)
    assert "'a-b' is no name" in str(found.exception) + found.stderr
    assert files(place) == []


@pytest.mark.parametrize(
    "block",
    [
        "json: {path: runs.json}",
        "events: {path: events.csv}",
        "http: {path: runs}",
        "{sql: {connection: daq, select: SELECT 1 AS number}}",
    ],
)
def test_a_source_of_any_kind_that_is_there(block: str, place: Path, calib: Calib) -> None:
    """None is read: that may take long, and others know whether it can be."""
    specs = place / "workflow_specs"
    specs.mkdir()
    block = block if block.startswith("{") else f"{{{block}}}"
    (specs / "sources.yaml").write_text(f"apiVersion: calib/v1\nsources:\n  daq: {block}\n")
    (specs / "runs.json").write_text('[{"number": 1}, {"number": 2}]\n')
    (specs / "events.csv").write_text("run\n1\n1\n2\n")
    calib.plain("spec", "new", "--yes", "-g", "{count: {runs: 2}}")
    assert "calibration__count" in calib.plain("spec", "check", "--strict")
    if (specs / "sources.yaml").read_text().count(".json") + block.count("events"):
        assert payloads(place)[0]["runs"] == [1, 2]


def test_a_csv_file_and_a_command_of_ones_own(place: Path, calib: Calib) -> None:
    (place / "daq.csv").write_text(CSV)
    command = "sh -c 'echo {{ group.n_runs }} > $CALIB_OUT/constants.json'"
    calib.plain("spec", "new", "-n", "scale", "-r", "daq.csv", "-g", "run", "-j", command, "-p", "Scale")
    workflows, errors = load_folder(place / "workflow_specs")
    assert not errors
    text = (place / "workflow_specs" / "sources.yaml").read_text()
    for line in ('columns: {number: "run"}', "start: time", "lumi: float", "good: bool", "note: string", "fill: int"):
        assert line in text
    assert list(workflows) == ["scale"]
    assert payloads(place) == [1, 1]


def test_a_second_workflow_takes_a_source_that_is_there(place: Path, calib: Calib) -> None:
    calib.plain("spec", "new", "--yes")
    before = {name: (place / name).read_text() for name in files(place)}
    said = calib.fails("spec", "new", "--yes", "-n", "other", "-r", "calibration_run")
    assert "did you mean 'calibration_runs'?" in said
    assert calib.json("spec", "new", "--yes", "-n", "other", "-p", "-") == {
        "workflow": "other",
        "files": ["workflow_specs/other.yaml", "workflow_specs/other/fit.py", "dags/other.py"],
    }
    assert {name: (place / name).read_text() for name in before} == before


@pytest.mark.parametrize(
    "there", ["workflow_specs/calibration.yaml", "workflow_specs/calibration/fit.py", "dags/calibration.py"]
)
def test_nothing_is_overwritten(there: str, place: Path, calib: Calib) -> None:
    (place / there).parent.mkdir(parents=True)
    (place / there).write_text("mine\n")
    assert f"there already: {there}; nothing was written" in calib.fails("spec", "new", "--yes")
    assert (files(place), (place / there).read_text()) == ([there], "mine\n")


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["-n", "a-b"], "'a-b' is no name", 1),
        (["-r", "nowhere.csv"], "there is no file nowhere.csv", 1),
        (["-g", "sum:events"], "is not sum:FIELD:AMOUNT", 1),
        (["-g", "fill\nx: 1"], "says no grouping", 1),
        (["-g", "count: {runs: 1}"], "at least 2", 2),
        (["-g", "filll"], "workflow_specs/calibration.yaml:9:15:", 2),
        (["-g", "sum:lumi:5"], "workflow_specs/calibration.yaml:9:", 2),
        (["-p", "two words"], "is not a tag", 2),
        (["-j", "fit {{ nothing }}"], "nothing", 2),
    ],
)
def test_what_cannot_be_meant_writes_nothing(
    arguments: list[str], said: str, code: int, place: Path, calib: Calib
) -> None:
    assert said in calib.fails("spec", "new", "--yes", *arguments, code=code)
    assert files(place) == []
    assert not (place / "workflow_specs").exists()


def test_what_is_there_is_not_broken_by_a_second_workflow_of_its_name_or_tag(place: Path, calib: Calib) -> None:
    calib.plain("spec", "new", "--yes")
    (place / "workflow_specs" / "calibration.yaml").rename(place / "workflow_specs" / "first.yaml")
    before = files(place)
    said = calib.fails("spec", "new", "--yes")
    assert "there already: the workflow calibration in workflow_specs/first.yaml" in said
    said = calib.fails("spec", "new", "--yes", "-n", "other", "-p", "CalibrationConstants")
    assert "the tag CalibrationConstants is published by calibration (workflow_specs/first.yaml)" in said
    assert files(place) == before
    calib.plain("spec", "check")


@pytest.mark.parametrize("name", ["sources", "categories", "calib_system", "calib_problems"])
def test_names_of_files_that_are_no_workflows(name: str, place: Path, calib: Calib) -> None:
    assert "is no file of a workflow" in calib.fails("spec", "new", "--yes", "-n", name)
    assert files(place) == []


@pytest.mark.parametrize("after", range(7))
def test_what_is_interrupted_leaves_nothing_behind(
    after: int, place: Path, calib: Calib, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []

    def link(source: Path, target: Path) -> None:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(target)
        shutil.copyfile(source, target)

    monkeypatch.setattr(new_workflow.os, "link", link)
    assert calib("spec", "new", "--yes").exit_code == 130
    assert len(done) == after
    assert list(place.iterdir()) == []


def test_interrupted_at_a_question(place: Path) -> None:
    program = [sys.executable, "-c", "from airflow_calib_provider.cli import main; main()", "spec", "new"]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), env=dict(os.environ),
    ) as asking:  # fmt: skip
        assert asking.stderr is not None
        said = ""
        while "[calibration]" not in said:
            said += asking.stderr.read(1)
        asking.send_signal(signal.SIGINT)
        assert asking.wait(60) == 130
        assert "Traceback" not in asking.stderr.read()
    assert list(place.iterdir()) == []
