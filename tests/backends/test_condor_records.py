"""Event logs, queues, histories and spools that are not what they were."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.errors import BackendError
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
from tests.pool.config import MAIN

pytestmark = [pytest.mark.condor, pytest.mark.usefixtures("soon")]


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
