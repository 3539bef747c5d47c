"""A node dies while another one lives: its jobs are lost, and what it does afterwards does no harm."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from airflow_calib_provider.backends.kubernetes import survey
from airflow_calib_provider.domain.observation import FailureClass
from tests.backends.conformance import follow, running, states
from tests.backends.test_kubernetes_faults import LOST, MERGE, SUCCEEDED, Faults, namespace, nothing_left, run
from tests.cluster.api import CORE
from tests.cluster.cluster import Cluster

__all__ = ["namespace"]

# A kubelet says every 10 s that it lives; by default 50 s are waited for that, and 300 s more before its pods are lost.
FLAGS = {
    "controller-manager": ["--node-monitor-grace-period", "25s", "--node-monitor-period", "1s"],
    "apiserver": ["--default-unreachable-toleration-seconds", "1", "--default-not-ready-toleration-seconds", "1"],
}
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
OTHER = "other"


@contextmanager
def second_node(cluster: Cluster) -> Iterator[None]:
    """A node that only lives: where all nodes are dead, Kubernetes takes itself for the one that is cut off."""
    cluster.call("POST", f"{CORE}/nodes", {"metadata": {"name": OTHER}, "spec": {"unschedulable": True}})
    lease = {"spec": {"holderIdentity": OTHER, "leaseDurationSeconds": 40}}
    cluster.call("POST", LEASES, {"metadata": {"name": OTHER}, **lease})
    over = threading.Event()

    def live() -> None:
        while not over.wait(3):
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            ready = {"type": "Ready", "status": "True", "reason": "Lives", "lastHeartbeatTime": now[:19] + "Z"}
            cluster.call("PATCH", f"{LEASES}/{OTHER}", {"spec": {"renewTime": now}}, kind=MERGE)
            cluster.call("PATCH", f"{CORE}/nodes/{OTHER}/status", {"status": {"conditions": [ready]}}, kind=MERGE)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        cluster.call("DELETE", f"{CORE}/nodes/{OTHER}")


class TestDeadNode(Faults):
    @pytest.mark.timeout(300)
    def test_its_jobs_are_lost_and_what_goes_on_there_does_no_harm(
        self, backend, held, busy, let_go, own_cluster, namespace
    ):
        one, two = held(2), busy(1)
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 2), patience=120)
        with second_node(own_cluster):
            own_cluster.kill("kubelet")
            ends = run(backend, one)
            assert {end.state for end in ends.values()} == {LOST}
            assert all("DeletionByTaintManager" in str(end.reason) for end in ends.values())
            # They still run, as nobody can tell them. They end well, in folders of attempts that nobody waits for.
            let_go()
            assert states(follow(backend, [one.key])[one.key]) == {0: LOST, 1: LOST}
        own_cluster.wait_ready()
        backend.submit(two.key, two.jobs)
        assert {end.state for end in run(backend, two).values()} == {SUCCEEDED}
        nothing_left(backend, namespace, one, two)

    @pytest.mark.timeout(300)
    def test_without_another_node_a_job_is_lost_after_its_time_limit(
        self, backend, held, busy, own_cluster, namespace, monkeypatch
    ):
        """Kubernetes waits for ever then. It may take it a moment to see that no node lives: the job tolerates that."""
        monkeypatch.setattr(survey, "_OVERDUE", 5.0)
        one, two = held(1), busy(1)
        one.jobs[0] = replace(one.jobs[0], timeout=20)
        backend.submit(one.key, one.jobs, {"tolerations": [{"operator": "Exists"}]})
        follow(backend, [one.key], running(one.key, 1), patience=120)
        own_cluster.kill("kubelet")
        os.kill(own_cluster.process("shim"), signal.SIGKILL)
        (end,) = run(backend, one).values()
        assert (end.state, end.failure) == (LOST, FailureClass.LOST)
        assert "beyond its time limit of 20 s, and its node localhost does not answer" in str(end.reason)
        own_cluster.wait_ready()
        backend.submit(two.key, two.jobs)
        assert {end.state for end in run(backend, two).values()} == {SUCCEEDED}
        nothing_left(backend, namespace, one, two)
