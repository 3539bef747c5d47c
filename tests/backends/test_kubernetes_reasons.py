"""What becomes of jobs that a cluster will not have, ends, or loses: class and reason, on a real one."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import yaml

from airflow_calib_provider.backends.kubernetes import survey
from airflow_calib_provider.backends.kubernetes.rights import RIGHTS
from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation
from airflow_calib_provider.domain.submission import Resources
from airflow_calib_provider.errors import SubmissionRefused
from tests.backends.conformance import finals, follow, running, shell
from tests.backends.kubernetes_kit import KubernetesBackends
from tests.backends.kubernetes_rights import account_with
from tests.backends.planted import PLANTED, has_planted
from tests.cluster.api import until

MIB = 1 << 20
MERGE = "application/merge-patch+json"


def end_of(backend: Any, one: Any, **options: object) -> Observation:
    """Submit a round, and give the end of its first job."""
    backend.submit(one.key, one.jobs, options)
    return finals(follow(backend, [one.key], patience=120)[one.key])[0]


def millicpus(amount: str) -> float:
    """A quantity of CPUs as Kubernetes writes it."""
    return float(amount[:-1]) if amount.endswith("m") else 1000 * float(amount)


def reason_of(backend: Any, key: Any, words: str) -> Observation:
    """Wait until a job waits with a reason that has these words."""
    found: list[Observation] = []

    def told(seen: Any) -> bool:
        found[:] = [item for item in seen[key] if words in (item.reason or "")]
        return bool(found)

    follow(backend, [key], told, patience=90)
    return found[0]


class TestReasons(KubernetesBackends):
    def test_no_secret_of_airflow_is_in_an_object_or_reaches_a_job(self, backend, make_round, namespace, monkeypatch):
        for name, value in PLANTED.items():
            monkeypatch.setenv(name, value)
        one = make_round()
        folder = one.job(*shell("env; sleep 1"), environment={"OWN": "value-of-its-own"})
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], patience=90)
        made = [namespace.list(kind) for kind in ("jobs", "pods", "configmaps", "secrets", "events")]
        texts = [json.dumps(made), *(file.read_text(errors="replace") for file in folder.rglob("std*"))]
        assert all(made[:2])
        assert any("value-of-its-own" in text for text in texts[1:])
        (user,) = yaml.safe_load(namespace.api.kubeconfig.read_text())["users"]
        own = [value for value in user["user"].values() if isinstance(value, str) and len(value) > 20]
        assert own
        assert not any(has_planted(text) or any(value in text for value in own) for text in texts)

    def test_too_much_memory(self, backend, make_round):
        one = make_round()
        one.job(*shell("x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo $x"), resources=Resources(memory=32 * MIB))
        end = end_of(backend, one)
        assert (end.state, end.failure) == (AttemptState.FAILED, FailureClass.MEMORY)
        assert "32Mi" in end.reason or str(32 * MIB) in end.reason

    def test_too_much_disk(self, backend, make_round):
        one = make_round()
        one.job(*shell("head -c 60000000 /dev/zero >/tmp/file; sleep 300"), resources=Resources(disk=8 * MIB))
        end = end_of(backend, one)
        assert (end.state, end.failure) == (AttemptState.FAILED, FailureClass.DISK)
        assert "ephemeral" in end.reason

    def test_an_image_that_cannot_be_had(self, backend, make_round, namespace):
        one = make_round()
        for _ in range(3):
            one.job(*shell("true"))
        backend.submit(one.key, one.jobs, {"image": "localhost/nobody-has-it:1", "start_within": "PT4S"})
        assert "ErrImageNeverPull" in reason_of(backend, one.key, "Image").reason
        ends = finals(follow(backend, [one.key], patience=120)[one.key])
        assert {item.failure for item in ends.values()} == {FailureClass.START}
        assert len(ends) == 3
        assert "did not start within 4 s: ErrImageNeverPull" in ends[0].reason
        assert until(lambda: not namespace.list("pods"), what="the end of its pods") is True

    def test_an_image_without_a_shell(self, backend, make_round):
        one = make_round()
        one.job("/plain", "/tmp", "0")
        end = end_of(backend, one, image="localhost/plain:1")
        assert (end.state, end.failure) == (AttemptState.FAILED, FailureClass.START)
        assert "/bin/sh" in end.reason
        assert "say kubernetes: {shell: false}" in end.reason

    def test_a_spool_that_is_another_volume(self, backend, make_round, home, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        one = make_round()
        one.job(*shell("true"))
        end = end_of(backend, one, spool={"host_path": str(other), "mount": str(home)})
        assert (end.state, end.failure) == (AttemptState.FAILED, FailureClass.START)
        assert "the spool volume is not what Airflow has as CALIB_HOME" in end.reason

    def test_a_volume_that_is_not_there(self, backend, make_round):
        one = make_round()
        one.job(*shell("true"))
        secret = {"keys": {"secret": "nobody-made-it", "mount": "/keys", "read_only": True}}
        end = end_of(backend, one, volumes=secret, start_within="PT10S")
        assert (end.state, end.failure) == (AttemptState.FAILED, FailureClass.START)
        assert "nobody-made-it" in end.reason

    def test_a_secret_that_is_not_there(self, backend, make_round):
        one = make_round()
        one.job(*shell("true"))
        variables = {"PASSWORD": {"secret": "nobody-made-it", "key": "word"}}
        end = end_of(backend, one, secret_environment=variables, start_within="PT4S")
        assert (end.state, end.failure) == (AttemptState.FAILED, FailureClass.START)
        assert "nobody-made-it" in end.reason

    def test_only_those_that_are_late_are_given_up(self, backend, make_round, namespace, monkeypatch):
        """The second pod waits for room, and not for the secret, which is there when it has a node."""
        monkeypatch.setattr(survey, "_PENDING", 1)  # there may be many that wait for room
        (node,) = namespace.api.call("GET", "/api/v1/nodes")["items"]
        more_than_half = f"{int(0.6 * millicpus(node['status']['allocatable']['cpu']))}m"
        one = make_round()
        for _ in range(2):
            one.job(*shell('test "$PASSWORD" = open'))
        variables = {"PASSWORD": {"secret": "late", "key": "word"}}
        options = {"secret_environment": variables, "start_within": "PT12S", "cpu_request": more_than_half}
        backend.submit(one.key, one.jobs, options)
        ended = {}

        def first(seen: Any) -> bool:
            ended.update(finals(seen[one.key]))
            return bool(ended)

        follow(backend, [one.key], first, patience=90)
        assert [item.failure for item in ended.values()] == [FailureClass.START]
        namespace.create("secrets", {"metadata": {"name": "late"}, "stringData": {"word": "open"}})
        ends = finals(follow(backend, [one.key], patience=120)[one.key])
        (late,) = ended
        assert ends[1 - late].state is AttemptState.SUCCEEDED

    def test_no_words_of_a_log_are_lost(self, backend, make_round, monkeypatch):
        """Of pods whose logs alone say why they failed, some are read in each look, until all are."""
        monkeypatch.setattr(survey, "_LOGS", 1)
        monkeypatch.setattr(survey, "_LOGS_TIME", 0.0)
        monkeypatch.setattr(survey, "RECORD_PATIENCE", 0.0)  # that their Job has ended is no reason of its own
        os.umask(0o022)  # what the starter is to write, it may not
        one = make_round()
        for _ in range(5):
            one.job(*shell("true"))
        ends = self.failed_to_start(backend, one)
        assert {item.failure for item in ends.values()} == {FailureClass.START}
        assert len(ends) == 5
        assert all("cannot be written" in item.reason for item in ends.values())
        monkeypatch.setattr(survey, "LOG_PATIENCE", 0.0)
        two = make_round("run-r2")
        for _ in range(3):
            two.job(*shell("true"))
        said = [item.reason for item in self.failed_to_start(backend, two).values()]
        assert [("cannot be written" in text, "was not read" in text) for text in sorted(said)].count(
            (False, True)
        ) >= 1

    def failed_to_start(self, backend: Any, one: Any) -> dict[int, Observation]:
        backend.submit(one.key, one.jobs)
        return finals(follow(backend, [one.key], patience=120)[one.key])

    def test_no_node_is_large_enough(self, backend, make_round, namespace):
        one = make_round()
        one.job(*shell("true"))
        backend.submit(one.key, one.jobs, {"start_within": "PT1S", "cpu_request": 1000})
        seen = reason_of(backend, one.key, "Unschedulable")
        assert (seen.state, "Insufficient cpu" in seen.reason) == (AttemptState.SUBMITTED, True)
        backend.remove(one.key)
        assert finals(follow(backend, [one.key])[one.key])[0].state is AttemptState.REMOVED

    def test_a_claim_that_is_not_there(self, backend, make_round):
        one = make_round()
        one.job(*shell("true"))
        backend.submit(one.key, one.jobs, {"spool": {"pvc": "nobody-made-it"}})
        assert "nobody-made-it" in reason_of(backend, one.key, "nobody-made-it").reason

    def test_a_quota_that_is_lifted(self, backend, make_round, namespace):
        quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
        namespace.create("resourcequotas", quota)
        one = make_round()
        one.job(*shell("true"))
        backend.submit(one.key, one.jobs)
        assert "exceeded quota: none" in reason_of(backend, one.key, "quota").reason
        namespace.delete("resourcequotas", "none")
        end = finals(follow(backend, [one.key], patience=120)[one.key])[0]
        assert end.state is AttemptState.SUCCEEDED

    def test_a_namespace_that_takes_no_such_pods(self, cluster, make_backend, make_round):
        with cluster.namespace("restricted") as namespace:
            backend = make_backend("strict", namespace=namespace.name)
            one = make_round()
            one.job(*shell("true"))
            backend.submit(one.key, one.jobs)  # hostPath is not allowed there
            assert "hostPath" in reason_of(backend, one.key, "no pod can be made").reason

    def test_what_the_server_warned_of_is_told_without_events(self, cluster, make_backend, make_round):
        with cluster.namespace("restricted") as namespace:
            account = account_with(namespace, [one for one in RIGHTS if one.resource != "events"])
            backend = make_backend("blind", namespace=namespace.name, kube_config_path=str(account))
            one = make_round()
            one.job(*shell("true"))
            backend.submit(one.key, one.jobs)
            assert "hostPath" in reason_of(backend, one.key, "no pod can be made").reason

    def test_what_the_server_refuses_is_refused(self, backend, make_round, namespace):
        one = make_round()
        one.job(*shell("true"))
        one.job(*shell("true"), resources=Resources(cpus=2))
        patch = [{"spec": {"dnsPolicy": "Whatever"}}]
        with pytest.raises(SubmissionRefused, match="dnsPolicy"):
            backend.submit(one.key, one.jobs, {"patch": patch})
        assert not namespace.list("jobs")
        backend.submit(one.key, one.jobs)
        assert len(namespace.list("jobs")) == 2
        assert {item.state for item in finals(follow(backend, [one.key])[one.key]).values()} == {AttemptState.SUCCEEDED}

    def test_a_pod_that_is_deleted_is_a_loss(self, backend, make_round, namespace):
        one = make_round()
        one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        (pod,) = namespace.list("pods")
        namespace.delete("pods", pod["metadata"]["name"])
        end = finals(follow(backend, [one.key], patience=120)[one.key])[0]
        assert (end.state, end.failure) == (AttemptState.LOST, FailureClass.LOST)
        assert "pod" in end.reason

    def test_an_evicted_pod_is_a_loss(self, backend, make_round, namespace):
        one = make_round()
        one.job(*shell("trap '' TERM; while :; do sleep 1; done"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        (pod,) = namespace.list("pods")
        name = pod["metadata"]["name"]
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        namespace.api.call("POST", namespace.path("pods", f"{name}/eviction"), body)
        end = finals(follow(backend, [one.key], patience=120)[one.key])[0]
        assert (end.state, end.failure) == (AttemptState.LOST, FailureClass.LOST)

    def test_a_job_that_a_person_deletes(self, backend, make_round, namespace):
        one = make_round()
        one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        (job,) = namespace.list("jobs")
        namespace.delete("jobs", job["metadata"]["name"])
        end = finals(follow(backend, [one.key], patience=120)[one.key])[0]
        assert (end.state, end.failure) == (AttemptState.REMOVED, FailureClass.PERSON)
        assert job["metadata"]["name"] in end.reason

    def test_a_job_with_a_limit_that_somebody_gave_it(self, backend, make_round, namespace):
        one = make_round()
        for _ in range(3):
            one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs, {"parallelism": 1})
        follow(backend, [one.key], running(one.key, 1))
        (job,) = namespace.list("jobs")
        path = namespace.path("jobs", job["metadata"]["name"])
        namespace.api.call("PATCH", path, {"spec": {"activeDeadlineSeconds": 1}}, kind=MERGE)
        ends = finals(follow(backend, [one.key])[one.key])
        assert {item.state for item in ends.values()} == {AttemptState.LOST}
        assert "DeadlineExceeded" in ends[2].reason

    def test_what_the_cluster_starts_again_is_an_eviction(self, backend, make_round, namespace):
        one = make_round()
        text = 'echo again >>"$1"; if [ $(wc -l <"$1") = 1 ]; then sleep 300; fi'
        one.job(*shell(text, str(one.root / "times")))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        (job,) = namespace.list("jobs")
        name = job["metadata"]["name"]
        namespace.api.call("PATCH", namespace.path("jobs", name), {"spec": {"suspend": True}}, kind=MERGE)
        until(lambda: not namespace.list("pods", fieldSelector="status.phase=Running"), what="the suspension")
        namespace.api.call("PATCH", namespace.path("jobs", name), {"spec": {"suspend": False}}, kind=MERGE)
        seen = follow(backend, [one.key], patience=120)[one.key]
        assert AttemptState.EVICTED in [item.state for item in seen]
        assert finals(seen)[0].state is AttemptState.SUCCEEDED

    def test_a_suspended_job_says_so(self, backend, make_round, namespace):
        one = make_round()
        for _ in range(2):
            one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs, {"parallelism": 1})
        follow(backend, [one.key], running(one.key, 1))
        (job,) = namespace.list("jobs")
        path = namespace.path("jobs", job["metadata"]["name"])
        namespace.api.call("PATCH", path, {"spec": {"suspend": True}}, kind=MERGE)
        seen = reason_of(backend, one.key, "suspended")
        assert (seen.index, seen.state) == (1, AttemptState.SUBMITTED)
