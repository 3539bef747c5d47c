"""What is made of what HTCondor and its jobs wrote, without a pool."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_calib_provider.backends import scripts
from airflow_calib_provider.backends.condor import eventlog, outcomes, submission, survey, watch
from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.backends.condor.calls import Calls
from airflow_calib_provider.backends.condor.cursor import Cursor
from airflow_calib_provider.backends.condor.folder import Procs
from airflow_calib_provider.backends.condor.helper import Helper
from airflow_calib_provider.backends.condor.keys import CondorKeys
from airflow_calib_provider.backends.condor.names import over
from airflow_calib_provider.backends.condor.outcomes import Proc
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.domain.observation import FailureClass
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import BackendError, SubmissionRefused

T = datetime(2026, 5, 1, tzinfo=UTC)


def not_started(folder: Path) -> str | None:
    return outcomes.ended(Proc(0, 0, 1, folder), T, exit_code=127, signal=None).reason


def test_the_last_words_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "stderr").write_bytes(b"a\nno such\0 program \xff\n")
    assert not_started(tmp_path) == "exit code 127: no such program \ufffd"
    assert outcomes.ended(Proc(0, 0, 1, tmp_path), T, exit_code=127, signal=None).failure is FailureClass.START


def test_a_job_cannot_stop_the_watcher_or_read_with_its_eyes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stderr")
    assert not_started(tmp_path) == "exit code 127"
    (tmp_path / "stderr").unlink()
    (tmp_path / "secret").write_text("the password\n")
    (tmp_path / "stderr").symlink_to(tmp_path / "secret")
    assert not_started(tmp_path) == "exit code 127"


HEAD = """\
000 (005.000.000) 2026-05-01 05:36:09 Job submitted from host: <127.0.0.1:9618>
...
001 (005.000.000) 2026-05-01 05:36:10 Job executing on host: <127.0.0.1:9618>
...
"""
EVICTED = """\
004 (005.000.000) 2026-05-01 05:36:11 Job was evicted.{code}
\t(0) CPU times
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Remote Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Local Usage
\t0  -  Run Bytes Sent By Job
\t219  -  Run Bytes Received By Job
\tReason: {why}
...
"""
HELD = """\
012 (005.000.000) 2026-05-01 05:36:11 Job was held.
\tvia condor_hold (by user calib)
\tCode 1 Subcode 0
...
"""


def read(log: Path, cursor: Cursor) -> list[str]:
    return [one.state.value for one in eventlog.read(log, cursor, [Proc(0, 0, 1, log.parent)]).observations]


def test_a_hold_of_a_running_job_is_no_loss(tmp_path: Path) -> None:
    """HTCondor logs an eviction first; counted, the tenth release of a job would be its last."""
    log = tmp_path / "log"
    log.write_text(HEAD + EVICTED.format(code=" Code 1 Subcode 0", why="via condor_hold (by user calib)") + HELD)
    assert read(log, Cursor()) == ["running", "held"]
    log.write_text(
        HEAD + EVICTED.format(code=" Code 1010 Subcode 0", why="preempted") + EVICTED.format(code="", why="")
    )
    assert read(log, Cursor()) == ["running", "evicted", "evicted"]


def test_a_job_that_was_put_back_instead_of_held_was_evicted(tmp_path: Path) -> None:
    """As one whose container cannot be started, again and again: each time counts, and the reason is told."""
    log, cursor = tmp_path / "log", Cursor()
    vacated = EVICTED.format(code=" Code 45 Subcode 0", why="Singularity test failed")
    log.write_text(HEAD + vacated)
    assert read(log, cursor) == ["running"]
    cursor = Cursor.parse(str(cursor))
    [seen] = eventlog.read(log, cursor, [Proc(0, 0, 1, tmp_path)]).observations
    assert (seen.state.value, seen.reason) == ("evicted", "evicted: Singularity test failed")
    assert read(log, cursor) == []
    with log.open("a") as stream:
        stream.write(HEAD.partition("...\n")[2] + vacated + HEAD.partition("...\n")[2] + vacated + HELD)
    assert read(log, cursor) == ["running", "evicted", "running", "held"]
    assert read(log, cursor) == []
    assert not cursor.vacated


def test_evictions_are_not_told_again_from_a_log_that_was_replaced(tmp_path: Path) -> None:
    """They are counted each time: what is told again must do no harm."""
    log, cursor = tmp_path / "log", Cursor()
    log.write_text(HEAD + EVICTED.format(code="", why="preempted"))
    assert read(log, cursor) == ["running", "evicted"]
    log.rename(tmp_path / "old")
    log.write_text((tmp_path / "old").read_text())
    assert read(log, cursor) == ["running"]
    with log.open("a") as stream:
        stream.write(EVICTED.format(code="", why="preempted"))
    assert read(log, cursor) == ["evicted"]


@pytest.mark.parametrize("written", [1, 3, 4, 40, len(HELD) - 1])
def test_an_event_that_is_written_in_two_parts_is_told_when_it_is_whole(tmp_path: Path, written: int) -> None:
    """The bindings lose the first characters of an event of which there is no more yet."""
    log, cursor = tmp_path / "log", Cursor()
    log.write_text(HEAD + HELD[:written])
    assert read(log, cursor) == ["running"]
    began = time.monotonic()
    assert read(log, cursor) == []
    assert time.monotonic() - began < 0.4, "nor is it waited for"
    with log.open("a") as stream:
        stream.write(HELD[written:])
    assert read(log, cursor) == ["held"]
    assert read(log, cursor) == []


def test_what_is_no_event_is_told_as_damage(tmp_path: Path) -> None:
    """Such as the zeros that a machine leaves that died while it wrote: the schedd is asked then."""
    log, cursor = tmp_path / "log", Cursor()
    log.write_bytes(HEAD.encode() + b"\0" * 5000 + HELD.encode())
    procs = [Proc(0, 0, 1, tmp_path)]
    looks = [eventlog.read(log, cursor, procs) for _ in range(3)]
    assert [one.state.value for one in looks[0].observations] == ["running"]
    assert "damaged" in "".join(one.doubt for one in looks)
    assert cursor.offset == log.stat().st_size
    with log.open("a") as stream:
        stream.write(HELD)
    assert read(log, cursor) == ["held"], "what comes after it counts"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("/data/geo.root", '"$CALIB_SCRATCH"/in/0'),
        ("--geo=/data/geo.root:x", '--geo="$CALIB_SCRATCH"/in/0:x'),
        ("-I/data/lib/x.h", '-I"$CALIB_SCRATCH"/in/1/x.h'),
        ("file:///data/geo.root", 'file://"$CALIB_SCRATCH"/in/0'),
        ("/data/lib/own", '"$CALIB_SCRATCH"/in/2'),
        ("/data/lib/owner", '"$CALIB_SCRATCH"/in/1/owner'),
        ("/jobs/a b/job-1-a1/out", '"$CALIB_SCRATCH"/out'),
        # Other paths, of which those that were moved are only parts.
        ("/data/geo.root.bak", "/data/geo.root.bak"),
        ("/data/lib2", "/data/lib2"),
        ("/backup/data/geo.root", "/backup/data/geo.root"),
        ("../data/geo.root", "../data/geo.root"),
        ("root://host//data/geo.root", "root://host//data/geo.root"),
        ("/jobs/a b/job-1-a12/out", "'/jobs/a b/job-1-a12/out'"),
    ],
)
def test_paths_in_words(word: str, expected: str) -> None:
    moved = {"/data/geo.root": "in/0", "/data/lib": "in/1", "/data/lib/own": "in/2", "/jobs/a b/job-1-a1": ""}
    made = scripts.with_moved_paths(word, moved, scripts.any_of(moved))
    assert made == expected


@pytest.mark.parametrize("defaults", [{"requirement": "true"}, {"files": []}, {"attributes": "Project"}, {1: 2}])
def test_defaults_of_a_connection_that_would_be_ignored_are_mistakes(defaults: dict[Any, Any]) -> None:
    with pytest.raises(BackendError, match="defaults"):
        CondorSettings.from_mapping("far", {"defaults": defaults})


def test_defaults_of_a_connection_know_what_a_spec_knows() -> None:
    known = {
        "transfer": True,
        "container_image": "docker://alma9",
        "max_materialize": 1000,
        "max_idle": 200,
        "requirements": "Memory > 1",
        "accounting_group": "group_calib.ecal",
        "accounting_group_user": "ecal",
        "priority": -5,
        "attributes": {"WantCalib": True},
        "commands": {"nice_user": "true"},
    }
    assert {*known, "files"} == set(CondorKeys.declared), "all but what a task alone knows"
    assert CondorSettings.from_mapping("far", {"defaults": known}).defaults == known


@pytest.mark.parametrize(
    "defaults",
    [
        {"max_idle": "many"},
        {"requirements": "a\nqueue 5"},
        {"attributes": {"CalibRound": "mine"}},
        {"commands": {"universe": "local"}},
        {"commands": {"nice_usr": "true"}},
    ],
)
def test_defaults_of_a_connection_are_read_as_a_spec_is(defaults: dict[str, Any]) -> None:
    with pytest.raises(BackendError, match="the connection far: defaults: "):
        CondorSettings.from_mapping("far", {"defaults": defaults})


def test_names_of_attributes_know_no_case() -> None:
    first = {"priority": 1, "attributes": {"Project": "ECAL", "Site": "T2"}}
    found = over(first, {"attributes": {"project": "HCAL"}})
    assert found["attributes"] == {"Site": "T2", "project": "HCAL"}
    assert (found["priority"], found["commands"]) == (1, {})


def test_a_large_round_is_not_written_again_while_nothing_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    backend = CondorBackend(CondorSettings.from_mapping("far", {}), tmp_path / "spool")
    backend._helper._note_trouble(BackendError("no answer"))
    job = JobSubmission(0, 1, ("true",), {}, tmp_path / "job")
    with pytest.raises(BackendError, match="no answer"):
        backend.submit(RoundKey("c", "w", "t", "g", 1, 0, 0), [job])
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("again", [False, True])
def test_a_job_makes_its_own_folder(tmp_path: Path, again: bool) -> None:
    """With the permissions that it would have from here, and its own lists; the second time it begins empty."""
    folder = tmp_path / "at tempts" / "job-00000-a1"
    folder.parent.mkdir()
    environment = {"CALIB_OUT": str(folder / "out"), "ODD": "a'b \\ $x\nü"}
    lists = {"inputs.txt": "/a b\n/it's %s \\n\n"}
    command = ("sh", "-c", 'cat ../inputs.txt; printf %s "$ODD"; pwd >&2; echo x >> made')
    job = JobSubmission(0, 1, command, environment, folder, lists=lists)
    script = scripts.encode(scripts.shared_script(job))
    assert not set(script) & set(" \n\t'\"$();&|<>{}*?#~`")
    for _ in range(1 + again):
        run = ["sh", "-c", submission.JOB_SH.partition("\n")[2]]
        ended = subprocess.run(run, env={"PATH": os.environ["PATH"], "CALIB_SCRIPT": script}, check=False, timeout=30)
        assert ended.returncode == 0
    assert (folder / "stdout").read_text() == lists["inputs.txt"] + environment["ODD"]
    assert (folder / "stderr").read_text() == f"{folder / 'out'}\n"
    assert (folder / "out" / "made").read_text() == "x\n"
    beside = tmp_path / "beside"
    beside.mkdir()
    assert folder.stat().st_mode == beside.stat().st_mode


def test_a_job_makes_nothing_above_its_folder(tmp_path: Path) -> None:
    """Where the file system is not mounted, its products would be lost."""
    job = JobSubmission(0, 1, ("true",), {}, tmp_path / "attempts" / "job-00000-a1")
    script = scripts.encode(scripts.shared_script(job))
    run = ["sh", "-c", submission.JOB_SH]
    ended = subprocess.run(
        run,
        env={"PATH": os.environ["PATH"], "CALIB_SCRIPT": script},
        check=False,
        timeout=30,
        text=True,
        stderr=subprocess.PIPE,
    )
    assert ended.returncode == scripts.NOT_ENTERED
    assert "job-00000-a1" in ended.stderr
    assert not (tmp_path / "attempts").exists()


def test_rounds_that_nobody_asks_about_are_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generation that a person kills leaves its rounds without an end that a triggerer would ever see."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    backend = CondorBackend(spool=tmp_path / "spool")
    key = RoundKey("prompt", "flow", "task", "run-r1", 1, 0, 0)
    folder = backend._folder(key)
    folder.prepare([JobSubmission(0, 1, ("true",), {}, tmp_path / "job")], {}, "")
    (folder.path / "cluster").write_text("7")
    folder.log.touch()
    assert not backend.poll({key: ""})[key].finished
    backend.poll({})
    assert list(backend._watch._rounds) == [key]
    monkeypatch.setattr(watch, "_REMEMBERED", 0.0)
    backend.poll({})
    assert not backend._watch._rounds


def test_a_damaged_log_that_goes_on_does_not_hide_what_it_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a large round there is always news of some job; the schedd is asked about the others all the same."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    settings = CondorSettings.from_mapping("damaged", {"query_interval": 1.0})
    backend = CondorBackend(settings, tmp_path / "spool")
    asked: list[str] = []
    monkeypatch.setattr(backend._helper, "call", lambda name, **_: asked.append(name) or [])
    key = RoundKey("prompt", "flow", "task", "run-r1", 1, 0, 0)
    folder = backend._folder(key)
    folder.prepare([JobSubmission(n, 1, ("true",), {}, tmp_path / f"job{n}") for n in range(2)], {}, "")
    (folder.path / "cluster").write_text("5")
    folder.log.write_text(HEAD + "005 (abc\n...\n")
    cursor = ""
    for _ in range(15):
        cursor = backend.poll({key: cursor})[key].cursor
        time.sleep(0.1)
        with folder.log.open("a") as stream:
            stream.write(HELD)
    assert "query" in asked


def test_a_silent_collector_takes_nobodys_time(tmp_path: Path) -> None:
    """It is asked why jobs are idle: a call that did not end would end the helper, which alone knows the schedd."""
    calls = Calls.__new__(Calls)
    calls._found = SimpleNamespace(query=lambda constraint: [{}])
    silent = SimpleNamespace(query=lambda *_: time.sleep(30))
    calls._condor = SimpleNamespace(Collector=lambda: silent, AdType=SimpleNamespace(Startd=0))
    began = time.monotonic()
    assert calls.idle_reason(7, 0, seconds=1) is None
    assert time.monotonic() - began < 5
    asked = []
    helper = SimpleNamespace(settings=CondorSettings(), call=lambda name, **arguments: asked.append(arguments))
    keys = [RoundKey("prompt", "flow", "task", "run-r1", 1, 0, n) for n in range(3)]
    subjects = [survey.SurveyedRound(key, 7, Procs("/", []), Cursor(), 0.0, trusted=True) for key in keys]
    reasons = survey.IdleReasons()
    for now in (1000.0, 1060.0):
        reasons.update(helper, [(one, 0) for one in subjects], now)  # type: ignore[arg-type]
    assert len(asked) == 1, "of all rounds one was asked about, and not again soon"


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), ValueError("embedded null byte")])
def test_a_helper_that_cannot_be_started_is_trouble_of_the_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """And of nothing else: what event logs tell is stored all the same, and no token is left behind."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    helper = Helper(CondorSettings(name="starved", token="secret"))
    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(BackendError, match="cannot be started"):
        helper.call("ping")
    assert list((tmp_path / "private").iterdir()) == []


def test_half_a_character_is_refused(tmp_path: Path) -> None:
    """YAML and JSON can write it, and no encoding has it: tried again for ever, it would never be submitted."""
    job = JobSubmission(3, 1, ("echo", "\ud800"), {}, tmp_path / "job")
    for transfer in (False, True):
        with pytest.raises(SubmissionRefused, match="of job 3 holds half of a character"):
            list(submission.items([job], transfer=transfer))
