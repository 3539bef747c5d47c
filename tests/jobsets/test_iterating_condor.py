"""An iteration on a real HTCondor pool: on a shared file system, and where HTCondor transfers the files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.jobsets.folders import job_folder
from airflow_calib_provider.ledger import tables, workers
from tests.jobsets.iterations import SPEC, Iterations
from tests.pool.pool import Pool

pytestmark = [pytest.mark.condor, pytest.mark.timeout(900)]

FROM_INPUTS = """\
mass=$(while IFS= read -r file; do cat "$file"; done < "$CALIB_INPUTS" | awk '{s += $1} END {printf "%.10f", s / NR}')
awk -v m="$mass" '{printf "%.10f\\n", $1 * (1 + 0.95 * (91 / m - 1))}' "$CALIB_CONSTANTS" > "$CALIB_OUT/c.txt"
echo "{\\"metrics\\": {\\"mass\\": {\\"value\\": $mass, \\"error\\": 0.01}}}" >> "$CALIB_REPORT"
"""


class OnPool(Iterations):
    """As :class:`Iterations`, where the pool runs the jobs."""

    backend: CondorBackend

    def backend_of(self, name: str) -> CondorBackend:
        return self.backend


@pytest.fixture
def place(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnPool]:
    assert pool.shared is not None
    before = os.umask(0)
    folder = pool.shared / tmp_path.name
    folder.mkdir()
    monkeypatch.setenv("CALIB_HOME", str(folder))
    made = OnPool(folder)
    made.backend = CondorBackend(CondorSettings.from_mapping("calib_condor", pool.connection()), folder / "spool")
    made.script("update", FROM_INPUTS)
    yield made
    made.backend.close()
    made.ledger.close()
    os.umask(before)


WORKERS = "workers: {count: 3, reserve: true, heartbeat: 1s, lost_after: 20s}\n      phases:"


def test_reserved_workers(place: OnPool) -> None:
    """One cluster of workers for all steps; one that is removed from the queue is replaced."""
    text = SPEC.replace("group_by: run\n    iterate", "group_by: run\n    backend: condor\n    iterate")
    place.write(text.replace("split: {count: 3}, ", "").replace("phases:", WORKERS))
    generation = place.begin()
    end = time.monotonic() + 300
    while not any(one.state == "judged" for one in place.steps(generation)):
        place.step([generation])
        assert time.monotonic() < end, place.rows(tables.job)
        time.sleep(0.2)
    (first,) = [row for row in place.rows(tables.round_) if row.step == workers.WORKERS]
    place.backend.remove(first.key, [1])
    standing = place.finish(generation, 300)
    assert standing.state == "done", (standing, place.rows(tables.job))
    epochs = {row.job_index: row.attempt for row in place.rows(tables.job) if row.step == workers.WORKERS}
    assert epochs[0] == epochs[2] == 1
    clusters = [row for row in place.rows(tables.round_) if row.step == workers.WORKERS]
    # It may be over before anybody is needed in the place of the one that was removed.
    assert len(clusters) == epochs[1] <= 2
    (row,) = place.rows(tables.generation)
    assert abs(80 * float((job_folder(row.folder, 0) / "out" / "c.txt").read_text()) - 91) < 0.091
    assert_empty(place)


def assert_empty(place: OnPool) -> None:
    """The workers that were told to leave have done so soon."""
    end = time.monotonic() + 60
    while place.backend.rounds():
        assert time.monotonic() < end
        time.sleep(0.5)


@pytest.mark.parametrize("transfer", [False, True], ids=["shared", "transfer"])
def test_to_its_end(place: OnPool, transfer: bool) -> None:
    more = "condor: {transfer: true, files: ['{{ spec.folder }}/NAME.sh']}, " if transfer else ""
    text = SPEC.replace("group_by: run\n    iterate", "group_by: run\n    backend: condor\n    iterate")
    for name in ("measure", "update"):
        command = f'command: [sh, "{{{{ spec.folder }}}}/{name}.sh"]'
        text = text.replace(command, f"{more.replace('NAME', name)}{command}")
    place.write(text)
    generation = place.begin()
    standing = place.finish(generation, 600)
    assert standing.state == "done", (standing, place.rows(tables.job))
    (row,) = place.rows(tables.generation)
    scale = float((job_folder(row.folder, 0) / "out" / "c.txt").read_text())
    assert abs(80 * scale - 91) < 0.091
    assert place.backend.rounds() == []
