"""What fails around a real HTCondor pool: nothing is lost, nothing is done twice, nobody else waits."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from airflow_calib_provider.backends.base import AttemptState, FailureClass
from airflow_calib_provider.errors import BackendError, SubmissionRefused
from tests.backends.condor_kit import (
    HELD,
    LOST,
    REMOVED,
    RUNNING,
    SUCCEEDED,
    cluster_of,
    clusters_in_queue,
    follow_to,
    trouble,
)
from tests.backends.conformance import finals, follow, running, shell, states
from tests.pool.config import DOMAIN, MAIN

pytestmark = [pytest.mark.condor]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_CONDOR_VERIFY_INTERVAL", "2")


# Somebody dies


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
    deadline = time.monotonic() + 60
    while True:
        try:
            backend.submit(second.key, second.jobs)
            break
        except BackendError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    seen = follow(backend, [first.key, second.key], patience=120)
    assert {**states(seen[first.key]), **states(seen[second.key])} == {0: SUCCEEDED}
    assert all(states(seen[key]) == {0: SUCCEEDED} for key in seen)


# Silence


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


# The event log


@pytest.mark.parametrize("what", ["deleted", "truncated", "damaged", "replaced"])
def test_the_event_log_is_no_more_what_it_was(make_condor, make_round, what):
    backend = make_condor(query_interval=1.0)
    one = make_round()
    for code in (0, 3, 0):
        one.job(*shell(f"sleep 8; exit {code}"))
    backend.submit(one.key, one.jobs)
    follow(backend, [one.key], running(one.key, 3))
    log: Path = backend._folder(one.key).log
    if what == "deleted":
        log.unlink()
    elif what == "truncated":
        os.truncate(log, 10)
    elif what == "damaged":
        with log.open("ab") as stream:
            stream.write(b"\0\xff garbage\n...\n005 (abc\n...\n" * 5)
    else:
        log.rename(log.with_name("log.old"))
        log.write_text("")
    end = finals(follow(backend, [one.key], patience=120)[one.key])
    assert [(end[n].state, end[n].exit_code) for n in range(3)] == [
        (SUCCEEDED, 0),
        (AttemptState.FAILED, 3),
        (SUCCEEDED, 0),
    ]


def test_queries_alone(make_condor, make_round, pool):
    """A remote schedd that shares no event log."""
    backend = make_condor(event_log=False, query_interval=1.0)
    one = make_round()
    for text in ("exit 0", "exit 3", "kill -9 $$", "sleep 300", "sleep 300", "sleep 1"):
        one.job(*shell(text))
    backend.submit(one.key, one.jobs, {"max_materialize": 5})
    follow_to(backend, one.key, RUNNING, jobs=1)
    cluster = cluster_of(backend, one.key)
    pool.tool("condor_rm", f"{cluster}.3")
    pool.tool("condor_hold", f"{cluster}.4")
    held = follow_to(backend, one.key, HELD)
    assert held[4].hold_code == 1
    backend.remove(one.key, [4])
    end = finals(follow(backend, [one.key], patience=120)[one.key])
    assert [end[n].state for n in range(6)] == [
        SUCCEEDED,
        AttemptState.FAILED,
        AttemptState.FAILED,
        REMOVED,
        REMOVED,
        SUCCEEDED,
    ]
    assert (end[1].exit_code, end[2].signal) == (3, 9)
    assert not backend._folder(one.key).log.exists()


def test_queries_alone_tell_soon_of_a_release(make_condor, make_round, pool):
    """Else the job is held for half a minute more: it would be released again, or removed while it runs."""
    backend = make_condor(event_log=False, query_interval=1.0)
    one = make_round()
    one.job(*shell("sleep 300"))
    backend.submit(one.key, one.jobs)
    follow_to(backend, one.key, RUNNING)
    pool.tool("condor_hold", str(cluster_of(backend, one.key)))
    follow_to(backend, one.key, HELD)
    object.__setattr__(backend.settings, "query_interval", 3600.0)
    backend._watch._settings = backend.settings
    backend.release(one.key, [0])
    (seen,) = backend.poll({one.key: ""})[one.key].observations
    assert seen.state in (AttemptState.SUBMITTED, AttemptState.EVICTED, RUNNING)
    backend.remove(one.key)


def test_some_jobs_of_a_round_whose_folder_is_away(backend, make_round):
    """Which of them they are cannot be told: the others are left alone."""
    one = make_round()
    for _ in range(2):
        one.job(*shell("sleep 300"))
    backend.submit(one.key, one.jobs)
    follow_to(backend, one.key, RUNNING, jobs=2)
    cluster, folder = cluster_of(backend, one.key), backend._folder(one.key).path
    away = folder.rename(backend.spool.parent / "away")
    with pytest.raises(BackendError, match="bring it back"):
        backend.remove(one.key, [0])
    with pytest.raises(BackendError, match="bring it back"):
        backend.release(one.key, [0])
    ads = backend._helper.call("query", clusters=[cluster])
    assert [ad["JobStatus"] for ad in ads if "ProcId" in ad] == [2, 2]
    shutil.rmtree(folder, ignore_errors=True)
    away.rename(folder)
    backend.remove(one.key, [0])
    backend.remove(one.key)


def test_a_connection_that_leads_to_another_schedd_by_now(make_condor, make_round):
    """Its jobs are neither lost, as they would run twice then, nor removed, though that one has none of them."""
    one = make_round()
    one.job(*shell("sleep 300"))
    backend = make_condor("moved", "main")
    backend.submit(one.key, one.jobs)
    follow_to(backend, one.key, RUNNING)
    elsewhere = make_condor("moved", "other")
    assert "main@pool.test, and the connection leads to other@pool.test" in trouble(elsewhere, one.key)
    for act in (lambda: elsewhere.remove(one.key), lambda: elsewhere.release(one.key, [0])):
        with pytest.raises(BackendError, match="leads to other"):
            act()
    with pytest.raises(BackendError, match="leads to other"):
        elsewhere.forget(one.key)
    back = make_condor("moved", "main")
    assert back.rounds() == [one.key]
    back.remove(one.key)
    assert states(follow(back, [one.key])[one.key]) == {0: REMOVED}


def test_jobs_that_nobody_knows_are_lost(make_condor, make_round, pool):
    """A schedd whose spool was lost: neither queue nor history has them."""
    backend = make_condor(event_log=False, query_interval=1.0)
    one = make_round()
    one.job(*shell("sleep 300"))
    backend.submit(one.key, one.jobs)
    (backend._folder(one.key).path / "cluster").write_text("987654")
    seen = follow(backend, [one.key], patience=60)[one.key]
    assert states(seen) == {0: LOST}
    backend._helper.call("act", action="remove", cluster=clusters_in_queue(backend, one.key)[0], procs=None, reason="x")


# Refusals


def test_a_wrong_token(make_condor, make_round, pool):
    backend = make_condor("forged", token=pool.token(forged=True))
    one = make_round()
    one.job(*shell("true"))
    with pytest.raises(BackendError) as caught:
        backend.submit(one.key, one.jobs)
    assert "token" in str(caught.value)
    assert pool.token(forged=True).split(".")[0] not in str(caught.value)


def test_a_token_file_that_is_not_there(make_condor):
    backend = make_condor(token_file="/no/such/token")
    with pytest.raises(BackendError, match="/no/such/token"):
        backend.check()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"collector": "127.0.0.1:9"}, "127.0.0.1:9"), ({"schedd": "nobody@nowhere"}, "nobody@nowhere")],
)
def test_nobody_there(make_condor, wrong, said):
    with pytest.raises(BackendError) as caught:
        make_condor("nobody", timeout=10.0, more=wrong).check()
    assert said in str(caught.value)
    assert caught.value.hint


def test_the_file_system_proves_who_one_is(make_condor, condor_root, reconfigured):
    """FS, as on a submit host: without a token. The tests' user, root, is HTCondor's own there, who runs no jobs."""
    place = condor_root / "fs"
    place.mkdir()
    settings = {"authentication": "FS", "token": "", "more": {"configuration": {"FS_LOCAL_DIR": str(place)}}}
    with pytest.raises(BackendError, match="authentication method"):
        make_condor("by_fs", **settings).check()
    reconfigured(
        "SEC_DEFAULT_AUTHENTICATION_METHODS = FS, IDTOKENS",
        "SEC_READ_AUTHENTICATION_METHODS = FS, IDTOKENS",
        f"FS_LOCAL_DIR = {place}",
    )
    assert f"answers as condor@{DOMAIN}" in make_condor("by_fs_too", **settings).check()


def test_a_token_is_private_and_goes_away(make_condor, pool, condor_root):
    token = pool.token()
    backend = make_condor("secret", token=token)
    assert "calib@pool.test" in backend.check()
    (file,) = (condor_root / "private").glob("condor-*/tokens.d/calib")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in (file.parent, file.parent.parent))
    process = Path("/proc", str(backend._helper.pid))
    assert token.encode() not in (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
    assert token not in repr(backend.settings)
    backend.close()
    assert not file.exists()


def test_the_spool_of_the_schedd_is_full(make_condor, make_round, pool):
    backend = make_condor(at="other")
    one = make_round()
    for _ in range(20):
        one.job(*shell("true"))
    pool.fill_spool()
    try:
        with pytest.raises(BackendError, match="is the disk of the schedd's spool full"):
            backend.submit(one.key, one.jobs)
    finally:
        pool.empty_spool()
    deadline = time.monotonic() + 60
    while True:
        try:
            backend.submit(one.key, one.jobs)
            break
        except BackendError:
            assert time.monotonic() < deadline
            time.sleep(1)
    assert {seen.state for seen in finals(follow(backend, [one.key])[one.key]).values()} == {SUCCEEDED}
    assert len(clusters_in_queue(backend, one.key)) <= 1


def test_a_full_disk(backend, make_round, condor_root):
    place = condor_root / "spool"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        one = make_round()
        for _ in range(200):
            one.job(*shell("true"))
        with pytest.raises(BackendError, match="disk full"):
            backend.submit(one.key, one.jobs)
        assert one.key not in backend.rounds()
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_what_the_schedd_refuses_is_refused_and_holds_up_nobody_else(backend, make_round, reconfigured):
    reconfigured(
        "SUBMIT_REQUIREMENT_NAMES = Project",
        "SUBMIT_REQUIREMENT_Project = Project =!= undefined",
        'SUBMIT_REQUIREMENT_Project_REASON = "say which Project this is for"',
    )
    one = make_round()
    one.job(*shell("true"))
    with pytest.raises(SubmissionRefused, match="say which Project this is for"):
        backend.submit(one.key, one.jobs)
    assert one.key not in backend.rounds()
    backend.submit(one.key, one.jobs, {"attributes": {"Project": "calib"}})
    assert states(follow(backend, [one.key])[one.key]) == {0: SUCCEEDED}


@pytest.mark.parametrize(
    "said",
    [
        "Failed to create new cluster.",
        "Failed to send Cluster Ad",
        "Failed to send item data (late materialization), errmsg=",
        "Unable to commit transaction: ",
        "Failed to connect to schedd.",
    ],
)
def test_a_schedd_that_dies_in_a_submission_refuses_nothing(said, tmp_path, monkeypatch):
    """Jobs that are refused end their job set for ever; what a broken connection says must not."""
    from airflow_calib_provider.backends.condor import calls

    class Broken:
        def submit(self, *_: object, **__: object) -> None:
            raise RuntimeError(said)

    made = calls.Calls()
    monkeypatch.setattr(made, "_schedd", Broken)
    with pytest.raises(RuntimeError):
        made._submit_now({"description": {"executable": "/bin/true"}, "names": ["index"]}, tmp_path / "items")


class Asked:
    """A schedd that knows nothing, and remembers how its history was searched."""

    def __init__(self) -> None:
        self.searched: list[tuple[str, int, str]] = []

    def query(self, *_: object, **__: object) -> list[object]:
        return []

    def history(self, constraint: str, projection: object, match: int = -1, since: str = "") -> list[object]:
        self.searched.append((constraint, match, since))
        return []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """The calls of a helper, and the schedd that they are made to."""
    from airflow_calib_provider.backends.condor import calls

    made, schedd = calls.Calls(), Asked()
    monkeypatch.setattr(made, "_schedd", lambda: schedd)
    return made, schedd


def test_a_first_submission_searches_no_history(asked, tmp_path):
    """It may be of gigabytes: each submission would take minutes, and in the end exceed its limit."""
    calls, schedd = asked
    calls._find("true", tmp_path)
    assert schedd.searched == []
    (tmp_path / "tried").touch()
    calls._find("true", tmp_path)
    ((_, match, since),) = schedd.searched
    assert match == 1
    assert "CompletionDate <" in since


def test_the_history_is_searched_for_what_is_missing_only(asked):
    calls, schedd = asked
    calls.history([(7, [3, 5]), (9, range(0, 10_000, 2))], 2_000_000_000)
    ((constraint, match, since),) = schedd.searched
    assert "(ClusterId == 7 && ((ProcId >= 3 && ProcId <= 3) || (ProcId >= 5 && ProcId <= 5)))" in constraint
    assert len(constraint) < 5000
    # Those in the narrow gaps are found, too, and must not end the search before the others.
    assert match == 2 + 10_000 - 1 - 49
    assert int(since.rpartition(" ")[2]) <= 2_000_000_000 - 10 * 86_400, "-spool keeps jobs for ten days in the queue"


def test_the_number_of_a_cluster_may_be_given_again(make_condor, make_round):
    """By a schedd whose spool was lost: a stranger's jobs must neither be taken for ours nor be touched."""
    backend = make_condor(event_log=False, query_interval=1.0)
    lost, stranger = make_round(), make_round()
    for one in (lost, stranger):
        one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
    first = cluster_of(backend, lost.key)
    (backend._folder(lost.key).path / "cluster").write_text(str(cluster_of(backend, stranger.key)))
    backend.remove(lost.key)
    assert stranger.key in backend.rounds()
    both = [lost.key, stranger.key]
    seen = follow(backend, both, lambda seen: LOST in states(seen[lost.key]).values(), patience=60)
    assert states(seen[stranger.key]) == {}
    (backend._folder(lost.key).path / "cluster").write_text(str(first))
    for one in (lost, stranger):
        backend.remove(one.key)
    assert backend.rounds() == []


def test_a_spool_that_is_away_for_a_while(make_condor, make_round):
    """Such as a file system that is not mounted: what runs is not given up, which would run it twice."""
    backend = make_condor(query_interval=1.0)
    one = make_round()
    one.job(*shell("sleep 6"))
    backend.submit(one.key, one.jobs)
    follow(backend, [one.key], running(one.key, 1))
    away = backend.spool.rename(backend.spool.with_name("away"))
    try:
        news = backend.poll({one.key: ""})[one.key]
        assert (news.finished, list(news.observations)) == (False, [])
        assert "though jobs of it are in the queue" in news.trouble
    finally:
        away.rename(backend.spool)
    assert states(follow(backend, [one.key])[one.key]) == {0: SUCCEEDED}
    backend.forget(one.key)
    assert backend.poll({one.key: ""})[one.key].finished


def test_two_installations_with_the_same_paths(make_condor, make_round, condor_root, monkeypatch):
    """Such as two containers: neither takes, sees or removes what the other has in the queue."""
    ours = make_condor()
    one = make_round()
    one.job(*shell("sleep 60"))
    # One that never starts: nothing of it is written to the path that the other installation has, too.
    ours.submit(one.key, one.jobs, {"requirements": "false"})
    until = time.monotonic() + 60
    while "job submitted" not in (log.read_text() if (log := ours._folder(one.key).log).exists() else "").lower():
        assert time.monotonic() < until
        time.sleep(0.2)
    hidden = ours.spool.rename(ours.spool.with_name("hidden"))
    monkeypatch.setenv("CALIB_HOME", str(condor_root / "other"))
    other = make_condor()
    assert other.spool == ours.spool
    other.submit(one.key, one.jobs, {"requirements": "false"})
    assert cluster_of(other, one.key) != int((hidden / str(one.key) / "cluster").read_text())
    assert len(clusters_in_queue(other, one.key)) == 1
    other.remove(one.key)
    shutil.rmtree(other.spool)
    hidden.rename(ours.spool)
    assert other.rounds() == []
    monkeypatch.setenv("CALIB_HOME", str(condor_root))
    assert ours.rounds() == [one.key]
    ours.remove(one.key)


def test_an_ad_that_somebody_made_by_hand(backend, make_round, pool):
    one = make_round()
    one.job(*shell("sleep 60"))
    backend.submit(one.key, one.jobs)
    cluster = cluster_of(backend, one.key)
    pool.tool("condor_qedit", "-name", MAIN, f"{cluster}", "CalibRound", '"mine"')
    assert backend.rounds() == []
    pool.tool("condor_rm", "-name", MAIN, f"{cluster}")


def test_a_spool_that_is_away_while_the_schedd_does_not_answer(make_condor, make_round):
    backend = make_condor("nobody", timeout=10.0, more={"collector": "127.0.0.1:9"})
    news = backend.poll({make_round().key: ""}).values()
    assert [(one.finished, bool(one.trouble)) for one in news] == [(False, True)]


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


def test_what_the_pool_removes_by_its_policy_is_a_failure(backend, make_round, reconfigured):
    """To be tried again, not a person's wish, after which nothing is."""
    reconfigured(
        "SYSTEM_PERIODIC_REMOVE = JobStatus == 2 && CalibJob == 0",
        'SYSTEM_PERIODIC_REMOVE_REASON = "memory usage exceeded request_memory"',
    )
    one = make_round()
    for _ in range(2):
        one.job(*shell("sleep 300"))
    backend.submit(one.key, one.jobs)
    follow(backend, [one.key], lambda seen: 0 in states(seen[one.key]))
    backend.remove(one.key)
    end = finals(follow(backend, [one.key])[one.key])
    assert [end[n].state for n in (0, 1)] == [AttemptState.FAILED, REMOVED]
    assert (end[0].failure, end[1].failure) == (FailureClass.MEMORY, FailureClass.PERSON)
    assert "removed by the pool: memory usage" in end[0].reason
    assert "removed by calib" in end[1].reason
