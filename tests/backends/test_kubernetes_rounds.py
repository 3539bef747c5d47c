"""Rounds on a real cluster: created once, found again, told by the records of their pods, and removed by name."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from typing import Any

import pytest

from airflow_calib_provider import settings
from airflow_calib_provider.backends.kubernetes import numbering
from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.domain.submission import Resources
from airflow_calib_provider.errors import BackendError, CalibError, SubmissionRefused
from tests.backends.conformance import finals, follow, running, shell, states
from tests.backends.kubernetes_kit import KubernetesBackends
from tests.cluster.api import until


def uids(namespace: Any) -> list[str]:
    return sorted(job["metadata"]["uid"] for job in namespace.list("jobs"))


class TestRounds(KubernetesBackends):
    def test_jobs_that_ask_for_the_same_are_one_job(self, backend, make_round, namespace):
        one = make_round()
        for memory in (None, 64 << 20, None, 64 << 20):
            one.job(*shell("true"), resources=Resources(memory=memory))
        one.job(*shell("true"), timeout=60)
        backend.submit(one.key, one.jobs)
        assert states(follow(backend, [one.key])[one.key]) == dict.fromkeys(range(5), AttemptState.SUCCEEDED)
        jobs = sorted(namespace.list("jobs"), key=lambda job: job["metadata"]["name"])
        assert [job["spec"]["completions"] for job in jobs] == [2, 2, 1]
        for number, job in enumerate(jobs):
            assert job["metadata"]["name"] == numbering.job_name(settings.installation_id(), one.key, number)
            assert job["metadata"]["annotations"][numbering.KEY] == str(one.key)
            assert job["spec"]["backoffLimitPerIndex"] == 0

    def test_what_nobody_lived_to_note_is_found(self, backend, make_backend, make_round, namespace):
        one = make_round()
        one.job(*shell("sleep 300"))
        one.job(*shell("sleep 300"), timeout=600)
        backend.submit(one.key, one.jobs)
        before = uids(namespace)
        (backend._folder(one.key).path / "submitted").unlink()
        namespace.delete("jobs", numbering.job_name(settings.installation_id(), one.key, 1))
        until(lambda: len(uids(namespace)) == 1, what="the deletion")
        make_backend().submit(one.key, one.jobs)
        after = uids(namespace)
        assert len(after) == 2
        assert len(set(before) & set(after)) == 1

    @pytest.mark.parametrize("age", [0, 3600])
    def test_what_was_never_submitted_is_submitted_as_it_is_now(self, backend, make_round, namespace, age):
        namespace.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"count/jobs.batch": "0"}}})
        until(lambda: namespace.get("resourcequotas", "q").get("status", {}).get("hard"), what="the quota")
        one = make_round()
        one.job(*shell("true"))
        with pytest.raises(BackendError, match="exceeded quota: q") as caught:
            backend.submit(one.key, one.jobs, {"labels": {"of": "before"}})
        assert not isinstance(caught.value, SubmissionRefused)
        namespace.delete("resourcequotas", "q")
        then = time.time() - age
        os.utime(backend._folder(one.key).path / "round.json", (then, then))
        until(lambda: not namespace.list("resourcequotas"), what="the end of the quota")
        backend.submit(one.key, one.jobs, {"labels": {"of": "now"}})
        (job,) = namespace.list("jobs")
        assert job["metadata"]["labels"]["of"] == ("now" if age else "before")
        assert states(follow(backend, [one.key])[one.key]) == {0: AttemptState.SUCCEEDED}

    def test_many_submit_at_once_and_there_is_one(self, make_backend, make_round, namespace):
        one = make_round()
        one.job(*shell('echo once >>"$1"', str(one.root / "times")))
        errors: list[CalibError] = []

        def submit() -> None:
            try:
                make_backend().submit(one.key, one.jobs)
            except CalibError as error:  # told below
                errors.append(error)

        threads = [threading.Thread(target=submit) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert states(follow(make_backend(), [one.key])[one.key]) == {0: AttemptState.SUCCEEDED}
        assert len(namespace.list("jobs")) == 1
        assert (one.root / "times").read_text() == "once\n"

    def test_a_job_of_that_name_that_is_not_ours(self, backend, make_round, namespace):
        one = make_round()
        one.job(*shell("true"))
        name = numbering.job_name(settings.installation_id(), one.key, 0)
        container = {"name": "other", "image": self.image, "imagePullPolicy": "Never", "command": ["true"]}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        namespace.create("jobs", {"metadata": {"name": name}, "spec": {"template": template}})
        with pytest.raises(BackendError, match="not this round's") as caught:
            backend.submit(one.key, one.jobs)
        assert not isinstance(caught.value, SubmissionRefused)
        assert backend.poll({one.key: ""})[one.key].observations == []
        backend.remove(one.key)
        assert [job["metadata"]["name"] for job in namespace.list("jobs")] == [name]

    def test_a_spool_that_is_away_is_no_end(self, backend, make_backend, make_round, tmp_path):
        one = make_round()
        one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        place = backend._folder(one.key).path
        place.rename(tmp_path / "away")
        other = make_backend()
        news = other.poll({one.key: ""})[one.key]
        assert (news.finished, "bring it back" in news.trouble) == (False, True)
        (tmp_path / "away").rename(place)
        other.remove(one.key)
        assert states(follow(other, [one.key])[one.key]) == {0: AttemptState.REMOVED}

    def test_jobs_without_their_folder_are_removed_by_key(self, backend, make_round, namespace):
        one = make_round()
        one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        shutil.rmtree(backend._folder(one.key).path)
        assert backend.rounds() == [one.key]
        backend.remove(one.key)
        assert namespace.list("jobs") == []
        assert namespace.list("pods", fieldSelector="status.phase=Running") == []

    def test_a_connection_that_leads_elsewhere_ends_nothing(self, backend, make_backend, make_round, cluster, tmp_path):
        one = make_round()
        one.job(*shell(f"while ! [ -e {tmp_path / 'home' / 'go'} ]; do sleep 0.2; done"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        with cluster.namespace() as other:
            edited = make_backend(namespace=other.name)
            until(lambda: edited.poll({one.key: ""})[one.key].trouble, what="the trouble")
            news = edited.poll({one.key: ""})[one.key]
            assert "the connection leads to" in news.trouble
            assert [seen.state for seen in news.observations] == [AttemptState.RUNNING]
            with pytest.raises(BackendError, match="cannot be removed: its Jobs were created in the namespace"):
                edited.remove(one.key)
        (tmp_path / "home" / "go").touch()
        assert states(follow(make_backend(), [one.key])[one.key]) == {0: AttemptState.SUCCEEDED}

    def test_a_clock_that_is_wrong_takes_no_pod_for_gone(self, backend, make_round, namespace, monkeypatch):
        one = make_round()
        one.job(*shell("trap '' TERM; : >ready; while :; do sleep 1; done"))
        backend.submit(one.key, one.jobs)
        until((one.jobs[0].folder / "out" / "ready").exists, what="the job")
        right = time.time
        monkeypatch.setattr(time, "time", lambda: right() + 3600)
        backend.remove(one.key)
        assert namespace.list("pods", fieldSelector="status.phase=Running") == []

    def test_what_was_never_submitted_is_removed_and_forgotten(self, backend, make_round, namespace):
        rounds = [make_round("run-r1"), make_round("run-r2"), make_round("run-r3")]
        for one in rounds:
            one.job(*shell("true"))
            backend._prepare(one.key, backend._folder(one.key), one.jobs, dict(backend.block))
        removed, forgotten, tried = rounds
        backend.remove(removed.key)
        backend.forget(removed.key)
        backend.forget(forgotten.key)
        backend._folder(tried.key).note_tried()
        backend._api.create("jobs", backend._folder(tried.key).plan().manifests[0])
        with pytest.raises(BackendError, match="cannot be forgotten"):
            backend.forget(tried.key)
        backend.remove(tried.key)
        backend.forget(tried.key)
        assert not any(backend._folder(one.key).path.exists() for one in rounds)
        assert namespace.list("jobs") == []

    def test_a_removal_waits_for_whoever_submits(self, backend, make_round, namespace):
        one = make_round()
        one.job(*shell("sleep 300"))
        one.job(*shell("sleep 300"), timeout=600)
        folder = backend._folder(one.key)
        backend._prepare(one.key, folder, one.jobs, dict(backend.block))
        removal = threading.Thread(target=backend.remove, args=[one.key])
        with folder.lock(wait=True):
            removal.start()
            removal.join(2)
            assert removal.is_alive()
            backend._create(folder)
        removal.join()
        assert namespace.list("jobs") == []
        ends = dict.fromkeys(range(2), AttemptState.REMOVED)
        assert states(follow(backend, [one.key])[one.key]) == ends

    def test_another_installation_is_another_one(self, backend, make_round, home, monkeypatch, tmp_path, make_backend):
        one = make_round()
        one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
        monkeypatch.setenv("CALIB_HOME", str(tmp_path / "other"))
        (tmp_path / "other").mkdir()
        other = make_backend()
        assert other.rounds() == []
        assert other.poll({one.key: ""})[one.key].finished
        other.remove(one.key)
        monkeypatch.setenv("CALIB_HOME", str(home))
        assert backend.rounds() == [one.key]

    def test_forgetting_removes_the_jobs(self, backend, make_round, namespace):
        one = make_round()
        one.job(*shell("true"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key])
        assert len(namespace.list("jobs")) == 1
        backend.forget(one.key)
        assert namespace.list("jobs") == []
        assert not backend._folder(one.key).path.exists()
        until(lambda: not namespace.list("pods"), what="the end of its pods")

    def test_removing_one_that_has_no_pod_yet(self, backend, make_round, namespace):
        one = make_round()
        for _ in range(3):
            one.job(*shell("sleep 2"))
        backend.submit(one.key, one.jobs, {"parallelism": 1})
        backend.remove(one.key, [1])
        seen = follow(backend, [one.key])[one.key]
        expected = {0: AttemptState.SUCCEEDED, 1: AttemptState.REMOVED, 2: AttemptState.SUCCEEDED}
        assert states(seen) == expected
        assert not (one.jobs[1].folder / "stdout").exists()

    def test_what_pods_leave_as_records_is_judged(self, backend, make_round):
        one = make_round()
        one.job(*shell("sleep 5"))
        backend.submit(one.key, one.jobs)
        place = backend._folder(one.key).records(0)
        os.mkfifo(place / "0.ended")
        (place / "99.uid.begun").write_text("{}")
        (place / "0.uid.begun").write_text("[" * 100)
        (place / "00000.ended").write_text(json.dumps({"pod": 1, "host": [], "start": "x", "end": 1e400, "code": 0}))
        (place / "x").symlink_to("/etc/passwd")
        assert states(follow(backend, [one.key])[one.key]) == {0: AttemptState.SUCCEEDED}

    def test_a_start_that_is_seen_with_its_end_is_told(self, backend, make_round):
        one = make_round()
        one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        place = backend._folder(one.key).records(0)
        said = {"pod": "other", "host": "node-2", "start": time.time()}
        (place / "0.other.begun").write_text(json.dumps(said))
        (place / "0.ended").write_text(json.dumps({**said, "end": time.time() + 1, "code": 0}))
        seen = follow(backend, [one.key])[one.key]
        expected = [AttemptState.RUNNING, AttemptState.EVICTED, AttemptState.RUNNING, AttemptState.SUCCEEDED]
        # On a busy machine it is told before that it waits.
        told = [item for item in seen if item.state is not AttemptState.SUBMITTED]
        assert [item.state for item in told] == expected
        assert [item.host for item in told] == ["localhost", None, "node-2", "node-2"]

    def test_requests_do_not_grow_with_the_number_of_jobs(self, make_backend, make_round, monkeypatch):
        monkeypatch.setenv("CALIB_KUBERNETES_INTERVAL", "5")
        for count in (1, 40):
            backend = make_backend(f"counted_{count}")
            one = make_round()
            for number in range(count):
                one.job(*shell(f"exit {number % 4 and 1}"))
            before, begin = backend._api.requests, time.monotonic()
            backend.submit(one.key, one.jobs)
            ends = finals(follow(backend, [one.key])[one.key])
            assert len(ends) == count
            backend.forget(one.key)
            made, seconds = backend._api.requests - before, time.monotonic() - begin
            assert made <= 6 + seconds / 5
