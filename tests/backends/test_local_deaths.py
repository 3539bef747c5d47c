"""The local backend where processes, jobs or folders are gone: deaths, and removal."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_calib_provider.backends import log
from airflow_calib_provider.backends.local import processes
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.backends.local.processes import Host
from airflow_calib_provider.errors import BackendError
from tests.backends import local_kit
from tests.backends.conformance import finals, follow, running, shell, states
from tests.backends.local_kit import LOST, REMOVED, ROOT, SUCCEEDED, LocalBackends, alive, pids, wait


class TestDeaths(LocalBackends):
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
        command = [sys.executable, "-m", local_kit.__name__, str(backend.spool), str(one.root), str(one.key)]
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
