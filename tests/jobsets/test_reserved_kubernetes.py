"""An iteration whose reserved workers are the pods of an Indexed Job, on a real cluster."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_calib_provider.backends.kubernetes.backend import KubernetesBackend
from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings
from airflow_calib_provider.ledger import tables, workers
from tests.cluster.api import Namespace
from tests.jobsets.iterations import MEASURE, SPEC, Iterations

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

BLOCK = """\
{image: 'localhost/shell:1', image_pull_policy: Never, run_as_user: 1000, cpu_request: 10m,
    spool: {host_path: HOME, mount: /calib}}"""
WORKERS = "workers: {count: 3, reserve: true, heartbeat: 1s, lost_after: 8s}\n      phases:"
WITHIN = 'case $CALIB_CONSTANTS in /calib/*) ;; *) exit 9 ;; esac\n[ -r "$CALIB_CONSTANTS" ] || exit 8\n'
UPDATE = """\
cat $(cat "$CALIB_INPUTS") | sha256sum | cut -c 1-6 | tr a-f 1-6 > "$CALIB_OUT/c.txt"
"""


class OnCluster(Iterations):
    """As :class:`Iterations`, where a cluster runs the jobs."""

    backend: KubernetesBackend

    def backend_of(self, name: str) -> KubernetesBackend:
        return self.backend


@pytest.fixture
def place(namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnCluster]:
    before = os.umask(0)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("CALIB_HOME", str(home))
    monkeypatch.setenv("CALIB_KUBERNETES_INTERVAL", "1")
    made = OnCluster(home)
    settings = KubernetesSettings("near", kube_config_path=str(namespace.airflow()), namespace=namespace.name)
    made.backend = KubernetesBackend(settings)
    made.script("update", UPDATE)
    yield made
    made.backend.close()
    made.ledger.close()
    os.umask(before)


def worker_process(home: Path, number: int) -> int:
    """The process of a worker, as this machine knows it."""
    for found in sorted(Path("/proc").glob("[0-9]*"), key=lambda one: int(one.name)):
        with suppress(OSError):
            words = (found / "cmdline").read_text().split("\0")
            variables = (found / "environ").read_text(errors="replace").split("\0")
            mine = any(one.startswith("CALIB_GROUP=") for one in variables) and f"CALIB_JOB={number}" in variables
            if mine and len(words) > 2 and words[1].startswith("/calib/") and words[1].endswith("worker.sh"):
                mounts = (found / "mountinfo").read_text()
                if str(home) in mounts:
                    return int(found.name)
    raise LookupError(f"worker {number} does not run")


def test_a_pod_that_is_deleted_and_one_that_is_frozen(
    place: OnCluster, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is replaced, and the constants are those of jobs that nobody disturbs."""
    text = SPEC.replace("metrics: {mass: {target: 91.0, within: 0.1%}}", "visits: 3").replace("split: {count: 3}, ", "")
    with monkeypatch.context() as patch:
        alone = tmp_path / "alone"
        alone.mkdir()
        patch.setenv("CALIB_HOME", str(alone))
        undisturbed = Iterations(alone)
        undisturbed.script("update", UPDATE)
        undisturbed.write(text.replace("phases:", "workers: {count: 3}\n      phases:"))
        assert undisturbed.finish(undisturbed.begin(), 120).state == "done"
        wanted = undisturbed.history(1)
        undisturbed.ledger.close()
    home = place.specs.parent
    text = text.replace("tasks:", f"defaults: {{kubernetes: {BLOCK.replace('HOME', str(home))}}}\ntasks:")
    text = text.replace("group_by: run\n    iterate", "group_by: run\n    backend: kubernetes:near\n    iterate")
    place.write(text.replace("phases:", WORKERS))
    place.script("measure", f"{WITHIN}sleep 2\n{MEASURE}")
    generation, end = place.begin(), time.monotonic() + 300
    while not any(one.state == "judged" for one in place.steps(generation)):
        standing = place.step([generation])[generation]
        assert standing.state == "running", (standing, place.rows(tables.attempt))
        assert time.monotonic() < end, place.rows(tables.job)
        time.sleep(0.2)
    (job,) = namespace.list("jobs")
    assert (job["spec"]["completionMode"], job["spec"]["completions"]) == ("Indexed", 3)
    (pod,) = namespace.list("pods", labelSelector="batch.kubernetes.io/job-completion-index=0")
    os.kill(worker_process(home, 1), signal.SIGSTOP)
    namespace.delete("pods", pod["metadata"]["name"])
    standing = place.finish(generation, 300)
    assert standing.state == "done", (standing, place.rows(tables.attempt))
    assert place.history(generation) == wanted
    attempts = [row for row in place.rows(tables.attempt) if row.step == workers.WORKERS]
    said = {row.job_index: row.reason for row in attempts if row.n == 1}
    assert said[1] == "no sign of life for 8 s"
    assert {row.job_index: row.attempt for row in place.rows(tables.job) if row.step == workers.WORKERS}[2] == 1
    assert place.backend.rounds() == []
