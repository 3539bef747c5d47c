# ruff: noqa: E501 - what is said about a file stands on one line
"""Runs derived from event files."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.errors import RunSourceError
from airflow_calib_provider.runsources import read_source
from airflow_calib_provider.spec.models import FieldType, RunSource

SOURCE = RunSource(
    name="z",
    fields={"number": FieldType.INT, "fill": FieldType.INT, "events": FieldType.INT},
    kind="events",
    options={"path": "events.csv", "run": "Run"},
)


def read(folder: Path, content: bytes) -> list[RunRecord]:
    (folder / "events.csv").write_bytes(content)
    return read_source(SOURCE, base_folder=folder)


def test_events_are_counted(tmp_path: Path) -> None:
    assert read(tmp_path, b'\xef\xbb\xbfEvent,Run,pt\r\n1,7,3.5\r\n2,5,1\r\n\r\n3, 7,2\r\n4,"7",2') == [
        RunRecord(number=5, fields={"fill": None, "events": 1}, files=(str(tmp_path / "events.csv"),)),
        RunRecord(number=7, fields={"fill": None, "events": 3}, files=(str(tmp_path / "events.csv"),)),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "1:1: the file is empty; expected a header line"),
        (b"run,pt\n", "1:Run: there is no column 'Run'; expected one of run, pt; did you mean 'run'?"),
        (b"Run,pt\n1,2\n1\n", "3:1: the line has 1 columns; expected 2 columns; the file may be truncated"),
        (b"Run,pt\nx,2\n", "2:Run: 'x' is no whole number; expected a whole number"),
        (b"Run,pt\n-5,2\n", "2:Run: the run number is -5; expected a whole number above 0 and at most 2^53"),
        (b"Run,pt\n1,2\n1,\xff\n", "3:3: byte 0xff is not UTF-8; expected text in UTF-8"),
        (b"Run,pt\n1,\x00\n", "2:3: a NUL byte; expected text in UTF-8"),
        ("\ufeffRun,→\x00\n".encode(), "1:6: a NUL byte; expected text in UTF-8"),
        ("Run,é\n→,".encode() + b"\xff\n", "2:3: byte 0xff is not UTF-8; expected text in UTF-8"),
        (b'Run,pt\n1,"2\n', "2:1: not CSV: unexpected end of data; expected quotes that are closed; the file may be truncated"),
        (b"pt,Run\n1,165548\n2,165", "3:Run: the last line does not end: the file is truncated, or still being written; expected a line break at its end; write the file under another name, and rename it when it is complete"),
        (b"Run\n165548\n1", "3:Run: the last line does not end: the file is truncated, or still being written; expected a line break at its end; write the file under another name, and rename it when it is complete"),
        (b"Run,pt,Run\n1,2,3\n", "1:Run: the column 'Run' is there twice; expected each column once"),
        (b"R" * 1_100_000, "1:1: the line is too long; expected at most 1,000,000 bytes"),
    ],
)  # fmt: skip
def test_mistakes(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(RunSourceError) as caught:
        read(tmp_path, content)
    assert str(caught.value) == f"{tmp_path}/events.csv:{message}"


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(RunSourceError, match="No such file"):
        read_source(SOURCE, base_folder=tmp_path)


def test_a_large_file_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    with file.open("w") as stream:
        stream.write("Run,pt\n")
        for number in range(200_000):
            stream.write(f"{number // 20_000 + 1},{number}\n")
    tracemalloc.start()
    records = read_source(SOURCE, base_folder=tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [record.fields["events"] for record in records] == [20_000] * 10
    assert peak < 1_000_000
