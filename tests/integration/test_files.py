"""Files that change under a running Airflow: a broken edit stops nothing, and a generation runs its own commit."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1500)]

WORKFLOW = "files"
DAG = f"{WORKFLOW}__run"


def git(installation: Installation, *arguments: str) -> str:
    folder = installation.folder / "installation"
    who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(installation: Installation) -> str:
    git(installation, "add", "-A", ".")
    git(installation, "commit", "-q", "--allow-empty", "-m", "edit")
    return git(installation, "rev-parse", "HEAD")


@pytest.fixture(scope="module", autouse=True)
def repository(installation: Installation) -> Iterator[None]:
    """The specs and what they run are a checkout."""
    installation.add_workflow(WORKFLOW)
    git(installation, "init", "-q")
    (installation.folder / "installation" / ".gitignore").write_text("__pycache__\n")
    commit(installation)
    installation.control_job(4001, "hold")
    installation.control_job(4002, "always")
    installation.add_runs(range(4001, 4003))
    script = installation.folder / "installation" / "job.sh"
    text = script.read_text()
    assert installation.inject() == "success"
    # What has begun has begun with the commit, before a test edits anything.
    wait_for(installation, 4001, "processing")
    wait_for(installation, 4002, "failed")
    yield
    shutil.rmtree(installation.folder / "installation" / ".git")
    script.write_text(text)


def spec(installation: Installation) -> Path:
    return installation.specs / f"{WORKFLOW}.yaml"


def wait_for(installation: Installation, run: int, wanted: str) -> None:
    def arrived() -> bool:
        return installation.task_states().get((f"{WORKFLOW}/run-r{run}", "work")) == wanted

    installation.wait(arrived, 400, f"run {run} to be {wanted}")


def import_errors(installation: Installation) -> dict[str, str]:
    found = installation.airflow.call("GET", "/api/v2/importErrors")["import_errors"]
    return {Path(item["filename"]).name: item["stack_trace"] for item in found}


def test_a_broken_edit_stops_nothing_and_is_seen(installation: Installation) -> None:
    wait_for(installation, 4001, "processing")
    text = spec(installation).read_text()
    installation.edit(spec(installation), text.replace("jobs:", "jbos:", 1).replace("source:", "sorce:"))
    errors = installation.wait(lambda: import_errors(installation), 120, "an import error")
    assert list(errors) == ["calib_problems.py"], errors
    lines = [line for line in errors["calib_problems.py"].splitlines() if f"{WORKFLOW}.yaml:" in line]
    assert len(lines) == len(set(lines)) >= 3
    # What runs comes to its end, what follows in its DAG run too, and new runs enter.
    (installation.control / "4001").unlink()
    wait_for(installation, 4001, "done")
    installation.add_runs([4003])
    assert installation.inject() == "failed"
    wait_for(installation, 4003, "done")
    assert not installation.airflow.call("GET", f"/api/v2/dags/{DAG}")["is_stale"]
    said = installation.calib("explain", "4003", "--workflow", WORKFLOW)
    assert f"{WORKFLOW}.yaml cannot be used as it is; what was good last goes on" in said
    assert said.count("unknown key 'sorce'") == 1
    installation.edit(spec(installation), text)
    installation.wait(lambda: not import_errors(installation), 120, "no import error")
    assert installation.inject() == "success"


def test_a_stub_that_is_deleted_while_groups_are_open(installation: Installation) -> None:
    stub = installation.folder / "installation" / "dags" / f"{WORKFLOW}.py"
    text = stub.read_text()
    installation.control_job(4004, "hold")
    installation.add_runs([4004])
    assert installation.inject() == "success"
    wait_for(installation, 4004, "processing")
    stub.unlink()
    stale = lambda: installation.airflow.call("GET", f"/api/v2/dags/{DAG}")["is_stale"]  # noqa: E731
    installation.wait(stale, 240, "Airflow to miss the stub")
    # The jobs are the triggerer's and go on; what comes after them is not started, and that is told.
    said = installation.calib("explain", "4004", "--workflow", WORKFLOW)
    assert f"Airflow has no file of the DAG {DAG}" in said
    assert "calib spec stubs" in said
    (installation.control / "4004").unlink()
    wait_for(installation, 4004, "done")
    stub.write_text(text)
    installation.wait(lambda: not stale(), 240, "Airflow to find the stub again")


def test_a_workflow_that_is_renamed_while_groups_are_open(installation: Installation) -> None:
    text = spec(installation).read_text()
    installation.control_job(4005, "hold")
    installation.add_runs([4005])
    assert installation.inject() == "success"
    wait_for(installation, 4005, "processing")
    installation.edit(
        spec(installation),
        text.replace(f"workflow: {WORKFLOW}", "workflow: filed", 1)
        .replace("Files", "Filed")
        .replace("since: 1}", "since: 4999}"),
    )
    installation.airflow.wait_for_dags("filed__run")
    installation.inject()
    said = installation.calib("explain", "4005", "--workflow", WORKFLOW)
    assert f"no YAML file has the workflow {WORKFLOW} any more" in said
    assert "calib skip" in said
    (installation.control / "4005").unlink()
    installation.edit(spec(installation), text)
    wait_for(installation, 4005, "done")
    assert installation.inject() == "success"


def test_a_fix_is_committed_and_only_the_job_that_failed_runs_again(installation: Installation) -> None:
    wait_for(installation, 4002, "failed")
    installation.wait_run_ended(DAG, "prompt__run-r4002")
    before = git(installation, "rev-parse", "HEAD")
    script = installation.folder / "installation" / "job.sh"
    script.write_text(script.read_text().replace("exit 4", ": mended"))
    fixed = commit(installation)
    executed = installation.executions()
    installation.calib("retry", "run-r4002", "--workflow", WORKFLOW)
    wait_for(installation, 4002, "done")
    again = installation.executions() - executed
    assert {key[0] for key in again} == {4002}
    generation, round_, group = tables.generation, tables.round_, tables.run_group
    rows = installation.rows(
        select(round_.c.git_commit, generation.c.n, generation.c.spec_folder)
        .join(generation, generation.c.id == round_.c.generation_id)
        .join(group, group.c.id == generation.c.group_id)
        .where(group.c.name == "run-r4002", group.c.workflow == WORKFLOW, generation.c.task == "work")
        .order_by(round_.c.n)
    )
    assert {row.n for row in rows} == {1}
    assert (rows[0].git_commit, rows[-1].git_commit) == (before, fixed)
    assert rows[-1].spec_folder == str(installation.home / "code" / fixed / "workflow_specs")
