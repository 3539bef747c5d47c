"""The local backend: what every backend does, and what only this one can get wrong. Real processes throughout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_calib_provider.backends import get_backend
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.backends.local.folder import RoundFolder, Submission
from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.domain.submission import Resources
from airflow_calib_provider.errors import BackendError
from tests.backends import local_kit
from tests.backends.conformance import BackendConformance, follow, running, shell, states
from tests.backends.local_kit import LOST, ROOT, SUCCEEDED, LocalBackends, alive, wait


class TestLocal(LocalBackends, BackendConformance):
    # Submission

    def test_concurrent_submissions(self, backend, make_round):
        """From two processes: each job runs exactly once."""
        one = make_round()
        one.root.mkdir()
        command = [sys.executable, "-m", local_kit.__name__, str(backend.spool), str(one.root), str(one.key)]
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
