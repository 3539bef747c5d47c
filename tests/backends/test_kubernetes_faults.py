"""What dies, is silent or is taken away around a cluster: nothing is lost, nothing runs twice without being told."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.backends.kubernetes import numbering
from airflow_calib_provider.backends.kubernetes.classify import by_pod
from airflow_calib_provider.domain.observation import AttemptState, Observation
from tests.backends.conformance import Round, finals, follow, running, shell, states
from tests.backends.kubernetes_kit import KubernetesBackends, OnCluster
from tests.cluster.api import CORE, Namespace, until
from tests.cluster.cluster import Cluster

SUCCEEDED, FAILED, LOST = AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.LOST
NODE = f"{CORE}/nodes/localhost"
MERGE = "application/merge-patch+json"


@pytest.fixture
def namespace(own_cluster: Cluster) -> Iterator[Namespace]:
    """A namespace of the cluster that may be disturbed, on which everything runs again afterwards."""
    with own_cluster.namespace() as made:
        yield made
        own_cluster.resume("apiserver")
        own_cluster.wait_ready()


class Faults(KubernetesBackends):
    """With the rights that deploy/kubernetes gives to Airflow, and no more."""

    @pytest.fixture
    def backend(self, make_backend: Callable[..., OnCluster], namespace: Namespace) -> OnCluster:
        return make_backend(kube_config_path=str(namespace.airflow()))

    @pytest.fixture
    def marks(self, home: Path) -> Path:
        """Where jobs say that they run: a line each time."""
        (home / "marks").mkdir()
        return home / "marks"

    @pytest.fixture
    def busy(self, make_round: Callable[..., Round], marks: Path) -> Callable[..., Round]:
        """A round of jobs that take some seconds and say each time that they run."""
        return _rounds(make_round, marks, "sleep 3")

    @pytest.fixture
    def held(self, make_round: Callable[..., Round], marks: Path, home: Path) -> Callable[..., Round]:
        """A round of jobs that go on until :meth:`let_go`, and say each time that they run."""
        return _rounds(make_round, marks, f"while ! [ -e {home / 'go'} ]; do sleep 0.2; done")

    @pytest.fixture
    def let_go(self, home: Path) -> Callable[[], None]:
        return (home / "go").touch


def _rounds(make_round: Callable[..., Round], marks: Path, script: str) -> Callable[..., Round]:
    def make(count: int) -> Round:
        one = make_round()
        for _ in range(count):
            one.job(*shell(f'echo x >> "$1/$2"; {script}', str(marks), str(len(one.jobs))))
        return one

    return make


def starts(marks: Path) -> Counter[str]:
    """How often each job has run."""
    return Counter({file.name: len(file.read_text().splitlines()) for file in marks.iterdir()})


def run(backend: OnCluster, one: Round, patience: float = 240) -> dict[int, Observation]:
    """Follow a round to its end."""
    return finals(follow(backend, [one.key], patience=patience)[one.key])


def pods_of(namespace: Namespace) -> list[dict[str, Any]]:
    """Pods of this package, those that have been asked to go too."""
    return namespace.list("pods", labelSelector=numbering.INSTALLATION)


def nothing_left(backend: OnCluster, namespace: Namespace, *rounds: Round) -> None:
    """Forgetting leaves nothing of ours on the cluster."""
    for one in rounds:
        backend.forget(one.key)
    assert list(backend.rounds()) == []
    until(lambda: pods_of(namespace) == [] and namespace.list("jobs") == [], what="the end of our pods")


class TestKills(Faults):
    """kill -9, and a start after it."""

    def test_parts_of_the_cluster_die_one_after_the_other(self, backend, busy, own_cluster, namespace, marks):
        one = busy(30)
        backend.submit(one.key, one.jobs, {"parallelism": 6})
        for name in ("controller-manager", "scheduler", "etcd", "apiserver", "containerd"):
            follow(backend, [one.key], running(one.key, 1), patience=120)
            own_cluster.restart(name)
        assert {end.state for end in run(backend, one).values()} == {SUCCEEDED}
        assert starts(marks) == Counter({str(n): 1 for n in range(30)})
        nothing_left(backend, namespace, one)

    def test_the_kubelet_dies(self, backend, busy, own_cluster, namespace, marks):
        """A pod that it was just starting may fail with it; that is told as lost, and no job's fault."""
        one = busy(12)
        backend.submit(one.key, one.jobs, {"parallelism": 6})
        follow(backend, [one.key], running(one.key, 3), patience=120)
        own_cluster.restart("kubelet")
        ends = run(backend, one)
        assert len(ends) == 12
        assert [end for end in ends.values() if end.state not in (SUCCEEDED, LOST)] == []
        assert sum(end.state is SUCCEEDED for end in ends.values()) >= 6
        assert max(starts(marks).values()) == 1
        nothing_left(backend, namespace, one)

    def test_a_shim_dies_and_its_job_is_lost(self, backend, held, let_go, own_cluster, namespace):
        one = held(3)
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 3), patience=120)
        until(lambda: len(own_cluster.processes("shim")) == 3)  # those of tests before have gone
        os.kill(own_cluster.process("shim"), signal.SIGKILL)
        follow(backend, [one.key], lambda seen: LOST in states(seen[one.key]).values(), patience=120)
        let_go()
        found = Counter(end.state for end in run(backend, one).values())
        assert found == {SUCCEEDED: 2, LOST: 1}
        nothing_left(backend, namespace, one)

    def test_a_silent_server(self, backend, make_backend, held, let_go, own_cluster, namespace):
        """What jobs leave in the spool is seen all the same, the rest afterwards, and the watcher never hangs."""
        one, two = held(3), held(1)
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 3), patience=120)
        own_cluster.stop_silently("apiserver")
        began = time.monotonic()
        let_go()
        seen = follow(backend, [one.key], lambda seen: len(finals(seen[one.key])) == 3, patience=120)
        assert states(seen[one.key]) == dict.fromkeys(range(3), SUCCEEDED)
        with pytest.raises(Exception, match="does not answer"):
            make_backend().submit(two.key, two.jobs)
        assert time.monotonic() - began < 90
        own_cluster.resume("apiserver")
        until(lambda: _submitted(backend, two), 120, "the submission")
        assert {end.state for end in run(backend, two).values()} == {SUCCEEDED}
        nothing_left(backend, namespace, one, two)

    def test_jobs_are_removed_after_a_restart(self, backend, held, own_cluster, namespace):
        """Who collects the pods of a Job that is gone may be starting itself."""
        one = held(2)
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 2), patience=120)
        for name in ("controller-manager", "apiserver"):
            own_cluster.restart(name)
        backend.remove(one.key)
        assert {end.state for end in run(backend, one).values()} == {AttemptState.REMOVED}
        nothing_left(backend, namespace, one)


def test_a_start_that_was_interrupted_is_no_fault_of_the_job():
    """As it was seen when a kubelet was killed while it started a container; it is not seen each time."""
    said = "failed to create containerd task: failed to create shim task: context canceled: unknown"
    ended = {"exitCode": 128, "reason": "StartError", "message": said}
    pod = {"metadata": {}, "status": {"containerStatuses": [{"name": "job", "state": {"terminated": ended}}]}}
    assert by_pod(pod, None, "", begun=False).state is LOST
    ended["message"] = said.replace("context canceled", 'exec: "no-such-program": executable file not found in $PATH')
    assert by_pod(pod, None, "", begun=False).state is FAILED


def _submitted(backend: OnCluster, one: Round) -> bool:
    from airflow_calib_provider.errors import BackendError

    try:
        backend.submit(one.key, one.jobs)
    except BackendError:
        return False
    return True


class TestTaken(Faults):
    """Pods that others take away."""

    def test_a_pod_is_deleted_by_hand(self, backend, held, let_go, namespace):
        one = held(3)
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 3), patience=120)
        victim = pods_of(namespace)[0]["metadata"]
        namespace.delete("pods", victim["name"])
        follow(backend, [one.key], lambda seen: LOST in states(seen[one.key]).values(), patience=120)
        let_go()
        ends = run(backend, one)
        lost = int(victim["labels"][numbering.INDEX])
        assert {n: end.state for n, end in ends.items()} == {n: LOST if n == lost else SUCCEEDED for n in range(3)}
        nothing_left(backend, namespace, one)

    def test_a_node_is_drained(self, backend, held, busy, namespace):
        """Its pods are lost, what comes next waits and says why, and runs when the node is back."""
        one, two = held(2), busy(2)
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 2), patience=120)
        namespace.api.call("PATCH", NODE, {"spec": {"unschedulable": True}}, kind=MERGE)
        try:
            for pod in pods_of(namespace):
                name = pod["metadata"]["name"]
                eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
                namespace.create(f"pods/{name}/eviction", eviction)
            ends = run(backend, one)
            assert {end.state for end in ends.values()} == {LOST}
            assert all("Evict" in str(end.reason) or "gone" in str(end.reason) for end in ends.values())
            backend.submit(two.key, two.jobs)
            seen = follow(backend, [two.key], lambda seen: any(one.reason for one in seen[two.key]), patience=120)
            assert any("unschedulable" in str(one.reason) for one in seen[two.key])
        finally:
            namespace.api.call("PATCH", NODE, {"spec": {"unschedulable": None}}, kind=MERGE)
        assert {end.state for end in run(backend, two).values()} == {SUCCEEDED}
        nothing_left(backend, namespace, one, two)

    def test_something_more_important_comes(self, backend, held, namespace):
        one = held(1)
        cpus = float(namespace.api.call("GET", NODE)["status"]["allocatable"]["cpu"])
        most = {"requests": {"cpu": str(0.75 * cpus)}}
        name = f"high-{namespace.name}"
        high = {"metadata": {"name": name}, "value": 1000}
        namespace.api.call("POST", PRIORITIES, high)
        try:
            backend.submit(one.key, one.jobs, {"cpu_request": most["requests"]["cpu"]})
            follow(backend, [one.key], running(one.key, 1), patience=120)
            container = {"name": "a", "image": self.image, "imagePullPolicy": "Never", "command": ["sleep", "1"]}
            container["resources"] = most
            spec = {"priorityClassName": name, "restartPolicy": "Never", "containers": [container]}
            namespace.create("pods", {"metadata": {"name": "important"}, "spec": spec})
            [end] = run(backend, one).values()
        finally:
            namespace.api.call("DELETE", f"{PRIORITIES}/{name}")
        assert end.state is LOST
        assert "Preempt" in str(end.reason) or "gone" in str(end.reason)
        nothing_left(backend, namespace, one)

    def test_a_quota_comes_and_goes(self, backend, busy, namespace):
        one = busy(2)
        namespace.create("resourcequotas", {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
        backend.submit(one.key, one.jobs)
        seen = follow(backend, [one.key], lambda seen: any(item.reason for item in seen[one.key]), patience=120)
        [reason] = {item.reason for item in seen[one.key] if item.reason}
        assert "exceeded quota" in reason
        namespace.delete("resourcequotas", "none")
        assert {end.state for end in run(backend, one).values()} == {SUCCEEDED}
        nothing_left(backend, namespace, one)


PRIORITIES = "/apis/scheduling.k8s.io/v1/priorityclasses"
