"""Iterations with reserved workers: real processes, a real ledger, whatever becomes of either."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.domain.reasons import Cause, render
from airflow_calib_provider.jobsets.advance import advance
from airflow_calib_provider.jobsets.cleaning import clean
from airflow_calib_provider.jobsets.kill import settle
from airflow_calib_provider.ledger import steering, tables, workers
from tests import processes
from tests.jobsets.iterations import SPEC, Iterations
from tests.worlds import NO_DELAY

TWICE = SPEC.replace("metrics: {mass: {target: 91.0, within: 0.1%}}", "visits: 2")
RESERVED = TWICE.replace("split: {count: 3}, ", "").replace(
    "phases:", "workers: {count: 3, reserve: true, heartbeat: 1s, lost_after: 3s}\n      phases:"
)
UPDATE = """\
cat $(grep -o '"hist": "[^"]*"' "$CALIB_RESULTS_FILE" | cut -d '"' -f 4) | cksum | cut -d ' ' -f 1 > "$CALIB_OUT/c.txt"
"""
SLOW = 'sleep 1; sed "s/$/$CALIB_JOB/" "$CALIB_CONSTANTS" > "$CALIB_OUT/h.txt"\n'


class Reserving(Iterations):
    """Two steps, of which each depends on all bytes of the one before."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.write(RESERVED)
        self.script("measure", SLOW)
        self.script("update", UPDATE)

    @property
    def mailbox(self) -> Path:
        (row,) = self.rows(tables.generation)
        return self.home / "products" / row.folder.rpartition("/")[0] / "workers" / "mailbox"

    @property
    def home(self) -> Path:
        return self.specs.parent

    def replaced(self) -> dict[int, int]:
        """Worker → in which epoch it is."""
        return {row.job_index: row.attempt for row in self.rows(tables.job) if row.step == workers.WORKERS}

    def refused(self) -> list[tuple[str, str]]:
        return [(row.file, row.why) for row in self.rows(tables.refused_result)]

    def until(self, generation: int, what: str) -> None:
        """Go on until an order is being done."""
        end = time.monotonic() + 120
        while not any(what in file.read_text() for file in self.mailbox.glob("beats/[0-9]*")):
            assert time.monotonic() < end, [file.read_text() for file in self.mailbox.glob("beats/*")]
            self.step([generation])
            time.sleep(0.05)


def workers_alive(home: Path, group: str = "") -> dict[int, int]:
    """Worker → process; with a group, of those of that group."""
    found = {}
    for place in Path("/proc").iterdir():
        try:
            words = (place / "cmdline").read_bytes().decode().split("\0") if place.name.isdigit() else []
            if len(words) > 2 and words[1].startswith(str(home)) and words[1].endswith("worker.sh"):
                parent = (place / "stat").read_text().rpartition(") ")[2].split()[1]
                if (Path("/proc") / parent / "cmdline").read_bytes().decode().split("\0")[:2] == words[:2]:
                    continue  # a part of the shell, for a moment
                variables = (place / "environ").read_bytes().decode().split("\0")
                if not group or f"CALIB_GROUP={group}" in variables:
                    found[next(int(one[10:]) for one in variables if one.startswith("CALIB_JOB="))] = int(place.name)
        except (OSError, ValueError):
            continue
    return found


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CALIB_LOCAL_SLOTS", "4")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Reserving]:
    made = Reserving(tmp_path / "home")
    yield made
    for row in made.rows(tables.generation):
        settle(made.ledger, made.backend_of, row.id, "failed", datetime.now(UTC))
    made.ledger.close()
    assert workers_alive(tmp_path) == {}, "none is left"


History = list[tuple[int, str, str, str | None]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> History:
    """With a round per step."""
    home = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALIB_HOME", str(home))
        place = Reserving(home)
        place.write(RESERVED.replace("reserve: true, heartbeat: 1s, lost_after: 3s", "reserve: false"))
        place.script("measure", SLOW.removeprefix("sleep 1; "))
        generation = place.begin()
        assert place.finish(generation, 180).state == "done"
        found = place.history(generation)
        assert {row.step for row in place.rows(tables.job)} == {0, 1, 2}
        place.ledger.close()
    return found


def watch(folder: Path, generation: int) -> None:
    """What another triggerer does."""
    Iterations(folder).finish(generation, 180)


def test_the_same_as_with_a_round_per_step(place: Reserving, undisturbed: History) -> None:
    """With fewer slots than workers, too: who is there does what the others would. And with two watchers."""
    os.environ["CALIB_LOCAL_SLOTS"] = "2"
    generation = place.begin()
    other = processes.process(watch, place.home, generation)
    other.start()
    standing = place.finish(generation, 180)
    other.join(180)
    assert other.exitcode == 0
    assert standing.state == "done", standing
    assert place.history(generation) == undisturbed
    assert {row.state for row in place.rows(tables.round_)} == {"finished"}
    assert place.refused() == []
    used = Counter((row.step, row.job_index) for row in place.rows(tables.attempt) if row.step > 0)
    assert set(used.values()) == {1}, "no job was done twice"
    (row,) = place.rows(tables.generation)
    base = place.home / "products" / row.folder
    assert list(base.glob("step-*/attempts"))
    clean(place.ledger, place.backend_of, datetime.now(UTC) + timedelta(days=31))
    assert {one.name.partition("-")[0] for one in base.iterdir()} == {"job", "step"}
    assert not list(base.glob("step-*/attempts"))


def test_killed_and_frozen_workers(place: Reserving, undisturbed: History) -> None:
    """Each is replaced once, and works with the constants of now; a clock that is a day off changes nothing."""
    generation = place.begin()
    place.until(generation, "s1.")
    alive = workers_alive(place.home)
    os.kill(alive[0], signal.SIGKILL)
    os.kill(alive[1], signal.SIGSTOP)
    end = time.monotonic() + 180
    for n in range(10_000):
        now = datetime.now(UTC) + timedelta(days=n % 3 - 1)
        standing = advance(place.ledger, place.backend_of, [generation], now, NO_DELAY)[generation]
        if standing.state != "running":
            break
        assert time.monotonic() < end, standing
        time.sleep(0.1)
    assert standing.state == "done", standing
    assert place.history(generation) == undisturbed
    told = [(row.job_index, row.n, row.reason) for row in place.rows(tables.attempt) if row.step == workers.WORKERS]
    assert place.replaced() == {0: 2, 1: 2, 2: 1}, told
    said = {
        row.job_index: row.reason for row in place.rows(tables.attempt) if row.step == workers.WORKERS and row.n == 1
    }
    assert said[1] == "no sign of life for 3 s"


def result(order: str, worker: int, epoch: int = 1, exit_code: int = 0) -> str:
    return json.dumps({"order": order, "worker": worker, "epoch": epoch, "exit_code": exit_code, "timeout": False})


def test_results_that_are_wrong(place: Reserving, undisturbed: History) -> None:
    """Of another step, for another's index, of an old epoch, late, twice, and no result at all: nothing is lost."""
    generation = place.begin()
    place.until(generation, "s1.j0.a1")
    results = place.mailbox / "results"
    wrong = {
        "s1.j1.a1.w0.e1": result("s1.j1.a1", 0),
        "s7.j0.a1.w0.e1": result("s7.j0.a1", 0),
        "s1.j0.a1.w0.e0": result("s1.j0.a1", 0, 0),
        "rubbish": "{",
        "s01.j0.a1.w0.e1": result("s1.j0.a1", 0),
        f"s{10**30}.j0.a1.w0.e1": result("s1.j0.a1", 0),
        "a 'b'\n\udcff": "{",
    }
    for name, text in wrong.items():
        (results / name).write_text(text)
    # Where that of job 2 is to lie: of another step, as its worker says.
    (results / "s1.j2.a1.w2.e1").write_text(result("s9.j2.a1", 2))
    place.until(generation, "s2.j0.a1")
    (results / "s1.j0.a1.w0.e1").write_text(result("s1.j0.a1", 0, exit_code=3))
    assert place.finish(generation, 180).state == "done"
    assert place.history(generation) == undisturbed
    why = dict(place.refused())
    wrong["a 'b'\n\\xff"] = wrong.pop("a 'b'\n\udcff")
    assert set(why) == {*wrong, "s1.j2.a1.w2.e1", "s1.j0.a1.w0.e1"}
    assert why["s1.j1.a1.w0.e1"] == "worker 1 was asked for it"
    assert why["s7.j0.a1.w0.e1"] == "there is no attempt 1 of job 0 of step 7"
    assert why["s1.j0.a1.w0.e0"] == "it is of epoch 0, and epoch 1 was asked for it"
    for name in ("rubbish", "s01.j0.a1.w0.e1", f"s{10**30}.j0.a1.w0.e1", "a 'b'\n\\xff"):
        assert why[name] == "its name says nothing"
    assert why["s1.j2.a1.w2.e1"] == "it says that it is s9.j2.a1 of worker 2 (1), and lies as s1.j2.a1.w2.e1"
    assert why["s1.j0.a1.w0.e1"] == "it was handed over before"
    told = [row.data for row in place.rows(tables.event) if row.entity == "step" and "refused" in row.data]
    assert sorted(one["refused"] for one in told) == sorted(why)


def test_late_and_left_out(place: Reserving) -> None:
    """With the quorum reached the others are told to stop, and go on with the next step."""
    place.write(RESERVED.replace("count: 3, ", "count: 3, quorum: 0.6, "))
    place.script("measure", f"[ $CALIB_STEP$CALIB_JOB != 12 ] || sleep 100\n{SLOW}")
    generation = place.begin()
    place.until(generation, "s2.j2.a1")
    (place.mailbox / "results" / "s1.j2.a1.w2.e1").write_text(result("s1.j2.a1", 2))
    assert place.finish(generation, 180).state == "done"
    assert place.steps(generation)[0].left_out == {"2": "running"}
    assert ("s1.j2.a1.w2.e1", "it came after step 1 was frozen") in place.refused()
    assert place.replaced() == {0: 1, 1: 1, 2: 1}


def test_no_worker_is_left(place: Reserving) -> None:
    place.write(RESERVED.replace("count: 3, ", "count: 1, max_replacements: 1, "))
    generation, end = place.begin(), time.monotonic() + 180
    while (standing := place.step([generation])[generation]).state == "running":
        assert time.monotonic() < end, standing
        for number in workers_alive(place.home).values():
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.05)
    said = render(standing.reason)
    assert (standing.state, said.partition(":")[0]) == ("failed", "step 1"), said
    assert "no worker is left" in said, said
    assert "no replacement is left, of 1" in said, said
    release = Cause("run-r1", dict(standing.reason or {}), "failed").release
    assert "resources.memory" in release
    assert "max_replacements" in release
    assert place.begin(max_tries=1) == generation, "a clear goes on with new workers"
    assert place.finish(generation, 180).state == "done"


@pytest.mark.parametrize("gone", [False, True], ids=["changed", "gone"])
def test_constants_that_somebody_has_changed(place: Reserving, *, gone: bool) -> None:
    """It fails with their name as soon as a worker has seen it, and not after all replacements."""
    os.environ["CALIB_LOCAL_SLOTS"] = "2"
    place.write(RESERVED.replace("count: 3, ", "count: 3, max_replacements: 500, "))
    generation = place.begin()
    place.until(generation, "s1.")
    (constants,) = (place.home / "products").glob("*/*/*/*/constants/*")
    said = f"step 1: its constants are not what they were: {constants}"
    if gone:
        constants.unlink()
        said = f"step 1: its constants cannot be read: [Errno 2] No such file or directory: '{constants}'"
    else:
        constants.write_text("66\n")
    standing = place.finish(generation, 120)
    assert standing.state == "failed"
    assert render(standing.reason) == said
    assert sum(place.replaced().values()) < 6


def test_the_update_finds_a_slot(place: Reserving) -> None:
    """One that is a job of its own: workers leave a slot of the machine to it."""
    os.environ["CALIB_LOCAL_SLOTS"] = "2"
    place.write(RESERVED.replace("update: {", "update: {resources: {memory: 3GB}, "))
    generation = place.begin()
    assert place.finish(generation, 60).state == "done"


def test_an_update_larger_than_what_workers_leave(place: Reserving) -> None:
    """It would wait for them for ever: it is refused, and with enough slots it is made."""
    os.environ["CALIB_LOCAL_SLOTS"] = "2"
    place.write(RESERVED.replace("update: {", "update: {resources: {cpus: 2}, ").replace("count: 3,", "count: 1,"))
    generation = place.begin()
    standing = place.finish(generation, 60)
    assert standing.state == "failed"
    said = render(standing.reason)
    assert "it asks for 2 cpus, and the reserved workers keep 1 of 2 slots of this machine" in said
    assert "CALIB_LOCAL_SLOTS of at least 3" in said
    os.environ["CALIB_LOCAL_SLOTS"] = "3"
    assert place.begin(max_tries=1) == generation
    assert place.finish(generation, 60).state == "done"


def test_a_machine_with_one_slot(place: Reserving) -> None:
    """Workers would keep it from their own update: they do not begin."""
    os.environ["CALIB_LOCAL_SLOTS"] = "1"
    standing = place.finish(place.begin(), 60)
    assert standing.state == "failed"
    said = render(standing.reason)
    assert "a reserved worker takes 1 of 1 slots of this machine, and one must stay for others" in said
    assert "reserve: false; or CALIB_LOCAL_SLOTS of at least 2" in said


def test_a_throttle_counts_places(place: Reserving, undisturbed: History) -> None:
    """As many workers as the campaign may have jobs: what they do needs no further ones."""
    steering.alter(place.ledger, "prompt", steering.Changes(max_jobs=3))
    generation = place.begin()
    assert place.finish(generation, 180).state == "done"
    assert place.history(generation) == undisturbed


def test_a_kill_ends_the_workers(place: Reserving) -> None:
    generation = place.begin()
    place.until(generation, "s1.")
    assert settle(place.ledger, place.backend_of, generation, "failed", datetime.now(UTC)) == "removed"
    assert workers_alive(place.home) == {}
    assert {row.state for row in place.rows(tables.job)} == {"removed"}


EVERYWHERE = [
    "generation.after_create",
    "round.after_submit",
    "round.after_record",
    "jobs.before_apply",
    "jobs.after_apply",
    "step.after_freeze",
    "step.after_update",
    "step.after_judge",
    "step.after_next",
    "worker.before_replace",
    "worker.after_replace",
    "mailbox.after_give",
    "mailbox.before_say",
    "mailbox.after_say",
    "mailbox.before_refuse",
    "mailbox.after_refuse",
    "generation.before_done",
    "generation.after_done",
]


def disturbed(folder: Path) -> None:
    """Work that is killed at each point; a worker is frozen, and a result is put there that is none."""
    place = Reserving(folder)
    generation, frozen = place.begin(), folder / "frozen"
    if not frozen.exists():
        place.until(generation, "s1.")
        frozen.touch()
        os.kill(workers_alive(folder)[1], signal.SIGSTOP)
        (place.mailbox / "results" / "s1.j0.a9.w0.e1").write_text("{}")
    print(place.finish(generation, 180).state)


def test_dying_everywhere(tmp_path: Path, undisturbed: History) -> None:
    """The same constants as without, bit for bit; each result is used once."""
    home = tmp_path / "home"
    variables: dict[str, Any] = {
        "CALIB_HOME": str(home),
        "CALIB_CRASH_AT": ",".join(EVERYWHERE),
        "CALIB_CRASH_FOLDER": str(tmp_path),
    }
    for _ in range(len(EVERYWHERE) + 1):
        ended = processes.run(disturbed, home, **variables)
        if ended.returncode != -signal.SIGKILL:
            break
    assert (ended.returncode, ended.stdout.strip()) == (0, "done"), ended.stderr
    assert [point for point in EVERYWHERE if not (tmp_path / point).exists()] == [], "all were met"
    place = Reserving(home)
    (generation,) = place.rows(tables.generation)
    assert place.history(generation.id) == undisturbed
    assert place.replaced()[1] == 2
    assert [file for file, _ in place.refused()] == ["s1.j0.a9.w0.e1"], "once"
    assert {row.state for row in place.rows(tables.round_)} == {"finished"}
    place.ledger.close()
    assert workers_alive(tmp_path) == {}
