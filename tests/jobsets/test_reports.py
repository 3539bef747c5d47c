"""What jobs leave behind may be anything."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from airflow_calib_provider.errors import ProductError
from airflow_calib_provider.jobsets import reports
from airflow_calib_provider.jobsets.folders import attempt_folder, generation_folder, job_folder, log_files, promote
from airflow_calib_provider.jobsets.products import check_file, check_product
from airflow_calib_provider.jobsets.reports import read_latest, read_outcome, read_report
from airflow_calib_provider.ledger import tables
from tests.jobsets.world import World


def report(folder: Path, *lines: Any) -> Path:
    file = folder / "report.jsonl"
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return file


def test_no_report(tmp_path: Path) -> None:
    assert read_report(tmp_path / "report.jsonl") == reports.Report()


def test_report(tmp_path: Path) -> None:
    file = report(
        tmp_path,
        {"type": "value", "name": "shift", "value": 1},
        {"type": "progress", "done": 0.5},
        "",
        {"type": "value", "name": "shift", "value": 2.5, "error": 0.1},
        {"type": "product", "name": "plot\u2028", "file": "a/b.png"},
    )
    assert read_report(file) == reports.Report([("shift", 2.5, 0.1)], {"plot\u2028": "a/b.png"})


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "3",
        '"x"',
        "null",
        "{}",
        '{"type": "valu"}',
        '{"type": "value", "name": "x"}',
        '{"type": "value", "name": "", "value": 1}',
        '{"type": "value", "name": 3, "value": 1}',
        '{"type": "value", "name": "x", "value": "1"}',
        '{"type": "value", "name": "x", "value": true}',
        '{"type": "value", "name": "x", "value": NaN}',
        '{"type": "value", "name": "x", "value": 1e999}',
        '{"type": "value", "name": "x", "value": 1, "error": Infinity}',
        '{"type": "value", "name": "x", "value": 1' + "0" * 400 + "}",
        '{"type": "value", "name": "' + "x" * 121 + '", "value": 1}',
        '{"type": "value", "name": "\\u0000", "value": 1}',
        '{"type": "value", "name": "\\ud800", "value": 1}',
        '{"type": "product", "name": "x"}',
        '{"type": "product", "name": "x", "file": ""}',
        '{"type": "product", "name": "x", "file": ["a"]}',
        "[" * 100_000,
    ],
)
def test_bad_line_names_its_place(tmp_path: Path, line: str) -> None:
    file = report(tmp_path, {"type": "progress"}, line)
    with pytest.raises(ProductError, match=r"^report\.jsonl:2: not a valid line") as caught:
        read_report(file)
    assert len(str(caught.value)) < 500


@given(content=st.binary(max_size=300))
def test_any_bytes_are_a_report_or_a_product_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_bytes(content)
    with suppress(ProductError):
        read_report(file)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"type": "value", "name": f"v{n}", "value": n} for n in range(2_001)], r":2001: more than the 2,000 values"),
        ([{"type": "product", "name": f"v{n}", "file": "f"} for n in range(1_001)], r":1001: more than the 1,000 prod"),
        (['{"type": "progress", "x": "' + "x" * 100_000 + '"}'], r":1: a line of more than 100,000 characters"),
    ],
)
def test_a_report_has_limits(tmp_path: Path, lines: list[Any], said: str) -> None:
    with pytest.raises(ProductError, match=said) as caught:
        read_report(report(tmp_path, *lines))
    assert len(str(caught.value)) < 300
    assert len(read_report(report(tmp_path, *lines[:-1])).values) in (0, 2_000)


def test_a_value_that_is_told_often_counts_once(tmp_path: Path) -> None:
    lines = [{"type": "value", "name": f"v{n % 2000}", "value": n} for n in range(20_000)]
    assert len(read_report(report(tmp_path, *lines)).values) == 2_000


def test_report_that_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    for name in ("pipe", "link"):
        with pytest.raises(ProductError, match="not a regular file"):
            read_report(tmp_path / name)
    monkeypatch.setattr(reports, "MAX_REPORT", 10)
    with pytest.raises(ProductError, match="more than 10 bytes"):
        read_report(report(tmp_path, {"type": "progress"}))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    (folder / "good").write_text("x")
    (folder / "empty").touch()
    (folder / "away").symlink_to(tmp_path / "secret")
    (folder / "dangling").symlink_to("nothing")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "inside").symlink_to("good")
    (folder / "absolute").symlink_to(folder / "good")
    (folder / "leaking").mkdir()
    (folder / "leaking" / "x").symlink_to(tmp_path / "secret")
    (folder / "piped").mkdir()
    (folder / "piped" / "deep").mkdir()
    os.mkfifo(folder / "piped" / "deep" / "pipe")
    (folder / "elsewhere").symlink_to("/etc")
    (folder / "dir").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "x").touch()
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("file", ["good", "inside", "full", "./good", "dir/../good"])
def test_good_products(out: Path, file: str) -> None:
    check_product(out, "c", file)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("nothing", "is missing"),
        ("dangling", "is missing"),
        ("empty", "is empty"),
        ("dir", "is empty"),
        ("pipe", "is a pipe, not a file"),
        ("absolute", "is a link to an absolute path"),
        ("leaking", "leaves its folder: leaking/x is a link to"),
        ("piped", "deep/pipe in it is a pipe"),
        ("elsewhere/hostname", "leaves its folder"),
        ("elsewhere/../good", "leaves its folder"),
        ("away", "leaves its folder"),
        ("../secret", "leaves its folder"),
        ("/etc/hostname", "leaves its folder"),
        ("full/../../secret", "leaves its folder"),
        ("a\0b", "not the name of a file"),
        ("loop", "not the name of a file"),
    ],
)
def test_bad_products(out: Path, file: str, said: str) -> None:
    with pytest.raises(ProductError, match=said):
        check_product(out, "c", file)


@pytest.mark.parametrize("what", ["out", "attempt", "attempts", "generation"])
def test_a_folder_that_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """By a link to a folder in which everything is as it should be."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    attempt = attempt_folder("c/w/t/g/g1", 0, 1)
    (attempt / "out").mkdir(parents=True)
    (attempt / "out" / "c").write_text("x")
    assert read_outcome(attempt, {"c": "c"}).products == {"c": "c"}
    replaced = {
        "out": attempt / "out",
        "attempt": attempt,
        "attempts": attempt.parent,
        "generation": attempt.parents[1],
    }[what]
    replaced.rename(tmp_path / "elsewhere")
    replaced.symlink_to(tmp_path / "elsewhere")
    for declared in ({"c": "c"}, {}):
        with pytest.raises(ProductError, match="was replaced by a link"):
            read_outcome(attempt, declared)


def test_a_job_replaces_its_folder(make_world: Callable[..., World], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "c.txt").write_text("not ours")
    for script in (
        f'rm -rf "$CALIB_OUT"; ln -s {elsewhere} "$CALIB_OUT"',
        f'd=$(dirname "$CALIB_OUT"); mv "$d" {tmp_path}/moved; ln -s {tmp_path}/moved "$d"; echo x > "$d/out/c.txt"',
        f"ln -s {elsewhere}/c.txt c.txt",
    ):
        world = make_world(script, products={"c": "c.txt"})
        standing = world.run(world.rows(tables.generation)[-1].max_tries + 1 if world.rows(tables.generation) else 0)
        assert standing.state == "failed"
        said = str(standing.reason)
        assert "was replaced by a link" in said or "leaves its folder" in said
        shutil.rmtree(tmp_path / "moved", ignore_errors=True)


def test_declared_and_reported_products_are_checked(out: Path) -> None:
    report(out.parent, {"type": "product", "name": "d", "file": "full/x"})
    with pytest.raises(ProductError, match="product d: full/x is empty"):
        read_outcome(out.parent, {"c": "good"})
    (out / "full" / "x").write_text("x")
    assert read_outcome(out.parent, {"c": "good"}).products == {"c": "good", "d": "full/x"}


def test_promotion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    source = attempt_folder("a/g1", 3, 2)
    source.mkdir(parents=True)
    (source / "stdout").write_text("x")
    assert log_files("a/g1", 3, 2, None)[0].read_text() == "x"
    for _ in range(2):
        promote("a/g1", {3: 2})
        assert (job_folder("a/g1", 3) / "stdout").read_text() == "x"
    assert log_files("a/g1", 3, 2, 2)[0].read_text() == "x"
    assert log_files("a/g1", 3, 1, 2)[0] == attempt_folder("a/g1", 3, 1) / "stdout"
    with pytest.raises(ProductError, match="job 4, attempt 1, are gone"):
        promote("a/g1", {4: 1, 3: 2})


@pytest.mark.parametrize("folder", ["..", "/etc", "a/../../b"])
def test_generation_folder_never_leaves_the_products(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    with pytest.raises(ProductError, match="leaves the products folder"):
        generation_folder(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ('{"type": "progress", "value": 0.5}', None),
        ('{"type": "progress", "value": 0.5}\n', 0.5),
        ('{"type": "progress", "value": 0.5}\n{"type": "value", "name": "a", "value": 1}\n{"type": "pro', 0.5),
        ('{"type": "progress", "value": 0.5}\nnot JSON\n[1]\n7\n{"type": "progress"}\n', 0.5),
        ('{"type": "progress", "value": 7}\n', 1.0),
        ('{"type": "progress", "value": -1}\n', 0.0),
        ('{"type": "progress", "value": NaN}\n', None),
        ('{"type": "progress", "value": 0.5}\n' + "x" * 30_000 + "\n", None),
        ("x" * 30_000 + '\n{"type": "progress", "value": 0.5}\n', 0.5),
    ],
)
def test_progress_of_what_is_being_written(tmp_path: Path, text: str, expected: float | None) -> None:
    file = tmp_path / "report.jsonl"
    file.write_text(text)
    assert read_latest(file).progress == expected


def test_progress_is_read_from_files_only(tmp_path: Path) -> None:
    assert read_latest(tmp_path / "none") == reports.Latest()
    assert read_latest(tmp_path) == reports.Latest()
    os.mkfifo(tmp_path / "pipe")
    assert read_latest(tmp_path / "pipe") == reports.Latest()
    (tmp_path / "file").write_text('{"type": "progress", "value": 0.5}\n')
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_latest(tmp_path / "link") == reports.Latest()


@pytest.mark.parametrize(("values", "state"), [(440_000, "failed"), (2_000, "done")])
def test_many_values_keep_nobody_from_writing(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, values: int, state: str
) -> None:
    """Eight jobs at once: nothing is read, and no more than one job's news are stored, while nobody else can write.

    What a transaction costs is its CPU time: how long it takes depends on what else the machine does.
    """
    line = '{\\"type\\": \\"value\\", \\"name\\": \\"v%d\\", \\"value\\": 1}\\n'
    line = line if values < 100_000 else '{\\"type\\":\\"value\\",\\"name\\":\\"%d\\",\\"value\\":1}\\n'
    count = f'seq 1 {values} | awk \'{{printf "{line}", $1}}\' > "$CALIB_REPORT"'
    world = make_world(count, 8)
    generation = world.begin().generation_id
    spent: list[float] = []
    stored: list[int] = []
    write = world.ledger.write
    number = select(func.count()).select_from(tables.value)

    @contextmanager
    def measured() -> Iterator[Connection]:
        began = time.thread_time()
        with write() as connection:
            before = connection.execute(number).scalar_one()
            yield connection
            stored.append(connection.execute(number).scalar_one() - before)
        spent.append(time.thread_time() - began)

    monkeypatch.setattr(world.ledger, "write", measured)
    assert world.finish(generation, 120).state == state
    assert max(spent) < 0.5, "to read one of the long reports takes longer"
    if state == "failed":
        assert "more than the 2,000 values that a job may report" in world.rows(tables.job)[0].reason
    else:
        assert len(world.rows(tables.value)) == 8 * values
        assert max(stored) == values, "those of one job"


def test_one_folder_as_many_products_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "out" / "plots"
    inner.mkdir(parents=True)
    (inner / "one.pdf").write_text("x")
    looked: list[str] = []
    check = check_file
    monkeypatch.setattr(reports, "check_file", lambda out, name, file: looked.append(name) or check(out, name, file))
    names = {f"p{number}": "plots" if number % 2 else "./plots/" for number in range(1000)}
    assert read_outcome(tmp_path, names).products == names
    assert looked == ["p0"]


def test_a_folder_that_cannot_be_looked_into_is_no_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "out" / "plots" / "private"
    inner.mkdir(parents=True)
    (inner.parent / "one.pdf").write_text("x")

    def scandir(path: str) -> Any:
        if Path(path).name == "private":
            raise PermissionError(13, "Permission denied", path)
        return _scandir(path)

    # As for a user who may not; these tests may be run by one who may do everything.
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="private"):
        read_outcome(tmp_path, {"p": "plots"})


_scandir = os.scandir


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[]", 'expected an object such as {"type": "value"'),
        ("7", "expected an object"),
        ('{"type": "value", "value": 1}', "the key 'name' is missing"),
        ('{"type": "product", "name": "p"}', "the key 'file' is missing"),
        ('{"type": "value", "name": "n", "value": -1.1e300}', "must be finite, and at most 1e+300"),
        ('{"type": "value", "name": "n", "value": 1, "error": 1.7e308}', "must be finite, and at most 1e+300"),
        ('{"type": "value", "name": "n", "value": 1' + "0" * 400 + "}", "must be finite"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_in_words(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ProductError) as caught:
        read_report(report(tmp_path, line))
    assert said in caught.value.message
    assert "Error(" not in caught.value.message
