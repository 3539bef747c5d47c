"""Specs from bare git repositories through Airflow's GitDagBundle: what commits do to what runs, and two teams."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import spec_files, tables
from tests.integration.conftest import Running
from tests.integration.harness import HERE, Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1500)]

SECONDS = 10
SETTINGS = {
    # As docs/git.md has them.
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": str(SECONDS),
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": str(SECONDS),
}
SPEC = """\
apiVersion: calib/v1
workflow: {name}
owner: tests
runs: {{source: {source}, since: 1}}
defaults: {{retries: 0}}
tasks:
  work:
    group_by: run
    jobs:
      split: {{count: 2}}
      command: ["{{{{ spec.folder }}}}/../job.sh", "{{{{ run.number }}}}", "{{{{ job.index }}}}"]
      environment: {{TOY_CONTROL: "{{{{ env.TOY_CONTROL }}}}"}}
    products: {{result: result.txt}}
  after:
    group_by: run
    needs: [work]
    jobs: {{command: [sh, -c, "cat {{{{ spec.folder }}}}/../word > word.txt; echo first >> word.txt"]}}
    products: {{word: word.txt}}
"""
MORE = """\
  more:
    group_by: run
    needs: [after]
    jobs: {command: [sh, -c, "echo more > more.txt"]}
    products: {more: more.txt}
"""


class Repository:
    """A bare repository that Airflow follows, and the clone in which a person works."""

    def __init__(self, folder: Path, name: str, team: str, spec: str, control: Path) -> None:
        self.bare, self.work, self.name = folder / f"{name}.git", folder / name, name
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self.bare)], check=True)
        subprocess.run(["git", "clone", "-q", str(self.bare), str(self.work)], check=True, capture_output=True)
        for part in ("dags", "workflow_specs"):
            (self.work / part).mkdir()
        for stub in ("calib_system.py", "calib_problems.py"):
            shutil.copy(HERE / "installation" / "dags" / stub, self.work / "dags")
        job = (HERE / "installation" / "job.sh").read_text()
        # Of such a run the second job fails alone.
        job = job.replace("always) echo", 'always) [ "$job" = 1 ] || { echo ok > result.txt; exit 0; }; echo')
        (self.work / "job.sh").write_text(job)
        (self.work / "job.sh").chmod(0o755)
        (self.work / "word").write_text("old\n")
        line = f"team: {team}\n" if team else ""
        place = "{{ env.CALIB_TEST_RUNS }}"
        fields = "{start: time, end: time, fill: int, luminosity: float, completed: bool, files: string}"
        source = f'{{csv: {{path: "{place}/{name}.csv"}}, fields: {fields}}}'
        self.write("workflow_specs/sources.yaml", f"apiVersion: calib/v1\n{line}sources:\n  {name}: {source}\n")
        self.control = control
        self.add_workflow(spec)
        self.push()

    def write(self, file: str, text: str) -> None:
        (self.work / file).write_text(text)

    def text(self, workflow: str) -> str:
        return SPEC.format(name=workflow, source=self.name).replace("{{ env.TOY_CONTROL }}", str(self.control))

    def add_workflow(self, workflow: str) -> None:
        self.write(f"workflow_specs/{workflow}.yaml", self.text(workflow))
        shutil.copy(HERE / "installation" / "dags" / "toy.py", self.work / "dags" / f"{workflow}.py")

    def push(self) -> str:
        """Commit all, and push; the commit."""
        who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")
        for arguments in (("add", "-A"), ("commit", "-q", "-m", "edit"), ("push", "-q", "origin", "HEAD:main")):
            subprocess.run(["git", *who, *arguments], cwd=self.work, check=True, capture_output=True)
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=self.work, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def bundle(self) -> dict[str, Any]:
        kwargs = {"repo_url": str(self.bare), "tracking_ref": "main", "subdir": "dags", "refresh_interval": SECONDS}
        return {"name": self.name, "classpath": "airflow.providers.git.bundles.git.GitDagBundle", "kwargs": kwargs}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, Repository]:
    folder = tmp_path_factory.mktemp("repositories")
    control = folder / "control"
    control.mkdir()
    return Repository(folder, "ecal", "", "gain", control), Repository(folder, "hcal", "hcal", "pulses", control)


@pytest.fixture(scope="module")
def installation(
    running: Running, tmp_path_factory: pytest.TempPathFactory, repositories: tuple[Repository, Repository]
) -> Installation:
    """An Airflow of its own: its DAGs come from two repositories."""
    running.ending.close()
    folder = tmp_path_factory.mktemp("git")
    bundles = json.dumps([item.bundle() for item in repositories])
    settings = {
        **SETTINGS,
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": bundles,
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(folder / "bundles"),
    }
    made = Installation(folder, settings)
    made.control = repositories[0].control
    running.ending.callback(made.stop)
    running.group, running.installation = "git", made
    for item in repositories:
        made.take_runs_from(item.name)
    made.start()
    made.airflow.wait_for_dags("calib_inject", "calib_inject_hcal", "gain__run", "pulses__run")
    return made


@pytest.fixture
def ecal(repositories: tuple[Repository, Repository], installation: Installation) -> Repository:
    installation.take_runs_from("ecal")
    return repositories[0]


def inject(installation: Installation, team: str = "") -> str:
    dag_id = f"calib_inject_{team}" if team else "calib_inject"
    run_id = installation.airflow.trigger(dag_id)
    state = lambda: installation.airflow.run_state(dag_id, run_id)  # noqa: E731
    installation.wait(lambda: state() in ("success", "failed"), 300, dag_id)
    return state()


def state_of(installation: Installation, group: str, task: str) -> str:
    return installation.task_states().get((group, task), "")


def wait_for(installation: Installation, group: str, task: str, wanted: str) -> None:
    installation.wait(lambda: state_of(installation, group, task) == wanted, 300, f"{task} of {group} to be {wanted}")


def inject_until(installation: Installation, workflow: str, commit: str) -> None:
    """Airflow fetches every few seconds; the injection after that knows the commit."""

    def known() -> bool:
        inject(installation)
        with installation.ledger.read() as connection:
            owner = spec_files.owner_of(connection, workflow)
        return owner is not None and owner.version == commit

    installation.wait(known, 200, f"{commit} to be injected")


def commits(installation: Installation, group: str, task: str) -> list[str]:
    """The commits of the rounds of a task of a group."""
    generation, round_, run_group = tables.generation, tables.round_, tables.run_group
    query = (
        select(round_.c.git_commit)
        .join(generation, generation.c.id == round_.c.generation_id)
        .join(run_group, run_group.c.id == generation.c.group_id)
        .where(run_group.c.name == group, run_group.c.workflow == "gain", generation.c.task == task)
        .order_by(generation.c.n, round_.c.n)
    )
    return [row.git_commit for row in installation.rows(query)]


def product(installation: Installation, group: str, task: str) -> str:
    (file,) = installation.home.glob(f"products/prompt/gain/{task}/{group}/**/word.txt")
    return file.read_text()


def import_errors(installation: Installation) -> dict[str, str]:
    found = installation.airflow.call("GET", "/api/v2/importErrors")["import_errors"]
    return {f"{item['bundle_name']}/{Path(item['filename']).name}": item["stack_trace"] for item in found}


def failures_of_the_last_day(installation: Installation) -> int:
    """What Airflow's home page counts."""
    since = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = installation.airflow.call("GET", f"/ui/dashboard/historical_metrics_data?start_date={since}")
    return int(found["dag_run_states"]["failed"])


def test_a_commit_becomes_a_dag_within_half_a_minute(installation: Installation, ecal: Repository) -> None:
    ecal.add_workflow("noise")
    ecal.write("workflow_specs/noise.yaml", ecal.text("noise").replace("since: 1", 'where: "run.fill == 2"'))
    ecal.push()
    begun = time.monotonic()
    installation.airflow.wait_for_dags("noise__run", timeout=120)
    took = time.monotonic() - begun
    print(f"a commit was a DAG after {took:.1f} s")
    assert took < 30


def test_what_has_begun_ends_with_its_commit_and_what_has_not_takes_the_newest(
    installation: Installation, ecal: Repository
) -> None:
    installation.control_job(5001, "hold")
    installation.control_job(5002, "always")
    installation.add_runs([5001, 5002])
    assert inject(installation) == "success"
    wait_for(installation, "gain/run-r5001", "work", "processing")
    wait_for(installation, "gain/run-r5002", "work", "failed")
    installation.wait_run_ended("gain__run", "prompt__run-r5002")
    (first,) = commits(installation, "run-r5001", "work")
    (failed_with,) = commits(installation, "run-r5002", "work")  # Another one, if Airflow fetched in between.
    assert failures_of_the_last_day(installation) >= 1, "the run is of January, its failure of today"
    # A fix, an edit of what has not begun, and a task more.
    ecal.write("job.sh", (ecal.work / "job.sh").read_text().replace("exit 4", ": mended"))
    ecal.write("word", "new\n")
    ecal.write("workflow_specs/gain.yaml", ecal.text("gain").replace("echo first", "echo second") + MORE)
    second = ecal.push()
    inject_until(installation, "gain", second)
    (installation.control / "5001").unlink()
    wait_for(installation, "gain/run-r5001", "after", "done")
    run = installation.airflow.call("GET", "/api/v2/dags/gain__run/dagRuns/prompt__run-r5001")
    assert run["bundle_version"] == first, "Airflow has pinned it"
    assert commits(installation, "run-r5001", "work") == [first]
    assert commits(installation, "run-r5001", "after") == [second]
    assert product(installation, "run-r5001", "after") == "new\nsecond\n"
    installation.wait_run_ended("gain__run", "prompt__run-r5001")
    assert state_of(installation, "gain/run-r5001", "more") == "new"
    said = installation.calib(
        "explain", "run-r5001", "--workflow", "gain", "--specs", str(ecal.work / "workflow_specs")
    )
    assert "does not have more, which its workflow got later" in said
    installation.calib("retry", "run-r5001", "--workflow", "gain")
    wait_for(installation, "gain/run-r5001", "more", "done")
    events = installation.airflow.call("GET", "/api/v2/assets/events?source_dag_id=gain__run&limit=100")["asset_events"]
    told = {(item["source_task_id"], item["extra"]["group"]): item["extra"] for item in events}
    expected = {"campaign": "prompt", "runs": "5001", "n_runs": 1, "generation": 1, "commit": second}
    assert told["after", "run-r5001"].items() >= expected.items()
    task = "/api/v2/dags/gain__run/dagRuns/prompt__run-r5001/taskInstances/after"
    links = installation.airflow.call("GET", f"{task}/links")["extra_links"]
    assert links == {"What it waits for": None, "YAML": "/dags/gain__run"}
    # The fix is taken by a retry; the job that is done is not run again.
    executed = installation.executions()
    installation.calib("retry", "run-r5002", "--workflow", "gain")
    wait_for(installation, "gain/run-r5002", "more", "done")
    assert commits(installation, "run-r5002", "work") == [failed_with, second]
    assert {key[:2] for key in installation.executions() - executed} == {(5002, 1)}


def wait_until_it_fails(installation: Installation, *team: str) -> None:
    """An import error of one file is there before the others are known in that commit, calib_system.py among them."""
    installation.wait(lambda: inject(installation, *team) == "failed", 120, "an injection that tells the mistake")


def test_a_broken_commit_and_a_lost_checkout_stop_nothing(installation: Installation, ecal: Repository) -> None:
    good = (ecal.work / "workflow_specs" / "gain.yaml").read_text()
    installation.control_job(5003, "hold")
    installation.add_runs([5003])
    assert inject(installation) == "success"
    wait_for(installation, "gain/run-r5003", "work", "processing")
    ecal.write("workflow_specs/gain.yaml", good.replace("jobs:", "jbos:", 1))
    ecal.push()
    errors = installation.wait(lambda: import_errors(installation), 120, "an import error")
    assert list(errors) == ["ecal/calib_problems.py"]
    assert "unknown key 'jbos'" in errors["ecal/calib_problems.py"]
    # As Airflow's clean-up would, and more.
    shutil.rmtree(installation.folder / "bundles" / "ecal" / "versions")
    (installation.control / "5003").unlink()
    wait_for(installation, "gain/run-r5003", "more", "done")
    installation.add_runs([5004])
    wait_until_it_fails(installation)
    wait_for(installation, "gain/run-r5004", "more", "done")
    assert inject(installation, "hcal") == "success", "the other team has nothing to do with it"
    ecal.write("workflow_specs/gain.yaml", good)
    inject_until(installation, "gain", ecal.push())


def test_two_teams_side_by_side_and_a_workflow_of_one_name(
    installation: Installation, repositories: tuple[Repository, Repository]
) -> None:
    _, hcal = repositories
    assert inject(installation) == "success"
    installation.take_runs_from("hcal")
    installation.add_runs([6001])
    assert inject(installation, "hcal") == "success"
    wait_for(installation, "pulses/run-r6001", "after", "done")
    hcal.add_workflow("gain")
    hcal.push()

    def told() -> dict[str, str]:
        found = import_errors(installation)
        return {file: said for file, said in found.items() if file == "hcal/calib_problems.py"}

    (said,) = installation.wait(told, 120, "an import error").values()
    assert "the workflow gain is that of gain.yaml of those without a team, in the bundle ecal, already" in said
    wait_until_it_fails(installation, "hcal")
    assert inject(installation) == "success"
    dag = installation.airflow.call("GET", "/api/v2/dags/gain__run/details")
    assert (dag["bundle_name"], dag["is_stale"]) == ("ecal", False)
    assert not any(group.startswith("gain/run-r6") for group, _ in installation.task_states())
