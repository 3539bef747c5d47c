"""After the end of an attempt of a local job nothing of it lives, whatever it did. Real processes throughout."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.backends import log
from airflow_calib_provider.backends.local import processes
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.domain.round_key import RoundKey
from tests.backends.conformance import Round, finals, follow, running

ROOT = Path(__file__).parents[2]

# Each writes the ids of what it has started, and of itself, to "$1".
WAYS = {
    "timeout": 'timeout 500 sleep 471 & echo $! >> "$1"; pgrep -P $! >> "$1" || :',
    "setsid": 'setsid sleep 471 & echo $! >> "$1"',
    "monitor": 'set -m; sleep 471 & echo $! >> "$1"',
    "nohup": 'nohup sleep 471 >/dev/null 2>&1 & echo $! >> "$1"',
    "double fork": '(setsid sh -c \'sleep 471 & echo $! >> "$0"\' "$1" &) ; sleep 0.1',
    "no environment": 'env -i setsid sleep 471 & echo $! >> "$1"',
    "orphan without environment": '(env -i setsid sh -c \'echo $$ >> "$0"; exec sleep 471\' "$1" &); sleep 0.1',
    "stopped": 'setsid sleep 471 & echo $! >> "$1"; kill -STOP $!',
    "deaf": '(trap "" TERM HUP INT; setsid sh -c \'echo $$ >> "$0"; while :; do sleep 1; done\' "$1" &); sleep 0.1',
}


def alive(pid: int) -> bool:
    return processes.start_ticks(pid) is not None


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def gone(path: Path) -> bool:
    assert pids(path)
    return not any(alive(pid) for pid in pids(path))


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalBackend]:
    # Supervisors are processes of their own, which find the package by this, or where it is installed.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    made = LocalBackend(tmp_path / "spool", slots=2, grace=0.3)
    yield made
    for key in made.rounds():
        made.remove(key)


@pytest.fixture
def one(tmp_path: Path) -> Round:
    return Round(tmp_path / "jobs", RoundKey("c", "flow", "task", "run-r1", 1, 0, 1))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "pids"


def bash(text: str, *arguments: str) -> tuple[str, ...]:
    return ("bash", "-c", text, "bash", *arguments)


def supervisor(backend: LocalBackend, key: RoundKey) -> int:
    events = log.read(backend.spool / str(key) / "events.jsonl").events
    return int(next(line["pid"] for line in events if line["event"] == log.SUPERVISED))


def keeper(backend: LocalBackend, key: RoundKey) -> int:
    events = log.read(backend.spool / str(key) / "events.jsonl").events
    return int(next(line["pid"] for line in events if line["event"] == "running"))


def until(condition: Callable[[], object], patience: float = 20) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def freeze(pid: int) -> None:
    """Stop a process, and see it stopped: on a busy machine it goes on for a moment."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")


def start(backend: LocalBackend, one: Round, here: Path, way: str, timeout: float | None = None) -> None:
    one.job(*bash(f'{WAYS[way]}; echo $$ >> "$1"; sleep 472', str(here)), timeout=timeout)
    backend.submit(one.key, one.jobs)
    follow(backend, [one.key], running(one.key, 1))
    until(lambda: len(pids(here)) >= 2)


@pytest.mark.parametrize("way", WAYS)
def test_normal_end(backend: LocalBackend, one: Round, here: Path, way: str) -> None:
    one.job(*bash(f"{WAYS[way]}; :", str(here)))
    backend.submit(one.key, one.jobs)
    assert finals(follow(backend, [one.key])[one.key])[0].state is AttemptState.SUCCEEDED
    assert gone(here)


@pytest.mark.parametrize("way", WAYS)
def test_removal(backend: LocalBackend, one: Round, here: Path, way: str) -> None:
    """It returns only when nothing is left."""
    start(backend, one, here, way)
    backend.remove(one.key)
    assert gone(here)


@pytest.mark.parametrize("way", ["timeout", "setsid", "monitor", "orphan without environment", "deaf"])
def test_time_out(backend: LocalBackend, one: Round, here: Path, way: str) -> None:
    start(backend, one, here, way, timeout=0.7)
    end = finals(follow(backend, [one.key])[one.key])[0]
    assert (end.state, end.reason) == (AttemptState.FAILED, "time-out after 0.7 s")
    assert gone(here)


def test_what_a_shell_has_started_has_the_grace_too(backend: LocalBackend, one: Round, here: Path) -> None:
    """The shell ends at once when it is asked to; its program is still saving what it has."""
    inner = 'trap "sleep 1; echo saved > $0.saved; exit" TERM; echo $$ > $0; while :; do sleep 0.05; done'
    one.job(*bash(f"bash -c '{inner}' \"$1\"; :", str(here)))
    patient = LocalBackend(backend.spool, slots=2, grace=20)
    patient.submit(one.key, one.jobs)
    until(lambda: pids(here))
    patient.remove(one.key)
    assert Path(f"{here}.saved").read_text() == "saved\n"
    assert gone(here)


def test_time_out_of_a_program_in_the_foreground(backend: LocalBackend, one: Round, here: Path) -> None:
    """``timeout`` makes a process group of its own; the shell that waits for it is in another."""
    one.job(*bash('echo $$ > "$1"; timeout 500 sleep 471; echo 1 > n.txt', str(here)), timeout=0.4)
    backend.submit(one.key, one.jobs)
    assert finals(follow(backend, [one.key])[one.key])[0].reason == "time-out after 0.4 s"
    assert gone(here)
    assert not (one.jobs[0].folder / "out" / "n.txt").exists()


@pytest.mark.parametrize("how", ["end", "time-out", "removal"])
def test_a_job_that_stops_its_keeper(backend: LocalBackend, one: Round, here: Path, how: str) -> None:
    then = "exit 3" if how == "end" else "sleep 471"
    timeout = 0.4 if how == "time-out" else None
    one.job(*bash(f'setsid sleep 471 & echo $! > "$1"; kill -STOP $PPID; {then}', str(here)), timeout=timeout)
    backend.submit(one.key, one.jobs)
    until(lambda: pids(here))
    if how == "removal":
        backend.remove(one.key)
    end = finals(follow(backend, [one.key], patience=20)[one.key])[0]
    assert end.reason == {"end": "exit code 3", "time-out": "time-out after 0.4 s", "removal": "removed"}[how]
    assert gone(here)


def test_everybody_is_asked_to_end_first(backend: LocalBackend, one: Round, here: Path) -> None:
    """In whatever session: SIGTERM comes before SIGKILL."""
    inner = 'trap "echo asked >> $0.asked; exit" TERM; echo $$ > $0; while :; do sleep 0.05; done'
    one.job(*bash(f"setsid bash -c '{inner}' \"$1\"; :", str(here)))
    backend.submit(one.key, one.jobs)
    until(lambda: pids(here))
    backend.remove(one.key)
    assert Path(f"{here}.asked").read_text() == "asked\n"


@pytest.mark.parametrize("way", WAYS)
def test_death_of_the_supervisor(backend: LocalBackend, one: Round, here: Path, way: str) -> None:
    start(backend, one, here, way)
    os.kill(supervisor(backend, one.key), signal.SIGKILL)
    assert finals(follow(backend, [one.key])[one.key])[0].state is AttemptState.LOST
    assert gone(here)


@pytest.mark.parametrize("way", ["setsid", "orphan without environment", "monitor"])
def test_death_of_the_keeper(backend: LocalBackend, one: Round, here: Path, way: str) -> None:
    """The supervisor inherits what it leaves; other jobs of the round go on."""
    start(backend, one, here, way)
    os.kill(keeper(backend, one.key), signal.SIGKILL)
    end = finals(follow(backend, [one.key])[one.key])[0]
    assert (end.state, end.reason) == (AttemptState.LOST, "the process that watched it died")
    assert gone(here)


def test_a_job_that_kills_its_keeper_does_not_touch_others(backend: LocalBackend, one: Round, here: Path) -> None:
    one.job(*bash('setsid sleep 471 & echo $! > "$1"; kill -KILL $PPID; sleep 472', str(here)))
    one.job(*bash("sleep 1; echo 1 > n.txt"))
    backend.submit(one.key, one.jobs)
    ends = finals(follow(backend, [one.key])[one.key])
    assert {index: end.state for index, end in ends.items()} == {0: AttemptState.LOST, 1: AttemptState.SUCCEEDED}
    assert gone(here)


def test_death_of_supervisor_and_keeper(backend: LocalBackend, one: Round, here: Path) -> None:
    """What nobody has inherited is found by its mark."""
    start(backend, one, here, "setsid")
    for pid in (supervisor(backend, one.key), keeper(backend, one.key)):
        freeze(pid)
    for pid in (keeper(backend, one.key), supervisor(backend, one.key)):
        os.kill(pid, signal.SIGKILL)
    assert finals(follow(backend, [one.key])[one.key])[0].state is AttemptState.LOST
    assert gone(here)


@pytest.mark.parametrize("way", [way for way in WAYS if "environment" in way])
def test_death_of_supervisor_and_keeper_at_once_of_what_has_no_environment(
    backend: LocalBackend, one: Round, here: Path, way: str
) -> None:
    start(backend, one, here, way)
    # The one that is stopped cannot do anything about the end of the other.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        os.kill(keeper(backend, one.key), number)
        os.kill(supervisor(backend, one.key), number)
    until(lambda: not alive(keeper(backend, one.key)))
    assert any(alive(pid) for pid in pids(here)), "something has outlived both"
    follow(backend, [one.key])
    assert gone(here)


def test_slots_are_taken_until_nothing_lives(backend: LocalBackend, one: Round, here: Path, tmp_path: Path) -> None:
    """Also while the keeper of a dead supervisor ends its job."""
    narrow = LocalBackend(backend.spool, slots=1, grace=0.3)
    start(narrow, one, here, "deaf")
    other = Round(tmp_path / "jobs", RoundKey("c", "flow", "task", "run-r2", 1, 0, 1))
    other.job(*bash('for p in $(cat "$1"); do test -e /proc/$p && echo $p; done; :', str(here)))
    narrow.submit(other.key, other.jobs)
    for pid in (supervisor(narrow, one.key), keeper(narrow, one.key)):  # the one would let the other go on
        freeze(pid)
    os.kill(supervisor(narrow, one.key), signal.SIGKILL)
    time.sleep(0.5)
    assert not any(item.state is AttemptState.RUNNING for item in narrow.poll({other.key: ""})[other.key].observations)
    os.kill(keeper(narrow, one.key), signal.SIGCONT)
    follow(narrow, [one.key, other.key])
    assert (other.jobs[0].folder / "stdout").read_text() == ""


def test_a_storm_of_forks(backend: LocalBackend, one: Round, here: Path) -> None:
    one.job(
        *bash(
            'for i in 1 2 3 4; do (while :; do setsid sleep 471 & echo $! >> "$1"; sleep 0.01; done) & done; wait',
            str(here),
        )
    )
    backend.submit(one.key, one.jobs)
    until(lambda: len(pids(here)) > 50)
    begin = time.monotonic()
    backend.remove(one.key)
    assert time.monotonic() - begin < 30
    assert gone(here)


def test_orphans_are_found_by_their_mark(backend: LocalBackend, one: Round, here: Path) -> None:
    """A process that lives although its attempt has ended: its round is listed, and can be removed."""
    one.job(*bash("true"))
    backend.submit(one.key, one.jobs)
    follow(backend, [one.key])
    mark = f"{processes.MARK}=a-token:0:{(backend.spool / str(one.key)).absolute()}"
    with subprocess.Popen(["env", mark, "sleep", "471"], start_new_session=True) as left:
        until(lambda: mark in Path(f"/proc/{left.pid}/environ").read_text())
        assert list(backend.rounds()) == [one.key]
        backend.remove(one.key)
        assert left.wait(5) == -signal.SIGKILL
    assert list(backend.rounds()) == []


def test_orphans_of_a_forgotten_round(backend: LocalBackend, one: Round) -> None:
    mark = f"{processes.MARK}=a-token:0:{(backend.spool / str(one.key)).absolute()}"
    elsewhere = f"{processes.MARK}=a-token:0:{Path('/another/spool') / str(one.key)}"
    with (
        subprocess.Popen(["env", mark, "sleep", "471"], start_new_session=True) as left,
        subprocess.Popen(["env", elsewhere, "sleep", "471"], start_new_session=True) as foreign,
    ):
        until(lambda: mark in Path(f"/proc/{left.pid}/environ").read_text())
        assert list(backend.rounds()) == [one.key]
        backend.remove(one.key)
        assert left.wait(5) == -signal.SIGKILL
        assert foreign.poll() is None
        foreign.kill()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_namespace_of_its_own(backend: LocalBackend, one: Round, here: Path) -> None:
    if subprocess.run(["unshare", "-Urpf", "true"], capture_output=True).returncode:
        pytest.skip("no namespaces here")
    one.job(*bash('unshare -Urpf --mount-proc setsid sleep 471 & echo $! > "$1"; sleep 0.3', str(here)))
    backend.submit(one.key, one.jobs)
    follow(backend, [one.key])
    assert gone(here)
