"""Thousands of mutated files: each is a spec, or gives errors of ours with file, line and column, quickly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.spec import fuzz


def read(first: int, last: int, folder: Path) -> list[str]:
    """What went wrong with the files of these numbers, in a process of their own."""
    command = [sys.executable, "-m", "tests.spec.fuzz", str(first), str(last), str(folder / str(first))]
    out = folder / f"{first}.jsonl"
    with out.open("w") as stream:
        ended = subprocess.run(
            command, cwd=fuzz.ROOT, stdout=stream, stderr=subprocess.PIPE, text=True, timeout=1_500, check=False,
            env={**os.environ, "PYTHONPATH": str(fuzz.ROOT)},
        )  # fmt: skip
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    wrong = [f"{line['number']}: {line['said']}" for line in lines if "number" in line]
    begun = [line["begun"] for line in lines if "begun" in line]
    if ended.returncode or begun != list(range(first, last)):
        wrong.append(f"after {begun[-1:]} the process ended with {ended.returncode}: {ended.stderr[-2_000:]}")
    return wrong


def test_five_hundred_mutated_files(tmp_path: Path) -> None:
    assert read(0, 500, tmp_path) == []


@pytest.mark.long
def test_ten_thousand_mutated_files(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(lambda first: read(first, first + 1_000, tmp_path), range(500, 10_500, 1_000))
        assert [line for part in parts for line in part] == []


def test_the_fuzzer_sees_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One number always gives the same files; a reader that fails, and one that forgets the place, are seen."""
    folders = fuzz.corpus()
    assert len(folders) > 150
    assert fuzz.mutated(7, folders) == fuzz.mutated(7, folders)
    assert len({json.dumps(sorted(str(fuzz.mutated(number, folders)))) for number in range(50)}) > 45
    assert fuzz.trouble(folders[0], tmp_path) == ""
    with monkeypatch.context() as patch:
        patch.setattr("airflow_calib_provider.spec.loader.read_workflow", lambda *_, **__: 1 / 0)
        assert "ZeroDivisionError" in fuzz.trouble(folders[0], tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("airflow_calib_provider.spec.problems.Problems.place", lambda self, _: fuzz_place(self.file))
        assert "no place of the file" in fuzz.trouble({**folders[0], "w.yaml": b"a: b"}, tmp_path)


def fuzz_place(file: Path) -> object:
    from airflow_calib_provider.errors import Place

    return Place(file, 99, 1)
