"""Reserved workers on a real HTCondor pool that share no files with the watcher, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.jobsets.folders import job_folder
from airflow_calib_provider.ledger import tables, workers
from tests.jobsets.iterations import MEASURE, SPEC, Iterations
from tests.jobsets.test_iterating_condor import FROM_INPUTS, OnPool, assert_empty
from tests.jobsets.test_iterating_condor import place as place
from tests.pool.pool import Pool

pytestmark = [pytest.mark.condor, pytest.mark.timeout(900)]

TEXT = SPEC.replace("metrics: {mass: {target: 91.0, within: 0.1%}}", "visits: 3").replace("split: {count: 3}, ", "")
WORKERS = "workers: {count: 3, reserve: true, heartbeat: 1s, lost_after: 8s}\n      phases:"
WITHIN = """\
for file in "$CALIB_CONSTANTS" "$CALIB_OUT" "$CALIB_INPUTS" "$CALIB_RUNS_FILE" "$0"; do
    case $file in "$_CONDOR_SCRATCH_DIR"/*) ;; *) echo "$file is not here" >&2; exit 9 ;; esac
    [ -r "$file" ] || exit 8
done
"""


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, str, str | None]]:
    """What jobs make that nobody disturbs, on this machine, with a round per step."""
    home = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALIB_HOME", str(home))
        undisturbed = Iterations(home)
        undisturbed.script("update", FROM_INPUTS)
        undisturbed.write(TEXT.replace("phases:", "workers: {count: 3}\n      phases:"))
        generation = undisturbed.begin()
        assert undisturbed.finish(generation, 120).state == "done"
        found = undisturbed.history(generation)
        undisturbed.ledger.close()
    return found


def begin(place: OnPool, update: str = "") -> int:
    """Begin, and go on until the first step is judged.

    :param update: more keys of the update.
    """
    text = TEXT.replace("group_by: run\n    iterate", "group_by: run\n    backend: condor\n    iterate")
    for name, keys in (("measure", ""), ("update", update)):
        command = f'command: [sh, "{{{{ spec.folder }}}}/{name}.sh"]'
        more = f"condor: {{transfer: true, files: ['{{{{ spec.folder }}}}/{name}.sh']}}, {keys}"
        text = text.replace(command, f"{more}{command}")
    place.write(text.replace("phases:", WORKERS))
    place.script("measure", f"{WITHIN}sleep 2\n{MEASURE}")
    place.script("update", f'{WITHIN}mkdir -p "$CALIB_OUT/more"; echo x >"$CALIB_OUT/more/a file"\n{FROM_INPUTS}')
    generation, end = place.begin(), time.monotonic() + 300
    while not any(one.state == "judged" for one in place.steps(generation)):
        standing = place.step([generation])[generation]
        assert standing.state == "running", (standing, place.rows(tables.attempt))
        assert time.monotonic() < end, place.rows(tables.attempt)
        time.sleep(0.2)
    return generation


def workers_of(pool: Pool) -> dict[int, int]:
    """Worker → process: its number on this machine."""
    found: dict[int, int] = {}
    for number, command in pool.processes().items():
        with suppress(OSError, ValueError, StopIteration):
            if len(command) > 2 and command[1].endswith("worker.sh"):
                variables = Path(f"/proc/{number}/environ").read_text().split("\0")
                worker = next(int(one[10:]) for one in variables if one.startswith("CALIB_JOB="))
                # A part of the shell, which looks the same for a moment, began later.
                found[worker] = min(number, found.get(worker, number))
    return found


def epochs(place: OnPool) -> dict[int, int]:
    return {row.job_index: row.attempt for row in place.rows(tables.job) if row.step == workers.WORKERS}


def test_one_is_killed_and_one_is_frozen(
    place: OnPool, pool: Pool, wanted: list[tuple[int, str, str, str | None]]
) -> None:
    """The same constants as without; all that the programs left is where it is of any job."""
    generation = begin(place)
    alive = workers_of(pool)
    assert set(alive) == {0, 1, 2}
    os.kill(alive[0], signal.SIGKILL)
    os.kill(alive[1], signal.SIGSTOP)
    standing = place.finish(generation, 300)
    assert standing.state == "done", (standing, place.rows(tables.attempt))
    assert place.history(generation) == wanted
    attempts = [row for row in place.rows(tables.attempt) if row.step == workers.WORKERS]
    assert {row.job_index: row.reason for row in attempts if row.n == 1}[1] == "no sign of life for 8 s"
    assert epochs(place)[2] == 1
    (row,) = place.rows(tables.generation)
    updated = job_folder(f"{row.folder}/step-001", 3)
    assert (updated / "out" / "more" / "a file").read_text() == "x\n"
    assert list((updated.parents[1] / "workers" / "mailbox" / "outputs").iterdir()) == []
    assert_empty(place)


@pytest.mark.long
def test_the_schedd_dies(place: OnPool, pool: Pool, wanted: list[tuple[int, str, str, str | None]]) -> None:
    """With it the workers' way to their mailbox: whoever has lost it is replaced, and nothing else is lost."""
    generation = begin(place)
    pool.restart("schedd")
    end, state = time.monotonic() + 600, "running"
    while state == "running":
        assert time.monotonic() < end, place.rows(tables.attempt)
        with suppress(BackendError):  # the first call to the new one, which knows no session of the old
            state = place.step([generation])[generation].state
        time.sleep(0.2)
    assert state == "done", place.rows(tables.attempt)
    assert place.history(generation) == wanted
    print(epochs(place), [row.reason for row in place.rows(tables.attempt) if row.step == workers.WORKERS])
    assert_empty(place)


@pytest.mark.long
def test_an_update_that_needs_a_place_of_its_own(place: OnPool, wanted: list[tuple[int, str, str, str | None]]) -> None:
    """It is a job of the batch system, which takes its lists, the constants and the results along."""
    generation = begin(place, "resources: {memory: 300MB}, ")
    standing = place.finish(generation, 600)
    assert standing.state == "done", (standing, place.rows(tables.attempt))
    assert place.history(generation) == wanted
    submitted = " ".join(one.name for one in place.backend.spool.iterdir())
    assert [n for n in (1, 2, 3) if f".s{n}.r" in submitted] == [1, 2, 3]
    assert_empty(place)
