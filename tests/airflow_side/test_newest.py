"""What has not begun takes the newest good commit of a real GitDagBundle, whatever commit it is run from."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.providers.git.bundles.git import GitDagBundle

from airflow_calib_provider.hooks.newest import newest
from airflow_calib_provider.injection.inject import inject_folder
from airflow_calib_provider.injection.teams import Bundles
from airflow_calib_provider.ledger import schema
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.operators.jobs import JobsOperator
from airflow_calib_provider.spec.loader import load_workflow
from airflow_calib_provider.spec.models import Workflow

SOURCES = 'apiVersion: calib/v1\nsources: {{daq: {{csv: {{path: "{runs}"}}}}}}\n'
SPEC = """\
apiVersion: calib/v1
workflow: gain
runs: {source: daq, since: 1}
tasks:
  fit: {group_by: run, jobs: {command: [fit]}, products: {out: o.txt}}
  plot: {group_by: run, needs: [fit], jobs: {command: [plot]}, products: {out: o.txt}}
"""


class Site:
    """A repository, its bundle, and a ledger."""

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self.root, self.ledger, self.work = root, ledger, root / "work"
        self.bare = root / "specs.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self.bare)], check=True)
        subprocess.run(["git", "clone", "-q", str(self.bare), str(self.work)], check=True, capture_output=True)
        (self.work / "workflow_specs").mkdir()
        (root / "runs.csv").write_text("number\n7\n")
        (self.work / "workflow_specs" / "sources.yaml").write_text(SOURCES.format(runs=root / "runs.csv"))

    def commit(self, text: str, *push: str) -> str:
        (self.work / "workflow_specs" / "gain.yaml").write_text(text)
        who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")
        push = push or ("push", "-q", "origin", "HEAD:main")
        for arguments in (("add", "-A"), ("commit", "-q", "--allow-empty", "-m", "edit"), push):
            subprocess.run(["git", *who, *arguments], cwd=self.work, check=True, capture_output=True)
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=self.work, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def inject(self, commit: str) -> None:
        folder = self.checkout(commit).repo_path / "workflow_specs"
        now = datetime(2026, 3, 1, tzinfo=UTC)
        report, errors = inject_folder(self.ledger, folder, now=now, bundles=Bundles("calib", version=commit))
        assert (report.errors, errors) == ([], [])

    def checkout(self, commit: str) -> GitDagBundle:
        bundle = DagBundlesManager().get_bundle("calib", commit)
        bundle.initialize()
        assert isinstance(bundle, GitDagBundle)
        return bundle

    def context(self, commit: str) -> Any:
        """Of a task that Airflow runs from this commit."""
        return {"ti": SimpleNamespace(bundle_instance=self.checkout(commit))}

    def workflow(self, commit: str) -> Workflow:
        return load_workflow(self.checkout(commit).repo_path / "workflow_specs" / "gain.yaml")

    def newest(self, pinned: str) -> tuple[str, str | None]:
        """The command of its first task, and the commit."""
        with newest(self.ledger, self.workflow(pinned), self.context(pinned)) as (workflow, commit):
            jobs = workflow.tasks["fit"].jobs
            assert jobs is not None
            return str(jobs.command[0] if jobs.command else ""), commit


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    schema.upgrade(ledger)
    made = Site(tmp_path, ledger)
    kwargs = {"repo_url": str(made.bare), "tracking_ref": "main", "subdir": "workflow_specs"}
    bundles = [{"name": "calib", "classpath": "airflow.providers.git.bundles.git.GitDagBundle", "kwargs": kwargs}]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))
    return made


def test_the_commit_of_the_last_injection_is_taken(site: Site) -> None:
    first, second = site.commit(SPEC), site.commit(SPEC.replace("[fit]}", "[better]}"))
    site.inject(first)
    assert site.newest(first) == ("fit", first)
    site.inject(second)
    # Its checkout is made where it is not there.
    shutil.rmtree(site.root / "bundles" / "calib" / "versions" / second)
    assert site.newest(first) == ("better", second)


def test_airflows_own_where_it_is_newer(site: Site) -> None:
    first, second = site.commit(SPEC), site.commit(SPEC.replace("[fit]}", "[better]}"))
    site.inject(first)
    assert site.newest(second) == ("better", second)


def test_history_that_was_rewritten(site: Site) -> None:
    first = site.commit(SPEC)
    subprocess.run(["git", "checkout", "-q", "--orphan", "again"], cwd=site.work, check=True, capture_output=True)
    site.newest(first)
    other = site.commit(SPEC.replace("[fit]}", "[better]}"), "push", "-q", "-f", "origin", "HEAD:main")
    site.inject(other)
    assert site.newest(first) == ("better", other)


def test_what_cannot_be_had_leaves_what_there_is(site: Site) -> None:
    first, second = site.commit(SPEC), site.commit(SPEC.replace("[fit]}", "[better]}"))
    site.inject(second)
    checkout = site.context(first)
    workflow = site.workflow(first)
    shutil.rmtree(site.root / "bundles" / "calib" / "versions" / second)
    site.bare.rename(site.root / "moved")
    shutil.rmtree(site.root / "bundles" / "calib" / "bare")
    with newest(site.ledger, workflow, checkout) as (found, commit):
        assert (found, commit) == (workflow, first)


def test_a_task_that_the_newest_commit_lacks_ends_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site.commit(SPEC)
    site.inject(first)
    second = site.commit("\n".join(SPEC.splitlines()[:-1]) + "\n")
    site.inject(second)
    said: dict[str, object] = {}
    push: Callable[[str, object], None] = said.__setitem__
    context = site.context(first)
    context["ti"] = SimpleNamespace(
        **vars(context["ti"]), xcom_push=push, run_id="prompt__run-r7", dag_id="gain__run", max_tries=8
    )
    context["params"] = {}
    operator = JobsOperator(task_id="plot", workflow=site.workflow(first), task="plot")
    from airflow_calib_provider.ledger import groups

    with site.ledger.read() as connection:
        group = groups.group_by_id(connection, 1)
    monkeypatch.setattr("airflow_calib_provider.operators.jobs.task_ledger", lambda: site.ledger)
    monkeypatch.setattr("airflow_calib_provider.operators.jobs.group_of", lambda *_: group)
    ended = operator.execute(context)
    assert ended == {"left_out": f"not run: the workflow has no task plot any more, as of commit {second}"}
    assert said["reason"] == ended["left_out"]
