"""Runs from CSV files."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.errors import RunSourceError
from airflow_calib_provider.runsources import read_source
from airflow_calib_provider.spec.models import FieldType, RunSource

FIELDS = {
    "number": FieldType.INT,
    "lumi_pb": FieldType.FLOAT,
    "status": FieldType.STRING,
    "fill": FieldType.INT,
    "good": FieldType.BOOL,
    "seen": FieldType.TIME,
}
BAD = yaml.safe_load((Path(__file__).parent / "bad_csv.yaml").read_text())


def source(**csv_options: Any) -> RunSource:
    return RunSource(name="daq", fields=FIELDS, kind="csv", options={"path": "runs.csv", **csv_options})


def read(folder: Path, content: str | bytes, own: RunSource | None = None) -> list[RunRecord]:
    (folder / "runs.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_source(own or source(), base_folder=folder)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case["case"].replace(" ", "_"))
def test_every_mistake_is_named_with_its_place(case: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RunSourceError) as caught:
        read(tmp_path, case["text"])
    file = tmp_path / "runs.csv"
    assert [line.removeprefix(f"{file}:") for line in str(caught.value).split("\n")] == case["errors"]


def test_all_columns(tmp_path: Path) -> None:
    own = source(columns={"number": "Run", "start": "Begin"}, separator=";", files_separator="|")
    text = (
        "Run;Begin;end;completed;files;lumi_pb;status;fill;good;seen;other\n"
        "8;2026-01-02;;no;;;;;;;x\n"
        "\n"
        " 7 ;2026-01-01T00:00:00;2026-01-01T02:00:00+01:00;yes;a.root| root://b//c |/d e.root|;"
        "1.5;ok;3;true;2026-01-01;\n"
    )
    first, second = read(tmp_path, "\ufeff" + text, own)
    assert first == RunRecord(
        number=7,
        start=datetime(2026, 1, 1, tzinfo=UTC),
        end=datetime(2026, 1, 1, 1, tzinfo=UTC),
        completed=True,
        fields={"lumi_pb": 1.5, "status": "ok", "fill": 3, "good": True, "seen": "2026-01-01T00:00:00+00:00"},
        files=(f"{tmp_path}/a.root", "root://b//c", "/d e.root"),
    )
    assert (second.number, second.completed, second.end, second.files) == (8, False, None, ())
    assert second.fields == dict.fromkeys(["lumi_pb", "status", "fill", "good", "seen"])
    assert first.values()["files"] == list(first.files)
    assert first.values()["lumi_pb"] == 1.5


def test_without_a_column_for_it_every_run_is_completed(tmp_path: Path) -> None:
    (record,) = read(tmp_path, "number,lumi_pb,status,fill,good,seen\r\n1,0,a,,,\r\n")
    assert record.completed


def test_a_declared_column_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(RunSourceError, match="there is no column 'Done' for the field 'completed'"):
        read(tmp_path, "number,lumi_pb,status,fill,good,seen\n", source(columns={"completed": "Done"}))


def test_no_runs_yet(tmp_path: Path) -> None:
    assert read(tmp_path, "number,lumi_pb,status,fill,good,seen\n") == []


def test_at_most_twenty_mistakes(tmp_path: Path) -> None:
    with pytest.raises(RunSourceError) as caught:
        read(tmp_path, "number,lumi_pb,status,fill,good,seen\n" + "x,1,a,,,\n" * 1000)
    assert str(caught.value).count("\n") == 20
    assert str(caught.value).endswith("(stopped after 20 mistakes)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"number,lumi_pb\n1,\xff", ":2:3: byte 0xff is not UTF-8; expected text in UTF-8; save the file as UTF-8"),
        (b"number,lumi_pb\n1,\x00", ":2:3: a NUL byte; expected text in UTF-8"),
        ("\ufeffnumber,→\r1,é😀\x00".encode(), ":2:5: a NUL byte; expected text in UTF-8"),
        (
            "number,→\r\né,é".encode() + b"\xff",
            ":2:4: byte 0xff is not UTF-8; expected text in UTF-8; save the file as UTF-8",
        ),
        (b"", ":1:1: the file is empty; expected a header line"),
    ],
)
def test_files_that_are_no_text(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(RunSourceError) as caught:
        read(tmp_path, content)
    assert str(caught.value) == f"{tmp_path}/runs.csv{message}"


LUMINOSITY = {"number": FieldType.INT, "lumi_pb": FieldType.FLOAT}


def test_a_file_cut_inside_its_last_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunSourceError, match="truncated, or still being written"):
        read(
            tmp_path,
            b"number,lumi_pb\n1,31.7\n2,31",
            RunSource(name="s", fields=LUMINOSITY, kind="csv", options={"path": "runs.csv"}),
        )


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(RunSourceError, match="cannot read the file: No such file or directory"):
        read_source(source(), base_folder=tmp_path)
    with pytest.raises(RunSourceError, match="Is a directory"):
        read_source(source(path="."), base_folder=tmp_path)


@pytest.mark.timeout(60)
def test_what_is_no_file_is_neither_waited_for_nor_read_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "runs.csv")
    (tmp_path / "large.csv").touch()
    os.truncate(tmp_path / "large.csv", 10**12)
    for path, message in (
        ("runs.csv", "it is a pipe, a socket or a device"),
        ("/dev/zero", "it is a pipe, a socket or a device"),
        ("large.csv", "the file is too large; expected at most 100,000,000 bytes"),
    ):
        with pytest.raises(RunSourceError, match=message):
            read_source(source(path=path), base_folder=tmp_path)


def test_the_home_folder_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(RunSourceError, match="names a home folder that is not known here"):
        read_source(source(path="~nobody_of_this_name/runs.csv"), base_folder=tmp_path)


def test_a_path_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = source(path="{{ env.CALIB_TEST_DATA }}/runs.csv")
    with pytest.raises(RunSourceError, match="set the environment variable"):
        read_source(own, base_folder=Path("/"))
    monkeypatch.setenv("CALIB_TEST_DATA", str(tmp_path))
    (tmp_path / "runs.csv").write_text("number,lumi_pb,status,fill,good,seen\n1,0,a,,,\n")
    assert len(read_source(own, base_folder=Path("/"))) == 1


def test_very_many_files(tmp_path: Path) -> None:
    files = ";".join(f"file{number:06}.root" for number in range(20_000))
    (record,) = read(tmp_path, f"number,files,lumi_pb,status,fill,good,seen\n1,{files},0,a,,,\n")
    assert len(record.files) == 20_000


words = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)
rows = st.fixed_dictionaries(
    {
        "number": st.integers(1, 2**53),
        "lumi_pb": st.none() | st.floats(0, allow_nan=False, allow_infinity=False),
        "status": st.none() | words.filter(bool),
        "fill": st.none() | st.integers(-(2**62), 2**62),
        "good": st.none() | st.booleans(),
        "seen": st.none() | st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    }
)


@settings(max_examples=60)
@given(runs=st.lists(rows, unique_by=lambda row: row["number"]))
def test_what_is_written_is_read(runs: list[dict[str, Any]], tmp_path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(FIELDS))
    writer.writeheader()
    writer.writerows(runs)
    found = read(tmp_path, text.getvalue())
    expected = sorted(runs, key=lambda row: int(row["number"]))
    assert [{"number": record.number, **record.fields} for record in found] == expected


@settings(max_examples=100)
@given(content=st.binary(max_size=200))
def test_no_bytes_break_the_reader(content: bytes, tmp_path: Path) -> None:
    with contextlib.suppress(RunSourceError):
        read(tmp_path, b"number,lumi_pb,status,fill,good,seen\n" + content)
