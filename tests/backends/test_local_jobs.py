"""What jobs of the local backend may use, and what they see."""

from __future__ import annotations

import os
import signal
import sys

from airflow_calib_provider.backends.local import processes
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.domain.submission import Resources
from tests.backends.conformance import finals, follow, running, shell, states
from tests.backends.local_kit import FAILED, LOST, REMOVED, ROOT, SUCCEEDED, LocalBackends, alive, pids


class TestJobs(LocalBackends):
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
        """Its own session, nothing on standard input, signals as usual; it is known by one open file more."""
        one = make_round()
        code = (
            "import os, signal, sys; print(os.getsid(0) == os.getpid(), sys.stdin.read() == '', "
            "signal.getsignal(signal.SIGINT) is signal.default_int_handler, "
            "sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
        )
        folder = one.job(sys.executable, "-c", code)
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key])
        assert (folder / "stdout").read_text() == "True True True [0, 1, 2, 3]\n"

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
