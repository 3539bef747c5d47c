"""What dies or is silent around a pool: nothing is lost, and nothing doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from airflow_calib_provider.errors import BackendError
from tests.backends.condor_kit import (
    RUNNING,
    SUCCEEDED,
    cluster_of,
    clusters_in_queue,
    follow_to,
    submit_when_possible,
    trouble,
)
from tests.backends.conformance import follow, shell, states

pytestmark = [pytest.mark.condor, pytest.mark.usefixtures("soon")]


def test_the_helper_dies(backend, make_round):
    one = make_round()
    one.job(*shell("sleep 1"))
    backend.submit(one.key, one.jobs)
    os.kill(backend._helper.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert one.key in backend.rounds()
    assert states(follow(backend, [one.key])[one.key]) == {0: SUCCEEDED}


SUBMITTER = """
import pickle, sys
from airflow_calib_provider.backends.condor.backend import CondorBackend
settings, spool, key, jobs = pickle.load(open(sys.argv[1], "rb"))
print("now", flush=True)
CondorBackend(settings, spool).submit(key, jobs)
"""


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.4, 0.6])
def test_the_submitter_dies(backend, make_round, condor_root, delay):
    """At any moment: whoever comes next finds what was submitted, or submits it, once."""
    import pickle

    one = make_round()
    for _ in range(5):
        one.job(*shell('echo x >> "$1"', str(condor_root / "executions")))
    task = condor_root / "task"
    task.write_bytes(pickle.dumps((backend.settings, backend.spool.parent, one.key, one.jobs)))
    process = subprocess.Popen([sys.executable, "-c", SUBMITTER, str(task)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.kill()
    process.wait()
    backend.submit(one.key, one.jobs)
    backend.submit(one.key, one.jobs)
    assert len(clusters_in_queue(backend, one.key)) <= 1
    assert states(follow(backend, [one.key])[one.key]) == dict.fromkeys(range(5), SUCCEEDED)
    time.sleep(1)
    assert clusters_in_queue(backend, one.key) == []
    assert (condor_root / "executions").read_text() == "x\n" * 5


@pytest.mark.parametrize("ended", [False, True], ids=["in the queue", "in the history"])
def test_a_submission_that_nobody_noted_is_found(backend, make_condor, make_round, ended):
    one = make_round()
    one.job(*shell("true" if ended else "sleep 2"))
    backend.submit(one.key, one.jobs)
    cluster = cluster_of(backend, one.key)
    if ended:
        follow(backend, [one.key])
    folder = backend._folder(one.key)
    (folder.path / "cluster").unlink()
    (folder.path / "log").unlink()
    make_condor().submit(one.key, one.jobs)
    assert cluster_of(backend, one.key) == cluster


def test_the_schedd_dies(backend, make_round, pool, condor_root):
    one = make_round()
    for _ in range(6):
        one.job(*shell('echo x >> "$1"; sleep 4', str(condor_root / "executions")))
    backend.submit(one.key, one.jobs)
    follow_to(backend, one.key, RUNNING, jobs=3)
    pool.kill("schedd")
    assert states(follow(backend, [one.key], patience=150)[one.key]) == dict.fromkeys(range(6), SUCCEEDED)


def test_the_collector_dies(backend, make_round, pool):
    first, second = make_round(), make_round()
    first.job(*shell("sleep 2"))
    second.job(*shell("true"))
    backend.submit(first.key, first.jobs)
    pool.kill("collector")
    backend._helper.close()
    submit_when_possible(backend, second)
    seen = follow(backend, [first.key, second.key], patience=120)
    assert {**states(seen[first.key]), **states(seen[second.key])} == {0: SUCCEEDED}
    assert all(states(seen[key]) == {0: SUCCEEDED} for key in seen)


def test_a_silent_schedd_beside_a_healthy_one(make_condor, make_round, pool):
    silent = make_condor("silent", "main", timeout=3.0)
    healthy = make_condor("healthy", "other", timeout=3.0)
    one, other = make_round(), make_round()
    one.job(*shell("sleep 3"))
    other.job(*shell("sleep 1"))
    silent.submit(one.key, one.jobs)
    follow_to(silent, one.key, RUNNING)
    healthy.rounds()
    pool.stop_silently("schedd")
    try:
        said: list[str] = []
        asking = threading.Thread(target=lambda: said.append(trouble(silent, one.key)))
        asking.start()
        begin = time.monotonic()
        latencies = []
        healthy.submit(other.key, other.jobs)
        while asking.is_alive():
            before = time.monotonic()
            healthy.rounds()
            latencies.append(time.monotonic() - before)
            time.sleep(0.05)
        assert time.monotonic() - begin < 30
        assert "did not answer within 3 s" in said[0]
        assert "main@pool.test" in said[0]
        assert len(latencies) > 10
        assert sorted(latencies)[len(latencies) // 2] < 1.0, "the healthy one is as quick as ever"
        assert states(follow(healthy, [other.key])[other.key]) == {0: SUCCEEDED}
        fresh = make_round()
        fresh.job(*shell("true"))
        before = time.monotonic()
        with pytest.raises(BackendError, match="did not answer"):
            silent.submit(fresh.key, fresh.jobs)
        assert time.monotonic() - before < 30
    finally:
        pool.resume("schedd")
    deadline = time.monotonic() + 90
    while True:
        try:
            silent.submit(fresh.key, fresh.jobs)
            break
        except BackendError:
            assert time.monotonic() < deadline, "it does not work again by itself"
            time.sleep(0.5)
    assert len(clusters_in_queue(silent, fresh.key)) <= 1
    seen = follow(silent, [one.key, fresh.key], patience=120)
    assert [states(seen[key]) for key in (one.key, fresh.key)] == [{0: SUCCEEDED}] * 2


def test_without_a_collector_the_schedd_is_asked_as_before(backend, make_round, pool):
    """That nobody can say why a job is idle must not cut off the schedd, whose address is known."""
    one = make_round()
    one.job(*shell("true"))
    backend.submit(one.key, one.jobs, {"requirements": "false"})
    cluster = cluster_of(backend, one.key)
    os.kill(pool.daemon("master"), signal.SIGSTOP)
    try:
        pool.stop_silently("collector")
        begin = time.monotonic()
        assert backend._helper.call("idle_reason", cluster=cluster, proc=0) is None
        assert time.monotonic() - begin < 15
        pool.kill("collector")
        assert backend._helper.call("idle_reason", cluster=cluster, proc=0) == ""
        assert backend.rounds() == [one.key]
    finally:
        os.kill(pool.daemon("master"), signal.SIGCONT)
    deadline = time.monotonic() + 60
    while not pool._complete():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    backend.remove(one.key)


def test_the_folder_of_a_helper_that_lives_is_left_alone(make_condor, condor_root):
    """Also if its process is not to be seen from here: hosts and containers may share CALIB_HOME."""
    backend = make_condor("first")
    backend.check()
    (live,) = (condor_root / "private").glob("condor-*")
    # As from another container: its maker is no process of this one.
    elsewhere = live.rename(live.with_name("condor-999999999-x"))
    left = live.with_name("condor-999999998-y")
    left.mkdir()
    (left / "alive").touch()
    for folder in (elsewhere, left):
        os.utime(folder, (time.time() - 3600,) * 2)
    make_condor("second").check()
    assert (elsewhere / "tokens.d" / "calib").is_symlink()
    assert not left.exists()
    elsewhere.rename(live)
