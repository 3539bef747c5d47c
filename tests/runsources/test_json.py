# ruff: noqa: E501 - what is said about a file stands on one line
"""Runs from files of JSON."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
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
ONE = {"number": FieldType.INT}
ALL: dict[str, Any] = {"number": 1, "lumi_pb": 1, "status": "a", "fill": 2, "good": True, "seen": None}


def source(fields: dict[str, FieldType] | None = None, **options: Any) -> RunSource:
    return RunSource(name="daq", fields=fields or FIELDS, kind="json", options={"path": "runs.json", **options})


def read(folder: Path, content: object, own: RunSource | None = None) -> list[RunRecord]:
    text = content if isinstance(content, bytes | str) else json.dumps(content)
    (folder / "runs.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_source(own or source(), base_folder=folder)


def test_a_list_of_objects(tmp_path: Path) -> None:
    own = source(
        runs="data.items",
        keys={"number": "run", "start": "attributes.begin", "fill": "attributes.fill.number"},
        zone="Europe/Zurich",
    )
    runs = [
        {
            "run": "8",
            "attributes": {"begin": "2026-07-01T12:00:00", "fill": {"number": 3}},
            "end": "2026-07-01T12:00:00Z",
            "files": ["a.root", "root://b//c"],
            "lumi_pb": 1.5,
            "status": "ok",
            "good": True,
            "seen": "2026-07-01",
            "other": [{}],
        },
        {"run": 7, "end": None, "files": "x.root; /d e.root"},
    ]
    first, second = read(tmp_path, {"data": {"items": runs}}, own)
    assert second == RunRecord(
        number=8,
        start=datetime(2026, 7, 1, 10, tzinfo=UTC),
        end=datetime(2026, 7, 1, 12, tzinfo=UTC),
        fields={"lumi_pb": 1.5, "status": "ok", "fill": 3, "good": True, "seen": "2026-06-30T22:00:00+00:00"},
        files=(f"{tmp_path}/a.root", "root://b//c"),
    )
    assert (first.completed, first.files) == (False, (f"{tmp_path}/x.root", "/d e.root"))
    assert first.fields == dict.fromkeys(["lumi_pb", "status", "fill", "good", "seen"])


def test_lines(tmp_path: Path) -> None:
    own = source(ONE, lines=True)
    assert [run.number for run in read(tmp_path, '{"number": 3}\n\n{"number": 2, "x": "\u2028"}\n', own)] == [2, 3]
    assert read(tmp_path, "", own) == []
    assert read(tmp_path, "[]", source(ONE)) == []


def test_what_says_nothing_of_completion_has_ended_when_it_has_an_end(tmp_path: Path) -> None:
    runs = [
        {"number": 1},
        {"number": 2, "end": None},
        {"number": 3, "end": "2026-01-01"},
        {"number": 4, "completed": False},
    ]
    assert [run.completed for run in read(tmp_path, runs, source(ONE))] == [True, False, True, False]


OBJECT = "expected an object in each line"
BAD: list[tuple[object, RunSource, list[str]]] = [
    ("", source(), ["1:1: not JSON: Expecting value; expected a list of objects; the file may be truncated"]),
    ('[{"number": 1},\n {"num', source(ONE), ["2:3: not JSON: Unterminated string starting at; expected a list of objects"]),
    ('[{"number": 1}', source(ONE), ["1:15: not JSON: Expecting ',' delimiter; expected a list of objects; the file may be truncated"]),
    ({"runs": [], "n": 1}, source(), ["1:1: it is an object; expected a list of objects; say with 'runs' where it is: runs"]),
    ({"a": {}}, source(runs="a.b"), ["1:1: there is no list at 'a.b': nothing has 'b'; expected a list of objects"]),
    ([1, ALL], source(), ["1:2: it is the number 1; expected an object for each run"]),
    ('[\n  {"number": 1}, {"number": 1,\n  "end": 2}]', source(ONE), [
        "2:18.start: 2 is a number; say with `epoch` what it counts; expected ISO 8601 such as 2026-03-01T12:00:00Z",
    ]),
    ([{"nomber": 1}], source(ONE), ["1:2: nothing has 'number'; expected nomber; did you mean 'nomber'?"]),
    ([{**ALL, "lumi_pb": -1, "fill": 1.5, "good": "maybe", "seen": 5, "status": 3}], source(), [
        "1:2.lumi_pb: lumi_pb is negative: -1.0; expected 0 or more",
        "1:2.status: it is the number 3; expected a text",
        "1:2.fill: it is the number 1.5; expected a whole number below 2^63",
        "1:2.good: it is the text 'maybe'; expected true or false",
        "1:2.seen: 5 is a number; say with `epoch` what it counts; expected ISO 8601 such as 2026-03-01T12:00:00Z",
    ]),
    ('[{"number": 1, "number": 2}]', source(ONE), ["1:1: not JSON: the key 'number' is there twice in an object; expected a list of objects"]),
    ("[{\"number\": NaN}]", source(ONE), ["1:1: not JSON: NaN is no number of JSON; expected a list of objects"]),
    ([{"number": None}, {"number": 0}, {"number": 2**53 + 1}, {"number": True}, {"number": []}], source(ONE), [
        "1:2.number: the run number is null; expected a whole number above 0",
        "1:20.number: the run number is 0; expected a whole number above 0 and at most 2^53",
        "1:35.number: the run number is 9007199254740993; expected a whole number above 0 and at most 2^53",
        "1:65.number: it is true; expected a whole number",
        "1:83.number: it is a list; expected a whole number",
    ]),
    ([{"number": 1, "status": "\ud800"}], source({**ONE, "status": FieldType.STRING}), ["1:2.status: it has a character that no text in UTF-8 has; expected a text"]),
    ([{"number": 1, "files": [5]}], source(ONE), ["1:2.files: a file is the number 5; expected one path or URL without control characters"]),
    ([{"number": 1, "x": 1}, {"number": 1}, {"number": 1, "end": "2026-01-01"}], source(ONE), [
        "1:40: run 1 is there twice with different content; expected each run once (first at 1:2)",
    ]),
    ([{"number": 1, "start": "2026-01-02", "end": "2026-01-01"}], source(ONE), ["1:2.end: run 1 ends before it starts; expected end after start"]),
    ('{"number": 1}\n{"number"', source(ONE, lines=True), [f"2:10: not JSON: Expecting ':' delimiter; {OBJECT}; the file may be truncated"]),
    ('{"number": 1}\n{"number": 2}', source(ONE, lines=True), ["2:0: the last line does not end: the file is truncated, or still being written; expected a line break at its end; write the file under another name, and rename it when it is complete"]),
    (b'[{"number": 1, "a": "\xff"}]', source(ONE), ["1:22: byte 0xff is not UTF-8; expected text in UTF-8; save the file as UTF-8"]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "own", "errors"), BAD)
def test_every_mistake_is_named_with_its_place(
    content: object, own: RunSource, errors: list[str], tmp_path: Path
) -> None:
    with pytest.raises(RunSourceError) as caught:
        read(tmp_path, content, own)
    file = tmp_path / "runs.json"
    assert [line.replace(f"{file}:", "") for line in str(caught.value).split("\n")] == errors


def test_a_list_deep_in_a_document_has_its_lines(tmp_path: Path) -> None:
    text = '{"a" : [1, {"b": 2}],\n "c": {"b": 1,\r\n"items":\t[\n\n{"number": 1} ,{"number": "x"}]}}'
    with pytest.raises(RunSourceError, match=r"runs.json:5:16.number: 'x' is no whole number"):
        read(tmp_path, text, source(ONE, runs="c.items"))


@settings(max_examples=100)
@given(content=st.binary(max_size=100), lines=st.booleans())
def test_no_bytes_break_the_reader(content: bytes, lines: bool, tmp_path: Path) -> None:
    with contextlib.suppress(RunSourceError):
        read(tmp_path, content, source(lines=lines))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(FIELDS)), inner, max_size=3),
)


@settings(max_examples=80)
@given(content=st.lists(st.dictionaries(st.sampled_from([*FIELDS, "start", "end", "files", "completed"]), values)))
def test_no_values_break_the_reader(content: list[Any], tmp_path: Path) -> None:
    with contextlib.suppress(RunSourceError):
        read(tmp_path, content)
