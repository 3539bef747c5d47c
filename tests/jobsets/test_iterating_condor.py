"""An iteration on a real HTCondor pool: on a shared file system, and where HTCondor transfers the files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.jobsets.folders import job_folder
from airflow_calib_provider.ledger import tables
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
