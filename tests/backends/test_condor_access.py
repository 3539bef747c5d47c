"""Who may, and what is refused: tokens, full disks, a schedd's own rules."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.errors import BackendError, SubmissionRefused
from tests.backends.condor_kit import (
    REMOVED,
    SUCCEEDED,
    clusters_in_queue,
    submit_when_possible,
)
from tests.backends.conformance import finals, follow, shell, states
from tests.pool.config import DOMAIN

pytestmark = [pytest.mark.condor, pytest.mark.usefixtures("soon")]


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
    submit_when_possible(backend, one)
    assert len(clusters_in_queue(backend, one.key)) == 1
    assert {seen.state for seen in finals(follow(backend, [one.key])[one.key]).values()} == {SUCCEEDED}


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
