"""Jobs on a real HTCondor pool: what becomes of them, and what is said about it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from pathlib import Path

import pytest

from airflow_calib_provider.backends.condor import eventlog
from airflow_calib_provider.checksums import checksum, read_sums
from airflow_calib_provider.domain.observation import FailureClass
from airflow_calib_provider.domain.submission import Resources
from airflow_calib_provider.errors import BackendError, SubmissionRefused
from tests.backends.condor_kit import (
    EVICTED,
    FAILED,
    HELD,
    REMOVED,
    RUNNING,
    SUCCEEDED,
    cluster_of,
    follow_to,
    last,
)
from tests.backends.conformance import finals, follow, shell, states
from tests.backends.planted import PLANTED, has_planted, plain

pytestmark = [pytest.mark.condor, pytest.mark.usefixtures("soon")]


def test_ads_say_where_a_job_belongs(backend, make_round, pool):
    one = make_round("fill-r17")
    one.job(*shell("sleep 60"))
    backend.submit(one.key, one.jobs, {"attributes": {"WantCalib": True, "Project": 'E"CAL'}, "priority": 5})
    follow_to(backend, one.key, RUNNING)
    said = pool.tool(
        "condor_q", "-all", str(cluster_of(backend, one.key)),
        "-af:,", "CalibWorkflow", "CalibTask", "CalibGroup", "CalibJob", "CalibAttempt", "WantCalib", "Project",
        "JobPrio", "JobBatchName", "Owner",
    )  # fmt: skip
    assert [word.strip() for word in said.strip().split(",")] == [
        "flow", "task", "fill-r17", "0", "1", "true", 'E"CAL', "5", "flow.task.fill-r17", "calib",
    ]  # fmt: skip
    backend.remove(one.key)


def test_no_secret_of_airflow_is_in_an_ad_or_reaches_a_job(backend, make_round, pool, monkeypatch):
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    one = make_round()
    folder = one.job(*shell("echo seen-by-the-job; env; sleep 60"), environment={"OWN": "value-of-its-own"})
    backend.submit(one.key, one.jobs)
    follow_to(backend, one.key, RUNNING)
    ads = pool.tool("condor_q", "-all", str(cluster_of(backend, one.key)), "-long")
    backend.remove(one.key)
    follow(backend, [one.key])
    spool = [file for file in backend._folder(one.key).path.rglob("*") if file.is_file()]
    texts = [ads, *(file.read_text(errors="replace") for file in (*spool, *folder.parent.rglob("std*")))]
    assert "CALIB_SCRIPT" in ads
    assert any("value-of-its-own" in plain(text) for text in texts)
    assert not any(has_planted(text) for text in texts)


def test_file_transfer(backend, make_round, condor_root):
    """Nothing is shared but what HTCondor carries: inputs of the same name, a script, products, the report."""
    one = make_round()
    sources = [condor_root / name / "result.txt" for name in "ab"]
    for source in sources:
        source.parent.mkdir()
        source.write_text(f"from {source.parent.name}\n")
    script = condor_root / "payload.sh"
    script.write_text(
        '#!/bin/sh\ncat $(cat "$1") "$2" > "$CALIB_OUT/sum"; pwd; echo "{}" >> "$CALIB_REPORT"; exit $3\n'
    )
    script.chmod(0o755)
    folders = []
    for code in ("0", "7"):
        folder = one.job("placeholder")
        job = one.jobs.pop()
        (folder / "inputs.txt").write_text("")
        environment = {"CALIB_OUT": str(folder / "out"), "CALIB_REPORT": str(folder / "report.jsonl")}
        command = ("sh", str(script), str(folder / "inputs.txt"), str(sources[0]), code)
        inputs = tuple(str(source) for source in sources)
        one.jobs.append(
            dataclasses.replace(job, command=command, environment=environment, inputs=inputs, files=(str(script),))
        )
        folders.append(folder)
    backend.submit(one.key, one.jobs, {"transfer": True})
    end = finals(follow(backend, [one.key])[one.key])
    assert [(end[n].state, end[n].exit_code) for n in (0, 1)] == [(SUCCEEDED, 0), (FAILED, 7)]
    for folder in folders:
        assert (folder / "out" / "sum").read_text() == "from a\nfrom b\nfrom a\n"
        assert (folder / "report.jsonl").read_text() == "{}\n"
        assert "dir_" in (folder / "stdout").read_text(), "it ran in HTCondor's scratch folder"


@pytest.mark.parametrize("transfer", [False, True])
def test_a_job_with_products_leaves_their_checksums(backend, make_round, transfer):
    """And ends as it would without: by its exit code, or by its signal."""
    one = make_round()
    for end in ("exit 0", "exit 7", "kill -SEGV $$; sleep 5"):
        one.job(*shell(f"echo made > c.txt; {end}"))
    one.jobs[:] = [dataclasses.replace(job, products=("c.txt",)) for job in one.jobs]
    for job in one.jobs:
        (job.folder / "inputs.txt").touch()
    backend.submit(one.key, one.jobs, {"transfer": transfer})
    end = finals(follow(backend, [one.key])[one.key])
    assert [(end[n].state, end[n].exit_code, end[n].signal) for n in (0, 1, 2)] == [
        (SUCCEEDED, 0, None), (FAILED, 7, None), (FAILED, None, 11)
    ]  # fmt: skip
    assert read_sums(one.jobs[0].folder) == {"c.txt": checksum(one.jobs[0].folder / "out" / "c.txt")}
    assert read_sums(one.jobs[1].folder) == {}


def test_a_file_that_is_not_there_is_refused(backend, make_round):
    one = make_round()
    one.job(*shell("true"))
    (job,) = one.jobs
    job = dataclasses.replace(job, files=("/no/such/file",))
    with pytest.raises(SubmissionRefused, match="/no/such/file"):
        backend.submit(one.key, [job], {"transfer": True})


def test_too_much_memory_is_a_memory_hold(backend, make_round):
    one = make_round()
    one.job(
        "python3", "-c", "import time; a = bytearray(300 * 2**20); time.sleep(60)", resources=Resources(1, 50 * 2**20)
    )
    backend.submit(one.key, one.jobs)
    seen = follow_to(backend, one.key, HELD)
    assert seen[0].failure is FailureClass.MEMORY
    backend.remove(one.key)


def test_release_lets_the_same_attempt_go_on(backend, make_round, pool):
    one = make_round()
    flag = one.root / "flag"
    one.job(*shell('test -e "$1" || sleep 300', str(flag)))
    backend.submit(one.key, one.jobs)
    follow_to(backend, one.key, RUNNING)
    pool.tool("condor_hold", str(cluster_of(backend, one.key)))
    held = follow_to(backend, one.key, HELD)[0]
    assert (held.failure, held.hold_code) == (FailureClass.PERSON, 1)
    flag.touch()
    backend.release(one.key, [0])
    backend.release(one.key, [0])
    assert states(follow(backend, [one.key])[one.key]) == {0: SUCCEEDED}


def test_removed_by_hand(backend, make_round, pool):
    one = make_round()
    for _ in range(3):
        one.job(*shell("sleep 2"))
    backend.submit(one.key, one.jobs)
    pool.tool("condor_rm", f"{cluster_of(backend, one.key)}.1")
    end = finals(follow(backend, [one.key])[one.key])
    assert [end[n].state for n in range(3)] == [SUCCEEDED, REMOVED, SUCCEEDED]
    assert "condor_rm" in end[1].reason or "removed" in end[1].reason.lower()


def test_evicted_and_run_again(backend, make_round, pool):
    one = make_round()
    counter = one.root / "starts"
    folder = one.job(*shell('echo x >> "$1"; echo $$ >> mine; [ $(wc -l < "$1") -gt 1 ] || sleep 300', str(counter)))
    backend.submit(one.key, one.jobs)
    follow_to(backend, one.key, RUNNING)
    while not counter.exists():
        time.sleep(0.1)
    pool.tool("condor_vacate_job", "-fast", str(cluster_of(backend, one.key)))
    seen = follow(backend, [one.key])[one.key]
    assert EVICTED in [item.state for item in seen]
    assert states(seen) == {0: SUCCEEDED}
    assert counter.read_text() == "x\nx\n"
    assert len((folder / "out" / "mine").read_text().splitlines()) == 1, "nothing is left of the first execution"


def test_suspended_and_continued(backend, make_round, pool):
    one = make_round()
    one.job(*shell("sleep 3"))
    backend.submit(one.key, one.jobs)
    follow_to(backend, one.key, RUNNING)
    pool.tool("condor_suspend", str(cluster_of(backend, one.key)))
    seen = follow(backend, [one.key], lambda seen: any(item.reason == "suspended" for item in seen[one.key]))[one.key]
    assert last(seen)[0].state is RUNNING
    pool.tool("condor_continue", str(cluster_of(backend, one.key)))
    assert states(follow(backend, [one.key])[one.key]) == {0: SUCCEEDED}


def test_no_machine_can_run_it_and_the_reason_says_why(backend, make_round):
    one = make_round()
    one.job(*shell("true"), resources=Resources(1, 900 * 2**30))
    one.job(*shell("true"))
    backend.submit(one.key, one.jobs)
    seen = follow(backend, [one.key], lambda seen: any(item.reason for item in seen[one.key]), patience=60)[one.key]
    reason = next(item.reason for item in seen if item.reason)
    assert "idle: no machine matches, because it asks for 921,600 MB of memory and the largest slot has" in reason
    backend.remove(one.key)


def test_requirements_that_nothing_fulfils(backend, make_round):
    one = make_round()
    one.job(*shell("true"))
    backend.submit(one.key, one.jobs, {"requirements": 'OpSysAndVer == "VMS7" && Memory > 1'})
    seen = follow(backend, [one.key], lambda seen: any(item.reason for item in seen[one.key]), patience=60)[one.key]
    reason = next(item.reason for item in seen if item.reason)
    assert "no machine fulfils" in reason
    assert "VMS7" in reason
    assert "Memory > 1" not in reason
    backend.remove(one.key)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"requirements": "this is (not an expression"}, "requirements"),
        ({"commands": {"deferral_time": "not (a time"}}, ""),
        ({"requirements": "a\nqueue 7"}, "line break"),
        ({"attributes": {"Note": "a\nb"}}, "line break"),
        ({"attributes": {"Note": "a\\b"}}, "backslash"),
        ({"attributes": {"Note": "$(script)"}}, "macro"),
        ({"requirements": "Memory > $ENV(HOME)"}, "macro"),
        ({"requirements": "Memory > $RANDOM_CHOICE(1,2)"}, "macro"),
        ({"requirements": "Memory > 1 \\", "accounting_group": "calib"}, "ends with a backslash"),
        ({"commands": {"description": "a\\"}}, "ends with a backslash"),
    ],
)
def test_what_the_pool_cannot_read_is_refused(backend, make_round, options, said):
    one = make_round()
    one.job(*shell("true"))
    with pytest.raises(SubmissionRefused) as caught:
        backend.submit(one.key, one.jobs, options)
    assert said in str(caught.value).lower()
    assert one.key not in backend.rounds()


def test_arguments_of_any_kind_arrive(backend, make_round):
    one = make_round()
    odd = ["$(index)", "$$(Arch)", "$ENV(HOME)", "a\nb\n", "\x1f", "%d\\n", "'\"'", "é\t", "#", "$(DOLLAR)", ";exit 3"]
    folder = one.job(*shell('printf "%s|" "$@" "$X"', *odd), environment={"X": "\n$(script)\n"})
    backend.submit(one.key, one.jobs)
    assert states(follow(backend, [one.key])[one.key]) == {0: SUCCEEDED}
    assert (folder / "stdout").read_text() == "".join(f"{text}|" for text in [*odd, "\n$(script)\n"])


def test_a_command_that_is_too_long_is_refused(backend, make_round):
    one = make_round()
    one.job("true", "x" * 200_000)
    with pytest.raises(SubmissionRefused, match="inputs_file"):
        backend.submit(one.key, one.jobs)


def test_a_long_log_is_read_in_parts(backend, make_round, monkeypatch):
    monkeypatch.setattr(eventlog, "AT_ONCE", 4)
    one = make_round()
    for index in range(12):
        one.job(*shell(f"exit {index % 2}"))
    backend.submit(one.key, one.jobs)
    seen = follow(backend, [one.key])[one.key]
    assert [finals(seen)[n].state for n in range(12)] == [SUCCEEDED, FAILED] * 6
    assert len([item for item in seen if item.state.final]) == 12


def test_unmaterialized_jobs(backend, make_round):
    """Jobs that are in no query yet wait, run in their turn, and can be removed."""
    one = make_round()
    for _ in range(12):
        one.job(*shell("sleep 0.2"))
    backend.submit(one.key, one.jobs, {"max_materialize": 2})
    backend.remove(one.key, [11])
    end = states(follow(backend, [one.key], patience=90)[one.key])
    assert end == {**dict.fromkeys(range(11), SUCCEEDED), 11: REMOVED}
    assert not (Path(one.jobs[11].folder) / "stdout").exists()


def test_removal_of_a_cluster_that_is_not_materialized(backend, make_round):
    one = make_round()
    for _ in range(50):
        one.job(*shell("sleep 300"))
    backend.submit(one.key, one.jobs, {"max_materialize": 3, "max_idle": 1})
    follow_to(backend, one.key, RUNNING)
    backend.remove(one.key)
    assert one.key not in backend.rounds()
    assert set(states(follow(backend, [one.key])[one.key]).values()) == {REMOVED}


def test_unfinished_rounds_are_not_forgotten(backend, make_round):
    one = make_round()
    one.job(*shell("sleep 300"))
    backend.submit(one.key, one.jobs)
    with pytest.raises(BackendError, match="in the queue"):
        backend.forget(one.key)
    backend.remove(one.key)


def test_the_work_of_a_submission_grows_with_its_jobs_alone(backend, make_round):
    """Not with their square: tens of thousands would never be submitted."""
    one = make_round()
    one.job(*shell("true"), environment={f"V{n}": "x" * 100 for n in range(12)})
    (first,) = one.jobs
    jobs = [dataclasses.replace(first, index=number) for number in range(4000)]
    backend.check()
    backend.submit(one.key, jobs, {"max_idle": 1, "requirements": "false"})
    spent = sum(int(ticks) for ticks in Path("/proc", str(backend._helper.pid), "stat").read_text().split()[13:15])
    backend.remove(one.key)
    assert spent / os.sysconf("SC_CLK_TCK") < 3


def test_jobs_that_another_process_removes_before_they_are_materialized(make_condor, make_round):
    """Also after this one looked at the round for the first time."""
    backend, other = make_condor(), make_condor(timeout=19.0)
    one = make_round()
    for _ in range(8):
        one.job(*shell("sleep 0.5"))
    backend.submit(one.key, one.jobs, {"max_materialize": 2})
    cursor = backend.poll({one.key: ""})[one.key].cursor
    other.remove(one.key, [7])
    seen = []
    deadline = time.monotonic() + 90
    while not (news := backend.poll({one.key: cursor})[one.key]).finished:
        assert time.monotonic() < deadline
        seen += news.observations
        cursor = news.cursor
        time.sleep(0.05)
    end = states([*seen, *news.observations])
    assert end == {**dict.fromkeys(range(7), SUCCEEDED), 7: REMOVED}
    assert not (Path(one.jobs[7].folder) / "stdout").exists()


def test_a_folder_that_cannot_be_made_holds_the_job(backend, make_round):
    """As at a site where the token's user may not write below the installation's folder."""
    one = make_round()
    folder = one.job(*shell("true"))
    shutil.rmtree(folder)
    folder.parent.chmod(0o555)
    backend.submit(one.key, one.jobs)
    held = follow_to(backend, one.key, HELD)[0]
    assert f"{folder.name}: Permission denied" in held.reason
    folder.parent.chmod(0o777)
    backend.release(one.key, [0])
    assert states(follow(backend, [one.key])[one.key]) == {0: SUCCEEDED}
    assert (folder / "out").is_dir()
