"""What `calib spec check` says of files and programs that are not there, and of folders without workflows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Calib
from tests.cli.world import World


@pytest.fixture
def complete(world: World) -> World:
    """Nothing is missing: there is the CSV file, and demo.skim runs a program beside the YAML files."""
    world.runs()
    program = world.folder / "jobs" / "skim.sh"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    edit(
        world,
        'command: [echo, "{{ run.number }}", "{{ job.index }}"]',
        'command: ["{{ spec.folder }}/../jobs/skim.sh"]',
    )
    return world


def edit(world: World, before: str, after: str) -> None:
    file = world.specs / "demo.yaml"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))


def warned(calib: Calib) -> list[str]:
    """The warnings; each is also in the JSON of the DAGs that it concerns, and an error with ``--strict``."""
    result = calib("spec", "check")
    assert result.exit_code == 0
    assert "demo__run" in result.stdout
    lines = [line.removeprefix("warning: ") for line in result.stderr.splitlines()]
    dags = json.loads(calib("spec", "check", "--json").stdout)
    assert {item["message"] for dag in dags for item in dag["warnings"]} == {said(line) for line in lines}
    strict = calib("spec", "check", "--strict")
    assert strict.exit_code == (2 if lines else 0)
    assert [line for line in strict.stderr.splitlines() if line] == lines
    return lines


def said(line: str) -> str:
    return line.split(": ", 1)[1].split(";")[0]


def test_nothing_is_missing(complete: World, calib: Calib) -> None:
    assert warned(calib) == []


def test_a_source_without_its_file(complete: World, calib: Calib) -> None:
    file = complete.specs / "runs.csv"
    file.unlink()
    (line,) = warned(calib)
    assert line.startswith("workflow_specs/sources.yaml:4:17: ")
    assert f"the file {file} of the run source 'daq' does not exist" in line
    file.mkdir()
    assert "is a folder" in warned(calib)[0]


def test_a_path_with_an_environment_variable(complete: World, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = complete.specs / "sources.yaml"
    sources.write_text(sources.read_text().replace("path: runs.csv", 'path: "{{ env.CALIB_RUNS_FILE }}"'))
    monkeypatch.delenv("CALIB_RUNS_FILE", raising=False)
    assert warned(calib) == []
    monkeypatch.setenv("CALIB_RUNS_FILE", "/nowhere/runs.csv")
    assert "/nowhere/runs.csv" in warned(calib)[0]


def test_a_program_that_is_not_there(complete: World, calib: Calib) -> None:
    program = complete.folder / "jobs" / "skim.sh"
    program.chmod(0o644)
    (line,) = warned(calib)
    assert line.startswith("workflow_specs/demo.yaml:8:")
    assert f"the program {program} is not executable; chmod +x {program}" in line
    program.unlink()
    assert f"the program {program} does not exist" in warned(calib)[0]


def test_a_program_beside_the_file_needs_the_folder(complete: World, calib: Calib) -> None:
    edit(complete, '["{{ spec.folder }}/../jobs/skim.sh"]', "[jobs/skim.sh]")
    (line,) = warned(calib)
    assert "jobs/skim.sh is looked for in the folder where it is started" in line
    assert "{{ spec.folder }}" in line


def test_a_query_for_inputs(complete: World, calib: Calib) -> None:
    edit(complete, "split: {count: 2}, ", "inputs: {command: [/nowhere/query]}, split: {count: 2}, ")
    (line,) = warned(calib)
    assert "the program /nowhere/query does not exist" in line


@pytest.mark.parametrize(
    "first",
    [
        "python",
        '"{{ spec.folder + 1 }}/x"',
        '"{{ spec.folder[999].x }}"',
        '"{{ params.program }}"',
        '"{{ spec.folder }}/{{ group.name }}.sh"',
    ],
)
def test_programs_that_cannot_be_looked_at(complete: World, calib: Calib, first: str) -> None:
    edit(complete, '["{{ spec.folder }}/../jobs/skim.sh"]', f"[{first}]")
    edit(complete, "defaults: {retries: 1}", "params: {program: /nowhere/else}\ndefaults: {retries: 1}")
    assert warned(calib) == []


def test_a_folder_without_workflows(world: World, calib: Calib) -> None:
    Path("empty").mkdir()
    assert "empty:0:0: there are no workflows" in calib.fails("spec", "check", "empty", code=2)
    for file in world.specs.glob("[!s]*.yaml"):
        file.rename(file.with_suffix(".yml"))
    stderr = calib.fails("spec", "check", code=2)
    assert "rename demo.yml, other.yml, third.yml: their names must end in .yaml" in stderr
