"""What `calib spec check` says of files and programs that are not there, and of folders without workflows."""

from __future__ import annotations

import json
import os
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


ITERATE = """\
    iterate:
      constants: {file: constants.json, from: {file: /start.json}}
      phases:
        fit: {measure: &same {command: [/nowhere/measure]}, update: {command: [jobs/update.sh]}, visits: 2}
        again: {measure: *same, update: {command: [echo, "$CALIB_OUT"]}, visits: 1}
"""


def test_the_commands_of_what_iterates(complete: World, calib: Calib) -> None:
    edit(complete, "    jobs: {command: [echo, hello]}\n", ITERATE)
    lines = [line.partition("demo.yaml:")[2].partition(";")[0] for line in warned(calib)]
    assert lines == [
        "13:54: the first constants /start.json do not exist",
        "15:41: the program /nowhere/measure does not exist",
        "15:80: the program jobs/update.sh is looked for in the folder where it is started, not beside this file",
        "16:58: $CALIB_OUT stays as it is: no shell reads it",
    ]


def test_a_query_for_inputs(complete: World, calib: Calib) -> None:
    edit(complete, "split: {count: 2}, ", "inputs: {command: [/nowhere/query]}, split: {count: 2}, ")
    (line,) = warned(calib)
    assert "the program /nowhere/query does not exist" in line


class TestOnKubernetes:
    """A pod has the files of its image, and those of its volumes."""

    def on_kubernetes(self, world: World, command: str, volumes: str = "{}") -> None:
        block = f"{{image: calib/fit, spool: {{pvc: calib}}, volumes: {volumes}}}"
        edit(world, '["{{ spec.folder }}/../jobs/skim.sh"]', f"{command}, kubernetes: {block}")
        edit(world, "    jobs: {split", "    backend: kubernetes\n    jobs: {split")

    def test_the_program_of_an_image_is_not_looked_for(self, complete: World, calib: Calib) -> None:
        self.on_kubernetes(complete, "[/opt/fit/bin/fit]")
        assert warned(calib) == []

    def test_a_file_beside_the_specs_is_on_a_volume_or_not_there(self, complete: World, calib: Calib) -> None:
        self.on_kubernetes(complete, '["{{ spec.folder }}/../jobs/skim.sh"]')
        (line,) = warned(calib)
        assert f"the jobs do not see {complete.folder / 'jobs' / 'skim.sh'}, which is on none of the volumes" in line
        assert "kubernetes.volumes" in line

    def test_a_file_on_a_volume_is_looked_for(self, complete: World, calib: Calib) -> None:
        volumes = f"{{programs: {{host_path: {complete.folder}, mount: {complete.folder}}}}}"
        self.on_kubernetes(complete, '["{{ spec.folder }}/../jobs/skim.sh"]', volumes)
        assert warned(calib) == []
        (complete.folder / "jobs" / "skim.sh").unlink()
        assert "does not exist" in warned(calib)[0]


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


def test_files_that_look_like_specs_and_are_not_read(complete: World, calib: Calib) -> None:
    text = (complete.specs / "demo.yaml").read_text()
    (complete.specs / "ecal" / "deep").mkdir(parents=True)
    for name in ("w2.yml", "w3.YAML", ".w4.yaml", "ecal/w5.yaml", "ecal/deep/w6.yml"):
        (complete.specs / name).write_text(text)
    (complete.specs / "compose.yml").write_text("services: {}\n")
    (complete.specs / "ecal" / "fit.yaml").write_text("parameters: [1]\n")
    lines = warned(calib)
    assert [line.split(":")[0].removeprefix("workflow_specs/") for line in lines] == [
        ".w4.yaml",
        "w2.yml",
        "w3.YAML",
        "ecal/w5.yaml",
        "ecal/deep/w6.yml",
    ]
    assert "rename it w2.yaml" in lines[1]
    assert "is in a subfolder that is not read" in lines[3]


def test_a_folder_with_run_sources_of_its_own_is_another_one_of_specs(complete: World, calib: Calib) -> None:
    (complete.specs / "examples").mkdir()
    for name in ("w1.yaml", "sources.yaml"):
        (complete.specs / "examples" / name).write_text("apiVersion: calib/v1\n")
    assert warned(calib) == []


def test_many_files_that_are_not_read_are_counted(complete: World, calib: Calib) -> None:
    (complete.specs / "old").mkdir()
    for number in range(50):
        (complete.specs / "old" / f"w{number}.yaml").write_text("apiVersion: calib/v1\n")
    lines = warned(calib)
    assert len(lines) == 21
    assert "30 more files are not read" in lines[-1]


def test_names_that_differ_in_capitals_only(complete: World, calib: Calib) -> None:
    text = (complete.specs / "other.yaml").read_text()
    (complete.specs / "capitals.yaml").write_text(text.replace("workflow: other", "workflow: Other"))
    (line,) = warned(calib)
    assert "differ in capitals only" in line


@pytest.mark.parametrize("how", ["renamed", "deleted", "renamed file"])
def test_a_stub_of_no_workflow(complete: World, calib: Calib, how: str) -> None:
    calib.plain("spec", "stubs")
    Path("dags/mine.py").write_text("from airflow_calib_provider.dags.factory import build_dag\n")
    other = 'from airflow_calib_provider.dags.factory import workflow_dags\nworkflow_dags(__file__, "%s")\n'
    Path("elsewhere.yaml").write_text("x")
    Path("dags/elsewhere.py").write_text(other % "../elsewhere.yaml")
    assert calib("spec", "stubs", "--check").exit_code == 0
    file = complete.specs / "third.yaml"
    text = file.read_text()
    file.unlink()
    if how != "deleted":
        name = "fourth" if how == "renamed" else "third"
        (complete.specs / f"{name}.yaml").write_text(text.replace("third", "fourth"))
    found = calib("spec", "stubs", "--check")
    assert found.exit_code == 1
    assert "warning: dags/third.py is a stub of no workflow any more; remove it" in found.stderr
    calib.plain("spec", "stubs")
    assert Path("dags/third.py").exists()
    assert json.loads(calib("spec", "stubs", "--check", "--json").stdout)["dead"] == ["dags/third.py"]
    Path("dags/third.py").unlink()
    assert calib("spec", "stubs", "--check").exit_code == 0


def command(world: World, *arguments: str) -> None:
    edit(world, '["{{ spec.folder }}/../jobs/skim.sh"]', json.dumps(list(arguments)))


class TestScripts:
    @pytest.mark.parametrize(
        "before",
        [
            ("python",),
            ("python3.12", "-u", "-W", "ignore"),
            ("/usr/bin/env", "-S", "MODE=fast", "python3"),
            ("bash", "-eu", "-o", "pipefail"),
            ("perl", "-w", "--"),
        ],
    )
    def test_one_that_is_not_there(self, complete: World, calib: Calib, before: tuple[str, ...]) -> None:
        command(complete, *before, "/no/such.py", "/not/there/either.txt")
        (line,) = warned(calib)
        assert "the script /no/such.py does not exist" in line
        text = (complete.specs / "demo.yaml").read_text().splitlines()
        row, column = (int(part) for part in line.split(":")[1:3])
        assert text[row - 1][column - 1 :].startswith('"/no/such.py"')

    def test_relative_ones(self, complete: World, calib: Calib) -> None:
        command(complete, "python", "../jobs/select.py")
        (line,) = warned(calib)
        assert "../jobs/select.py leads out of the folder where the job runs (CALIB_OUT)" in line
        assert 'write "{{ spec.folder }}/…"' in line

    def test_one_without_a_folder(self, complete: World, calib: Calib) -> None:
        command(complete, "sh", "run.sh")
        (line,) = warned(calib)
        assert "the script run.sh is looked for in the folder where the job runs (CALIB_OUT)" in line

    @pytest.mark.parametrize(
        "good",
        [
            ("python", "-c", "print(1)", "/no/such.py"),
            ("python", "-m", "fit", "/data/none.root"),
            ("bash", "-ec", "cd /no/such && ls"),
            ("sh", "-", "x"),
            ("python", "{{ params.script }}"),
            ("python", "{{ spec.folder }}/../jobs/skim.sh", "--name", "out/x.root"),
            ("cat", "/no/such.py", "a..b", "https://host/../x"),
            ("python",),
        ],
    )
    def test_what_is_as_it_should_be(self, complete: World, calib: Calib, good: tuple[str, ...]) -> None:
        edit(complete, "defaults: {retries: 1}", "params: {script: x.py}\ndefaults: {retries: 1}")
        command(complete, *good)
        assert warned(calib) == []

    def test_files_that_the_pool_brings(self, complete: World, calib: Calib) -> None:
        edit(
            complete,
            'command: ["{{ spec.folder }}/../jobs/skim.sh"]',
            'condor: {transfer: true, files: ["{{ spec.folder }}/../jobs/skim.sh"]}, command: [sh, skim.sh]',
        )
        edit(complete, "defaults: {retries: 1}", "defaults: {retries: 1, backend: condor}")
        assert warned(calib) == []

    def test_of_a_query_for_inputs(self, complete: World, calib: Calib) -> None:
        edit(complete, "split: {count: 2}, ", "inputs: {command: [python, /no/query.py]}, split: {count: 2}, ")
        (line,) = warned(calib)
        assert "the script /no/query.py does not exist" in line


class TestPaths:
    @pytest.mark.parametrize("argument", ["../data/map.root", "--map=../data/map.root", "a/../../map.root"])
    def test_an_argument_that_leads_out(self, complete: World, calib: Calib, argument: str) -> None:
        command(complete, "{{ spec.folder }}/../jobs/skim.sh", argument)
        (line,) = warned(calib)
        assert "leads out of the folder where the job runs" in line

    def test_an_input_that_leads_out(self, complete: World, calib: Calib) -> None:
        edit(complete, "split: {count: 2}, ", 'inputs: ["/data/a", "../data/b"], split: {count: 2}, ')
        (line,) = warned(calib)
        assert "the input ../data/b leads out" in line

    @pytest.mark.parametrize(
        ("argument", "said", "instead"),
        [
            ("|", "'|' is an argument like any other", "for a shell"),
            ("$CALIB_INPUTS", "$CALIB_INPUTS stays as it is", "{{ job.inputs_file }}"),
            ("--in=${HOME}/x", "--in=${HOME}/x stays as it is", "for a shell"),
            ("{ run.number }", "a template has two braces", "{{ run.number }}"),
            ("--run={run.number}", "a template has two braces", "{{ run.number }}"),
        ],
    )
    def test_a_word_that_nobody_reads(
        self, complete: World, calib: Calib, argument: str, said: str, instead: str
    ) -> None:
        command(complete, "cat", argument)
        (line,) = warned(calib)
        assert said in line
        assert instead in line

    def test_words_that_are_meant_as_they_are(self, complete: World, calib: Calib) -> None:
        command(complete, "awk", "-F", "|", "{print $2}", "{a,b}", "$1", '{\\"run\\": 1}', "costs $5")
        assert warned(calib) == []

    @pytest.mark.parametrize("file", ["o.txt", "/data/o.txt", "{{ spec.folder }}/o.txt", "{{ group.name }}.txt"])
    def test_a_published_file_that_no_task_makes(self, complete: World, calib: Calib, file: str) -> None:
        edit(complete, "{{ tasks.scale.products.constants }}", file)
        (line,) = warned(calib)
        assert f"no task makes the file {file} that is published" in line
        assert 'write "{{ tasks.scale.products.constants }}"' in line


@pytest.mark.timeout(60)
def test_what_is_no_file_is_not_waited_for(complete: World, calib: Calib) -> None:
    os.mkfifo(complete.specs / "pipe.yml")
    (complete.specs / "zero.yml").symlink_to("/dev/zero")
    assert warned(calib) == []


def test_a_column_that_the_file_lacks(complete: World, calib: Calib) -> None:
    file = complete.specs / "sources.yaml"
    before = file.read_text()
    file.write_text(before.replace("fields: {", "fields: {lumi_pub: float, ", 1))
    result = calib("spec", "check")
    assert result.exit_code == 0
    assert f"{file.parent / 'runs.csv'}:1:lumi_pub: there is no column 'lumi_pub'" in result.stderr
    assert result.stderr.startswith("warning: ")


def test_a_payload_that_is_published_after_what_waits_for_it(complete: World, calib: Calib) -> None:
    edit(complete, "    needs: [skim]\n", "    needs: [skim]\n    locks: [{payload: {tag: Scale}}]\n")
    (line,) = warned(calib)
    assert "published after what waits for it: demo.scale → demo.deliver → demo.scale" in line


def test_groups_of_late_runs_that_wait_for_runs_in_no_group(complete: World, calib: Calib) -> None:
    edit(complete, "short: drop}", "short: drop, late_runs: new_group}")
    (line,) = warned(calib)
    assert "groups of late runs wait for skim, whose grouping 'run' has late runs in none" in line
    edit(complete, "group_by: run", "group_by: {run: {late_runs: new_group}}")
    assert warned(calib) == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("workflow: demmo, task: skim, product: pairs", "no workflow 'demmo'; did you mean 'demo'?"),
        ("workflow: demo, task: skin, product: pairs", "the workflow 'demo' has no task 'skin'; did you mean 'skim'?"),
        ("workflow: demo, task: skim, product: pear", "'demo.skim' has no product 'pear', so that this lock never"),
        ("workflow: tracker_alignment, task: skim, product: pairs", ""),
    ],
)
def test_a_lock_on_a_product_that_nobody_makes(complete: World, calib: Calib, names: str, words: str) -> None:
    edit(complete, "    needs: [skim]\n", f"    needs: [skim]\n    locks: [{{product: {{{names}}}}}]\n")
    lines = warned(calib)
    assert len(lines) == bool(words)
    assert all(words in line for line in lines)
