"""The local backend: what every backend does, and what only this one can get wrong. Real processes throughout."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_calib_provider.backends import get_backend
from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.backends.local import log, processes
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.backends.local.folder import RoundFolder, Submission
from airflow_calib_provider.backends.local.processes import Host
from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission, Resources
from airflow_calib_provider.errors import BackendError
from tests.backends.conformance import BackendConformance, Round, finals, follow, running, shell, states

ROOT = Path(__file__).parents[2]
LOST, REMOVED, FAILED, SUCCEEDED = (
    AttemptState.LOST,
    AttemptState.REMOVED,
    AttemptState.FAILED,
    AttemptState.SUCCEEDED,
)


def wait(condition: Callable[[], object], patience: float = 20) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    return processes.start_ticks(pid) is not None


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class TestLocal(BackendConformance):
    @pytest.fixture
    def spool(self, tmp_path, monkeypatch):
        # Supervisors are processes of their own, which find the package by this, or where it is installed.
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
        spool = tmp_path / "spool"
        yield spool
        left = LocalBackend(spool, grace=0.3)
        for key in left.rounds():
            left.remove(key)

    @pytest.fixture
    def make_backend(self, spool) -> Callable[[], Backend]:
        return lambda: LocalBackend(spool, slots=4, grace=0.5)

    def folder(self, backend: LocalBackend, key: RoundKey) -> RoundFolder:
        return RoundFolder(backend.spool / str(key))

    def supervisor(self, backend: LocalBackend, key: RoundKey) -> int:
        found: list[int] = []

        def started() -> bool:
            found[:] = [
                line["pid"]
                for line in log.read(self.folder(backend, key).events).events
                if line["event"] == log.SUPERVISED
            ]
            return bool(found)

        wait(started)
        assert len(found) == 1
        return found[0]

    # Deaths

    def test_killed_supervisor(self, backend, make_round):
        """Its jobs are lost, for all pollers alike, and what it left behind is dead, even where the leader is gone."""
        one = make_round()
        here = one.root / "pids"
        one.job(
            *shell('echo $$ >> "$1"; sleep 301 & echo $! >> "$1"; setsid sleep 302 & echo $! >> "$1"; wait', str(here))
        )
        one.job(*shell("true"))
        one.job(*shell("sleep 303"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], lambda seen: running(one.key, 3)(seen) and len(pids(here)) == 3)
        follow(backend, [one.key], lambda seen: 1 in finals(seen[one.key]))
        os.kill(self.supervisor(backend, one.key), signal.SIGKILL)
        with ThreadPoolExecutor(8) as pool:
            seen = list(pool.map(lambda _: follow(backend, [one.key])[one.key], range(8)))
        assert all(one == seen[0] for one in seen)
        end = finals(seen[0])
        assert states(seen[0]) == {0: LOST, 1: SUCCEEDED, 2: LOST}
        assert "supervisor died" in end[0].reason
        assert end[0].start
        assert not any(alive(pid) for pid in pids(here))
        backend.submit(one.key, one.jobs)
        assert states(follow(backend, [one.key])[one.key]) == {0: LOST, 1: SUCCEEDED, 2: LOST}

    def test_terminated_supervisor(self, backend, make_round):
        one = make_round()
        one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        os.kill(self.supervisor(backend, one.key), signal.SIGTERM)
        end = finals(follow(backend, [one.key])[one.key])[0]
        assert (end.state, "SIGTERM" in end.reason) == (LOST, True)

    def test_supervisor_outlives_its_submitter(self, backend, make_round):
        one = make_round()
        one.root.mkdir()
        command = [sys.executable, "-m", __name__, str(backend.spool), str(one.root), str(one.key)]
        subprocess.run(command, cwd=ROOT, check=True)
        pid = self.supervisor(backend, one.key)
        assert os.getsid(pid) == pid
        seen = follow(backend, [one.key])[one.key]
        assert set(states(seen).values()) == {SUCCEEDED}

    def test_a_reused_process_id_is_not_killed(self, backend, make_round):
        """The recorded start differs from that of the process that has the id now."""
        with subprocess.Popen(["sleep", "300"], start_new_session=True) as innocent:
            assert processes.kill_leftovers({innocent.pid: (processes.start_ticks(innocent.pid) or 0) - 1}, {"other:1"})
            assert innocent.poll() is None
            assert processes.kill_leftovers({innocent.pid: processes.start_ticks(innocent.pid) or 0}, set())
            assert innocent.wait() == -signal.SIGKILL

    @pytest.mark.parametrize("point", ["supervisor.after_start", "supervisor.job_started"])
    def test_crash_points(self, backend, make_round, monkeypatch, tmp_path, point):
        (tmp_path / "crash").mkdir()
        monkeypatch.setenv("CALIB_CRASH_AT", f"{point}@run-r7")
        monkeypatch.setenv("CALIB_CRASH_FOLDER", str(tmp_path / "crash"))
        dying, other, again = make_round("run-r7"), make_round("run-r8"), make_round("run-r7")
        for one in (dying, other, again):
            one.job(*shell('sleep 0.2; echo done >> "$1"', str(one.root / str(one.key) / "times")))
        for one in (dying, other):
            backend.submit(one.key, one.jobs)
        seen = follow(backend, [dying.key, other.key])
        assert states(seen[dying.key]) == {0: LOST}
        assert states(seen[other.key]) == {0: SUCCEEDED}
        # A crash point fires once: the next round of the group gets through.
        backend.submit(again.key, again.jobs)
        assert states(follow(backend, [again.key])[again.key]) == {0: SUCCEEDED}
        assert not (dying.root / str(dying.key) / "times").exists()

    def test_a_supervisor_that_never_started_is_started(self, backend, make_round, monkeypatch):
        """As after a death between the submission and the start; by a poll, and by the next submission."""
        for heal in (lambda one: None, lambda one: backend.submit(one.key, one.jobs)):
            one = make_round()
            one.job(*shell('echo once >> "$1"', str(one.root / str(one.key) / "times")))
            with monkeypatch.context() as patch:
                patch.setattr("airflow_calib_provider.backends.local.backend.tend", lambda *_: False)
                backend.submit(one.key, one.jobs)
            time.sleep(0.1)
            assert len(log.read(self.folder(backend, one.key).events).events) == 1
            heal(one)
            with ThreadPoolExecutor(6) as pool:
                seen = list(pool.map(lambda _, key=one.key: follow(backend, [key])[key], range(6)))
            assert all(states(one) == {0: SUCCEEDED} for one in seen)
            assert (one.root / str(one.key) / "times").read_text() == "once\n"

    def test_competing_supervisors(self, backend, make_round):
        """However many are started, at whatever time: one runs the jobs, the others leave."""
        one = make_round()
        for _ in range(5):
            one.job(*shell('echo x >> "$1"; sleep 0.1', str(one.root / "times")))
        backend.submit(one.key, one.jobs)
        command = [sys.executable, "-m", "airflow_calib_provider.backends.local.supervisor"]
        others = [subprocess.Popen([*command, str(backend.spool / str(one.key))]) for _ in range(4)]
        assert [other.wait() for other in others] == [0] * 4
        assert set(states(follow(backend, [one.key])[one.key]).values()) == {SUCCEEDED}
        subprocess.run([*command, str(backend.spool / str(one.key))], check=True)
        assert (one.root / "times").read_text() == "x\n" * 5

    def test_a_supervisor_that_cannot_start(self, backend, make_round, monkeypatch):
        monkeypatch.setattr(sys, "executable", "/bin/false")
        monkeypatch.setattr("airflow_calib_provider.backends.local.care._START_PATIENCE", 0.05)
        one = make_round()
        one.job(*shell("true"))
        backend.submit(one.key, one.jobs)
        end = finals(follow(backend, [one.key])[one.key])[0]
        assert end.state is LOST
        assert "supervisor.out" in end.reason

    def test_reboot(self, backend, make_round):
        one = make_round()
        one.job(*shell('sleep 300 & echo $! > "$1"; wait', str(one.root / "pids")))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], lambda seen: running(one.key, 1)(seen) and pids(one.root / "pids"))
        here = Host.here()
        # Another boot id proves nothing while the supervisor holds its lock.
        rebooted = LocalBackend(backend.spool, host=Host(here.name, "another boot"))
        assert not rebooted.poll({one.key: ""})[one.key].finished
        elsewhere = LocalBackend(backend.spool, host=Host("elsewhere", "another boot"))
        os.kill(self.supervisor(backend, one.key), signal.SIGKILL)
        wait(lambda: not alive(self.supervisor(backend, one.key)))
        for _ in range(3):
            news = elsewhere.poll({one.key: ""})[one.key]
            assert not news.finished
            assert not any(item.state.final for item in news.observations)
        assert elsewhere.rounds() == [one.key]
        end = finals(follow(rebooted, [one.key])[one.key])[0]
        assert (end.state, end.reason) == (LOST, "the host was rebooted")
        assert states(follow(elsewhere, [one.key])[one.key]) == {0: LOST}
        assert not alive(pids(one.root / "pids")[0])

    # Submission

    def test_concurrent_submissions(self, backend, make_round):
        """From two processes: each job runs exactly once."""
        one = make_round()
        one.root.mkdir()
        command = [sys.executable, "-m", __name__, str(backend.spool), str(one.root), str(one.key)]
        submitters = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
        assert [submitter.wait() for submitter in submitters] == [0, 0]
        assert states(follow(backend, [one.key])[one.key]) == dict.fromkeys(range(5), SUCCEEDED)
        assert sorted((one.root / "times").read_text().split()) == ["0", "1", "2", "3", "4"]
        assert [entry.name for entry in backend.spool.iterdir() if entry.name.startswith(".")] == []

    def test_a_spool_that_cannot_be_written(self, tmp_path, make_round):
        (tmp_path / "file").touch()
        one = make_round()
        one.job(*shell("true"))
        backend = LocalBackend(tmp_path / "file" / "spool", slots=1)
        with pytest.raises(BackendError, match="cannot be submitted"):
            backend.submit(one.key, one.jobs)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount")
    def test_full_and_read_only_spools(self, tmp_path, make_round):
        disk = tmp_path / "disk"
        disk.mkdir()
        one = make_round()
        one.job(*shell("true"), environment={f"LONG{number}": "x" * 90_000 for number in range(4)})
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True)
        if mounted.returncode:
            pytest.skip("cannot mount here")
        try:
            backend = LocalBackend(disk / "spool", slots=1)
            with pytest.raises(BackendError, match="No space left"):
                backend.submit(one.key, one.jobs)
            assert list((disk / "spool").iterdir()) == []
            assert backend.poll({one.key: ""})[one.key].finished
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            with pytest.raises(BackendError, match="Read-only"):
                backend.submit(one.key, one.jobs)
            assert list((disk / "spool").iterdir()) == []
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount")
    def test_disk_that_is_full_for_a_while(self, tmp_path, make_round):
        """No job starts while its start cannot be recorded, no end is forgotten, and no line is half a line."""
        disk = tmp_path / "disk"
        disk.mkdir()
        one = make_round()
        for _ in range(6):
            one.job(*shell('echo x >> "$1"; sleep 0.5', str(one.root / "times")))
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], capture_output=True
        ).returncode:
            pytest.skip("cannot mount here")
        try:
            backend = LocalBackend(disk / "spool", slots=2)
            backend.submit(one.key, one.jobs)
            follow(backend, [one.key], running(one.key, 1))
            fill = ["dd", "if=/dev/zero", f"of={disk / 'ballast'}", "bs=512"]
            assert subprocess.run(fill, capture_output=True).returncode
            # What is left of the log's last page takes some lines still.
            time.sleep(2)
            (disk / "ballast").unlink()
            assert states(follow(backend, [one.key])[one.key]) == dict.fromkeys(range(6), SUCCEEDED)
            assert (one.root / "times").read_text() == "x\n" * 6
            wait(lambda: not alive(self.supervisor(backend, one.key)))
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    @pytest.mark.parametrize(
        ("command", "environment", "cpus"),
        [((), {}, 1), (("",), {}, 1), (("a\0b",), {}, 1), (("a",), {"A=B": ""}, 1), (("a",), {}, 0)],
    )
    def test_impossible_jobs(self, backend, make_round, command, environment, cpus):
        one = make_round()
        one.job(*command, environment=environment, resources=Resources(cpus))
        with pytest.raises(BackendError, match="job 0"):
            backend.submit(one.key, one.jobs)
        assert not backend.spool.exists()

    # Limits

    def test_slots_are_shared_by_all_rounds(self, spool, make_round):
        """At no moment more than the limit, counting a job of two cpus twice."""
        backend = LocalBackend(spool, slots=3)
        rounds = [make_round(f"run-r{number}") for number in range(4)]
        for number, one in enumerate(rounds):
            for _ in range(4):
                one.job(*shell("sleep 0.15"), resources=Resources(cpus=1 + number % 2))
            backend.submit(one.key, one.jobs)
        seen = follow(backend, [one.key for one in rounds])
        changes = []
        for number, one in enumerate(rounds):
            ends = finals(seen[one.key])
            assert len(ends) == 4
            for end in ends.values():
                assert end.state is SUCCEEDED
                # The job certainly had its slots in this time: its start is stamped when it has them already.
                changes += [(end.start.timestamp(), 1 + number % 2), (end.start.timestamp() + 0.15, -1 - number % 2)]
        used, most = 0, 0
        for _, change in sorted(changes):
            used += change
            most = max(most, used)
        assert 2 <= most <= 3

    def test_more_cpus_than_slots(self, backend, make_round):
        one = make_round()
        one.job(*shell("true"), resources=Resources(cpus=5))
        one.job(*shell("true"), resources=Resources(cpus=4))
        backend.submit(one.key, one.jobs)
        end = finals(follow(backend, [one.key])[one.key])
        assert (end[0].state, end[1].state) == (FAILED, SUCCEEDED)
        assert end[0].reason == "asks for 5 cpus, but the host has 4 slots"

    def test_a_large_set_does_not_starve_a_small_one(self, spool, make_round):
        backend = LocalBackend(spool, slots=2)
        large, small, wide = make_round("run-r1"), make_round("run-r2"), make_round("run-r3")
        for _ in range(1000):
            large.job(*shell("sleep 0.05"))
        small.job(*shell("true"))
        wide.job(*shell("true"), resources=Resources(cpus=2))
        backend.submit(large.key, large.jobs)
        follow(backend, [large.key], running(large.key, 4))
        for one in (small, wide):
            backend.submit(one.key, one.jobs)
        seen = follow(backend, [small.key, wide.key], patience=15)
        assert [states(seen[one.key]) for one in (small, wide)] == [{0: SUCCEEDED}] * 2
        assert not backend.poll({large.key: ""})[large.key].finished
        backend.remove(large.key)
        assert REMOVED in states(follow(backend, [large.key])[large.key]).values()

    def test_slots_of_a_dead_supervisor_are_free(self, spool, make_round):
        backend = LocalBackend(spool, slots=1)
        one, other = make_round("run-r1"), make_round("run-r2")
        one.job(*shell("sleep 300"))
        other.job(*shell("true"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        backend.submit(other.key, other.jobs)
        os.kill(self.supervisor(backend, one.key), signal.SIGKILL)
        seen = follow(backend, [one.key, other.key])
        assert (states(seen[one.key]), states(seen[other.key])) == ({0: LOST}, {0: SUCCEEDED})

    def test_memory_limit(self, backend, make_round):
        one = make_round()
        code = "x = bytearray(int(300e6))"
        for limit in (200_000_000, 2_000_000_000, 10_000):
            one.job(sys.executable, "-c", code, resources=Resources(memory=limit))
        backend.submit(one.key, one.jobs)
        assert states(follow(backend, [one.key])[one.key]) == {0: FAILED, 1: SUCCEEDED, 2: FAILED}
        assert "MemoryError" in (one.jobs[0].folder / "stderr").read_text()

    def test_time_out_kills_the_whole_group(self, backend, make_round):
        one = make_round()
        here = one.root / "pids"
        stubborn = 'trap "" TERM; echo $$ >> "$1"; sleep 300 & echo $! >> "$1"; while :; do sleep 1; done'
        one.job(*shell(stubborn, str(here)), timeout=0.4)
        backend.submit(one.key, one.jobs)
        end = finals(follow(backend, [one.key])[one.key])[0]
        assert (end.state, end.reason, end.signal) == (FAILED, "time-out after 0.4 s", 9)
        assert len(pids(here)) == 2
        assert not any(alive(pid) for pid in pids(here))

    def test_leftovers_of_a_job_that_ended(self, backend, make_round):
        one = make_round()
        one.job(*shell('sleep 300 & echo $! > "$1"', str(one.root / "pids")))
        backend.submit(one.key, one.jobs)
        assert states(follow(backend, [one.key])[one.key]) == {0: SUCCEEDED}
        assert not any(alive(pid) for pid in pids(one.root / "pids"))
        assert pids(one.root / "pids")

    # What a job sees

    def test_environment(self, backend, make_round, monkeypatch, tmp_path):
        kept = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "USER": "somebody",
            "LOGNAME": "somebody",
            "SHELL": "/bin/sh",
            "TMPDIR": str(tmp_path),
            "TZ": "Europe/Zurich",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "X509_USER_PROXY": "/p",
            "KRB5CCNAME": "/k",
            "BEARER_TOKEN_FILE": "/t",
        }
        secrets = [
            "FERNET_KEY", "DATABASE_URL", "BROKER_URL", "MYSQL_PWD", "SMTP_PASS", "AWS_ACCESS_KEY_ID", "AWS_PROFILE",
            "AWS_SESSION_TOKEN", "PGPASSWORD", "SENTRY_DSN", "SLACK_WEBHOOK", "db_password", "MY_API_TOKEN",
            "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW_HOME", "AIRFLOW_CONN_X", "_AIRFLOW_PROCESS_CONTEXT", "AIRFLOW",
        ]  # fmt: skip
        dropped = {
            **dict.fromkeys(secrets, "secret"),
            "CALIB_LEDGER": "sqlite://",
            "CALIB_CRASH_AT": "round.before_submit",
            "CALIB_CRASH_FOLDER": str(tmp_path),
            "CALIB_AIRFLOW_TOKEN_FILE": "/a",
            "PYTHONPATH": str(ROOT),
            "VIRTUAL_ENV": "/v",
            "LD_PRELOAD": "",
            "EDITOR": "ed",
        }
        for name, value in (kept | dropped).items():
            monkeypatch.setenv(name, value)
        one = make_round()
        own = {"CALIB_OUT": "here", "AIRFLOW_HOME": "the job's own", "MY_SECRET": "the job's own", "TZ": "UTC"}
        folder = one.job("/usr/bin/env", "-0", environment=own)
        backend.submit(one.key, one.jobs)
        assert states(follow(backend, [one.key])[one.key]) == {0: SUCCEEDED}
        seen = dict(item.split("=", 1) for item in (folder / "stdout").read_text().split("\0") if item)
        assert {name: seen.get(name) for name in own} == own
        kept.pop("TZ")
        assert seen.keys() == {*kept, *own, processes.MARK}
        assert {name: seen.get(name) for name in kept} == kept

    def test_what_a_job_reads_of_its_supervisor(self, backend, make_round, monkeypatch):
        """The environment of a process can be read by all processes of its user."""
        monkeypatch.setenv("FERNET_KEY", "a-secret-key")
        monkeypatch.setenv("DATABASE_URL", "postgresql://u:a-secret-password@h/d")
        one = make_round()
        parents = 'p=$$; while [ $p -gt 1 ]; do p=$(sed "s/.*) . //; s/ .*//" /proc/$p/stat); echo $p; done'
        folder = one.job(*shell(f"for p in $({parents}); do tr '\\0' '\\n' < /proc/$p/environ; done; true"))
        backend.submit(one.key, one.jobs)
        assert states(follow(backend, [one.key])[one.key]) == {0: SUCCEEDED}
        seen = (folder / "stdout").read_text()
        assert "PYTHONPATH=" in seen
        assert "a-secret" not in seen

    def test_process_of_a_job(self, backend, make_round):
        """Its own session, nothing on standard input, signals as usual, no open files of the supervisor."""
        one = make_round()
        code = (
            "import os, signal, sys; print(os.getsid(0) == os.getpid(), sys.stdin.read() == '', "
            "signal.getsignal(signal.SIGINT) is signal.default_int_handler, "
            "sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
        )
        folder = one.job(sys.executable, "-c", code)
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key])
        assert (folder / "stdout").read_text() == "True True True [0, 1, 2]\n"

    def test_what_cannot_be_started(self, backend, make_round):
        one = make_round()
        one.job("/etc/passwd")
        one.job(*shell("true"))
        one.job("no-such-thing", "argument")
        (one.jobs[1].folder / "out").rmdir()
        backend.submit(one.key, one.jobs)
        end = finals(follow(backend, [one.key])[one.key])
        assert (end[0].state, end[0].exit_code, end[0].reason) == (FAILED, 126, "/etc/passwd: Permission denied")
        assert (end[1].state, end[1].exit_code) == (LOST, None)
        assert "could not be started" in end[1].reason
        assert (end[2].state, end[2].exit_code) == (FAILED, 127)
        assert "command not found: no-such-thing" in end[2].reason

    # Removal

    def test_remove_before_the_supervisor_starts(self, backend, make_round, monkeypatch):
        one = make_round()
        for number in range(3):
            one.job(*shell(f'echo {number} >> "$1"', str(one.root / "times")))
        with monkeypatch.context() as patch:
            patch.setattr("airflow_calib_provider.backends.local.backend.tend", lambda *_: False)
            backend.submit(one.key, one.jobs)
        backend.remove(one.key, [0, 2])
        assert states(follow(backend, [one.key])[one.key]) == {0: REMOVED, 1: SUCCEEDED, 2: REMOVED}
        assert (one.root / "times").read_text() == "1\n"

    def test_remove_races_with_the_start(self, backend, make_round):
        """Whatever comes first, the job has one end, and after the removal it does not run."""
        chance = random.Random(5)
        for _ in range(12):
            one = make_round()
            for _ in range(4):
                one.job(*shell('echo $$ >> "$1"; sleep 300', str(one.root / str(one.key) / "pids")))
            backend.submit(one.key, one.jobs)
            time.sleep(chance.uniform(0, 0.3))
            backend.remove(one.key)
            assert not any(alive(pid) for pid in pids(one.root / str(one.key) / "pids"))
            assert states(follow(backend, [one.key])[one.key]) == dict.fromkeys(range(4), REMOVED)

    def test_remove_after_the_supervisor_died(self, backend, make_round):
        one = make_round()
        for _ in range(2):
            one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 2))
        os.kill(self.supervisor(backend, one.key), signal.SIGKILL)
        backend.remove(one.key, [1])
        assert states(follow(backend, [one.key])[one.key]) == {0: LOST, 1: REMOVED}

    def test_a_request_outlives_who_made_it(self, backend, make_round):
        one = make_round()
        one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
        self.folder(backend, one.key).request_removal([0])
        assert states(follow(backend, [one.key])[one.key]) == {0: REMOVED}

    def test_removal_that_does_not_happen(self, backend, make_round, monkeypatch):
        """A supervisor that hangs is not waited for without end, and the request stands."""
        monkeypatch.setattr("airflow_calib_provider.backends.local.backend._REMOVAL_PATIENCE", 0.5)
        one = make_round()
        one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
        supervisor = self.supervisor(backend, one.key)
        os.kill(supervisor, signal.SIGSTOP)
        try:
            with pytest.raises(BackendError, match="not gone after"):
                backend.remove(one.key)
        finally:
            os.kill(supervisor, signal.SIGCONT)
        assert states(follow(backend, [one.key])[one.key]) == {0: REMOVED}

    def test_a_deleted_folder_ends_its_jobs(self, backend, make_round):
        one = make_round()
        one.job(*shell('echo $$ > "$1"; sleep 300', str(one.root / "pids")))
        backend.submit(one.key, one.jobs)
        wait(lambda: pids(one.root / "pids"))
        supervisor = self.supervisor(backend, one.key)
        (backend.spool / str(one.key)).rename(backend.spool / "moved away")
        wait(lambda: not alive(supervisor))
        assert not alive(pids(one.root / "pids")[0])
        assert backend.poll({one.key: ""})[one.key].finished

    # The log

    def test_partial_last_line(self, backend, make_round):
        one = make_round()
        one.job(*shell("sleep 300"))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        os.kill(self.supervisor(backend, one.key), signal.SIGSTOP)
        events = self.folder(backend, one.key).events
        before = backend.poll({one.key: ""})[one.key]
        with events.open("a") as file:
            file.write('{"event": "succ')
        after = backend.poll({one.key: before.cursor})[one.key]
        assert (list(after.observations), after.cursor, after.finished) == ([], before.cursor, False)
        # The writer died in the middle of the line: the next one removes it.
        os.kill(self.supervisor(backend, one.key), signal.SIGKILL)
        assert states(follow(backend, [one.key])[one.key]) == {0: LOST}
        assert all(json.loads(line) for line in events.read_text().splitlines())

    def test_a_log_that_lost_its_end(self, backend, make_round):
        """As after a power cut: the cursor is beyond the end; everything is told again."""
        one = make_round()
        one.job(*shell("true"))
        backend.submit(one.key, one.jobs)
        seen = follow(backend, [one.key])[one.key]
        cursor = backend.poll({one.key: ""})[one.key].cursor
        wait(lambda: not alive(self.supervisor(backend, one.key)))
        events = self.folder(backend, one.key).events
        lines = events.read_text().splitlines(keepends=True)
        events.write_text("".join(lines[:-1]))
        news = backend.poll({one.key: cursor})[one.key]
        assert [item.state for item in news.observations] == [AttemptState.RUNNING, LOST]
        assert news.finished
        assert seen

    @pytest.mark.parametrize(
        "junk", ["{\n", "[1]\n", '{"event": "running"}\n', "\0\0\0\n", '{"event": "lost", "index": 0}\n']
    )
    def test_damaged_log(self, backend, make_round, junk):
        one, other = make_round(), make_round()
        for each in (one, other):
            each.job(*shell("true"))
            backend.submit(each.key, each.jobs)
        follow(backend, [one.key, other.key])
        events = self.folder(backend, one.key).events
        whole = events.read_text()
        first, rest = whole.split("\n", 1)
        events.write_text(f"{first}\n{junk}{rest}")
        with pytest.raises(BackendError, match=r"events\.jsonl: the line at byte \d+ is damaged.*repair"):
            backend.poll({one.key: ""})
        assert backend.poll({other.key: ""})[other.key].finished
        events.write_text(whole)

    def test_damaged_jobs(self, backend, make_round, monkeypatch):
        one = make_round()
        one.job(*shell("true"))
        with monkeypatch.context() as patch:
            patch.setattr("airflow_calib_provider.backends.local.backend.tend", lambda *_: False)
            backend.submit(one.key, one.jobs)
        jobs = backend.spool / str(one.key) / "jobs.json"
        whole = jobs.read_text()
        jobs.write_text(whole[: len(whole) // 2])
        with pytest.raises(BackendError, match=r"jobs\.json is damaged.*move"):
            backend.poll({one.key: ""})
        with pytest.raises(BackendError, match=r"jobs\.json is damaged.*move"):
            backend.remove(one.key)
        jobs.write_text(whole)

    # Many

    def test_two_hundred_jobs_and_many_pollers(self, backend, make_round):
        one = make_round()
        for _ in range(200):
            one.job(*shell('echo x >> "$1"', str(one.root / "times")))
        backend.submit(one.key, one.jobs)
        with ThreadPoolExecutor(6) as pool:
            seen = list(pool.map(lambda _: follow(backend, [one.key])[one.key], range(6)))
        assert all(each == seen[0] for each in seen)
        assert states(seen[0]) == dict.fromkeys(range(200), SUCCEEDED)
        assert (one.root / "times").read_text() == "x\n" * 200

    def test_idle_rounds_are_cheap(self, backend, make_round):
        """300 rounds with a living supervisor (its lock is held here), polled without news."""
        cursors, locks = {}, []
        for _ in range(300):
            one = make_round()
            one.job(*shell("true"))
            folder = backend.spool / str(one.key)
            made = RoundFolder.create(folder, Submission("t", 1, 1, tuple(one.jobs)), backend.host)
            locks.append(made.lock())
            assert locks[-1].__enter__()
            cursors[one.key] = ""
        cursors = {key: news.cursor for key, news in backend.poll(cursors).items()}
        began = time.process_time()
        news = backend.poll(cursors)
        assert time.process_time() - began < 5.0
        assert not any(one.finished for one in news.values())
        for lock in locks:
            lock.__exit__(None, None, None)
        for key in cursors:
            backend.remove(key)


def test_startup_is_fast():
    code = "import airflow_calib_provider.backends.local.supervisor, sys; print(sorted(sys.modules))"
    listed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not any(f"'{name}'" in listed for name in ("airflow", "sqlalchemy", "pydantic", "yaml", "asyncio"))


def test_registry(tmp_path):
    assert get_backend("local", spool=tmp_path).name == "local"
    with pytest.raises(BackendError, match=r"no backend 'slurm'.*local"):
        get_backend("slurm")


@pytest.mark.parametrize("text", ["many", "0"])
def test_slots_from_the_environment(monkeypatch, tmp_path, text):
    monkeypatch.setenv("CALIB_LOCAL_SLOTS", "3")
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    assert (LocalBackend().slots, LocalBackend().spool) == (3, tmp_path / "spool")
    monkeypatch.setenv("CALIB_LOCAL_SLOTS", text)
    with pytest.raises(BackendError):
        LocalBackend()


def submit_five(spool: str, root: str, key: str) -> None:
    """What the submitting processes of the tests do."""
    one = Round(Path(root), RoundKey.parse(key))
    for number in range(5):
        folder = one.root / key / f"{number}.1"
        (folder / "out").mkdir(parents=True, exist_ok=True)
        command = shell(f'echo {number} >> "$1"; sleep 0.2', str(one.root / "times"))
        one.jobs.append(JobSubmission(number, 1, command, {}, folder))
    LocalBackend(Path(spool), slots=4).submit(one.key, one.jobs)


if __name__ == "__main__":
    submit_five(*sys.argv[1:])
