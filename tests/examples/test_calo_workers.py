"""The example of a whole iterative calibration with real jobs: a hundred of them in each step, and killed at random."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_calib_provider.backends.local.processes import MARK
from airflow_calib_provider.ledger import tables
from tests import processes
from tests.examples.calo_place import CaloPlace, work
from tests.examples.test_calo import recovers
from tests.jobsets.test_reserved import workers_alive

KILLS = 100
FEW = [
    ("workers: 100", "workers: 6"),
    ("quorum: 0.9", "quorum: 1.0"),
    ("\ntasks:", "\ndefaults: {retries: 100}\ntasks:"),
]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "home"))


@pytest.mark.timeout(3600)
@pytest.mark.long
def test_a_hundred_workers_and_two_detector_models_at_once(tmp_path: Path) -> None:
    place = CaloPlace(tmp_path / "home")
    place.campaign("clic", preset="CLIC")
    running = {"CLD": place.begin("constants"), "CLIC": place.begin("constants", "clic")}
    until, standings = time.monotonic() + 3600, place.step(running.values())
    while "running" in {standing.state for standing in standings.values()}:
        assert time.monotonic() < until, standings
        time.sleep(0.05)
        standings = place.step(running.values())
    assert {standing.state for standing in standings.values()} == {"done"}, standings
    for preset, generation in running.items():
        recovers(place.constants(generation), preset)
        made = place.steps(generation)
        assert 18 <= len(made) <= 30
        assert all(one.n_jobs == 100 and len(one.accepted or ()) >= 90 for one in made)
        check = place.begin("check", "prompt" if preset == "CLD" else "clic")
        assert place.finish(check, 120).state == "done"
        means = {row.name: row.value for row in place.rows(tables.value) if row.generation_id == check}
        assert means == {
            "photon": pytest.approx(10, rel=0.01),
            "early": pytest.approx(20, rel=0.015),
            "late": pytest.approx(20, rel=0.015),
        }
    place.ledger.close()


@pytest.mark.timeout(3600)
@pytest.mark.long
def test_killed_a_hundred_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchers, supervisors and jobs: the same constants as without, bit for bit, and each result used once."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calm"))
    (tmp_path / "calm").mkdir()
    calm = CaloPlace(tmp_path / "calm", FEW)
    generation = calm.begin("constants")
    assert calm.finish(generation, 1200).state == "done"
    expected, constants = calm.history(generation), calm.constants(generation)
    calm.ledger.close()
    source, killed = random.Random(14), Counter[str]()
    for number in range(20):
        if sum(killed.values()) >= KILLS:
            break
        home = tmp_path / f"stormy-{number}"
        home.mkdir()
        monkeypatch.setenv("CALIB_HOME", str(home))
        CaloPlace(home, FEW).ledger.close()
        _storm(home, source, killed)
        place = CaloPlace(home)
        (row,) = place.rows(tables.generation)
        assert row.state == "done", row.reason
        assert place.history(row.id) == expected
        assert place.constants(row.id) == constants
        for one in place.steps(row.id):
            assert [index for index, _ in one.accepted or ()] == list(range(6)), "each result once"
        used = Counter((one.step, one.job_index) for one in place.rows(tables.attempt) if one.state == "succeeded")
        assert set(used.values()) == {1}, "nothing that was good was made again"
        place.ledger.close()
    print(dict(killed))
    assert sum(killed.values()) >= KILLS
    assert min(killed["watcher"], killed["job"]) > 10


KEPT = "workers: {count: 6, reserve: true, heartbeat: 1s, lost_after: 10s, max_replacements: 1000}"
RESERVED = [*FEW, ("\n      phases:\n", f"\n      {KEPT}\n      phases:\n")]


@pytest.mark.timeout(3600)
@pytest.mark.long
def test_reserved_workers_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole sequence, while watchers are killed and workers are killed and frozen: bit for bit."""
    wanted = None
    for name, changes in (("rounds", FEW), ("reserved", RESERVED)):
        home = tmp_path / name
        home.mkdir()
        monkeypatch.setenv("CALIB_HOME", str(home))
        monkeypatch.setenv("CALIB_LOCAL_SLOTS", "12")
        place = CaloPlace(home, changes)
        if wanted is None:
            generation = place.begin("constants")
            assert place.finish(generation, 1200).state == "done"
            wanted = place.history(generation), place.constants(generation)
            place.ledger.close()
    killed = _storm_of_workers(home, random.Random(15))
    (row,) = place.rows(tables.generation)
    assert row.state == "done", row.reason
    assert (place.history(row.id), place.constants(row.id)) == wanted
    used = Counter((one.step, one.job_index) for one in place.rows(tables.attempt) if one.state == "succeeded")
    assert set(used.values()) == {1}, "each result is used once"
    epochs = [one.attempt for one in place.rows(tables.job) if one.step == -1]
    print(dict(killed), epochs)
    assert min(killed.values()) > 3
    assert sum(epochs) - 6 >= killed["worker"]
    place.ledger.close()


def _storm_of_workers(home: Path, source: random.Random) -> Counter[str]:
    whom = dict.fromkeys(("worker", "frozen"), lambda: sorted(workers_alive(home).values()))
    return _storm_of(home, source, (1.0, 4.0), whom)


def _storm(home: Path, source: random.Random, killed: Counter[str]) -> None:
    whom = {what: lambda what=what: list(_ours(home, what)) for what in ("job", "supervisor")}
    killed.update(_storm_of(home, source, (0.05, 1.0), whom))


def _storm_of(
    home: Path, source: random.Random, pauses: tuple[float, float], whom: Mapping[str, Callable[[], Sequence[int]]]
) -> Counter[str]:
    """Kill, or freeze, the watcher and others until the work is done.

    :param pauses: seconds between two of these, the least and the most.
    :param whom: what → the processes that are it.
    """
    until, killed = time.monotonic() + 1800, Counter[str]()
    watcher = processes.process(work, home)
    watcher.start()
    while watcher.is_alive() or watcher.exitcode != 0:
        assert time.monotonic() < until
        if not watcher.is_alive():
            watcher = processes.process(work, home)
            watcher.start()
        time.sleep(source.uniform(*pauses))
        what = source.choice(("watcher", *whom))
        ours = [watcher.pid or 0] if what == "watcher" else whom[what]()
        if ours and watcher.is_alive():
            with suppress(ProcessLookupError):
                os.kill(source.choice(ours), signal.SIGSTOP if what == "frozen" else signal.SIGKILL)
                killed[what] += 1
        watcher.join(0.05)
    return killed


def _ours(home: Path, what: str) -> Iterator[int]:
    """Processes that belong to this place: jobs, or the supervisors that run them."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):
            variables, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
            is_here = str(home).encode() in variables or str(home).encode() in command
            is_job = f"{MARK}=".encode() in variables
            if is_here and (is_job if what == "job" else b"supervisor" in command):
                yield int(folder.name)
