"""What `calib spec check` says of a file of boundaries, and of `failed_runs` where no run can fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_calib_provider.spec import boundaries_file
from tests.cli.conftest import Calib
from tests.cli.world import World

FILL = "{fill: {at_least: {lumi: 10}, short: drop}}"


@pytest.fixture
def boundaries(world: World) -> Path:
    """The file that demo.scale and demo.deliver follow."""
    world.runs()
    use(world, FILL, "{boundaries: {file: periods.csv}}")
    return world.specs / "periods.csv"


def use(world: World, before: str, after: str) -> None:
    spec = world.specs / "demo.yaml"
    assert before in spec.read_text()
    spec.write_text(spec.read_text().replace(before, after))


@pytest.mark.parametrize(
    "content",
    [
        b"first_run,name\n1,A\n355100,B\n",
        b"\xef\xbb\xbffirst_run\n1\n355100\n",
        b"first_run\r\n1\r\n355100\r\n",
        b"first_run\r1\r355100\r",
        b"name, first_run \n\n,1\n\nB, 355100\n\n",
        b'"first_run"\n"1"\n"355100"\n',
        b'name,first_run\n"two\nlines",1\nB,355100\n',
    ],
)
def test_it_is_as_it_should_be(boundaries: Path, calib: Calib, content: bytes) -> None:
    boundaries.write_bytes(content)
    done = calib("spec", "check")
    assert (done.exit_code, done.stderr) == (0, "")
    runs, _ = boundaries_file._read(boundaries, "first_run")
    assert runs == [1, 355100]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ":0:0: it is empty"),
        (b"\n\n", ":0:0: it is empty"),
        (b"first_run\n", ":0:0: it has no boundaries"),
        (b"first_run\n1\n7\n5\n", ":4:0: 5 comes after 7; expected each to be larger than the one before"),
        (b"first_run\n1\n7\n7\n", ":4:0: 7 comes after 7"),
        (b"first_run\r\n1\r\n7\r\n5\r\n", ":4:0: 5 comes after 7"),
        (b"first_run\nseven\n", ":2:0: 'seven' is no run number; expected a whole number from 1 to 9007199254740992"),
        (b"first_run\n1\n7.0\n", ":3:0: '7.0' is no run number"),
        (b"first_run\n1\n7e3\n", ":3:0: '7e3' is no run number"),
        (b"first_run\n1\nnan\n", ":3:0: 'nan' is no run number"),
        (b"first_run\n0\n", ":2:0: '0' is no run number"),
        (b"first_run\n-3\n", ":2:0: '-3' is no run number"),
        (b"first_run\n9007199254740993\n", ":2:0: '9007199254740993' is no run number"),
        (b"first_run\n" + b"9" * 400 + b"\n", ":2:0: '99999"),
        ("first_run\n٣\n".encode(), ":2:0: '٣' is no run number"),
        (b"name,first_run\nA\n", ":2:0: '' is no run number"),
        (b"first run\n1\n", ":1:0: it has no column 'first_run'; expected one of 'first run', named under 'column'"),
        (b"first_run,first_run\n1,2\n", ":1:0: it has more than one column 'first_run'"),
        (b"first_run\n1\n\xff\n", ":3:0: byte 0xff is not UTF-8"),
        ("first_run\n1\n".encode("utf-16"), ":1:0: byte 0xff is not UTF-8"),
        (b"first_run\n1\n\x00\n", ":3:0: '\\x00' is no run number"),
        (b'first_run\n1\n"7\n', ":3:0: it is no CSV file: unexpected end of data"),
        (b"first_run\n1\n3551", ":3:0: the last line does not end: the file is truncated, or still being written"),
        (b"first_run\n" + b"\n" * boundaries_file.LARGEST, ":0:0: it has more than 5,000,000 bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_it(boundaries: Path, calib: Calib, content: bytes, said: str) -> None:
    boundaries.write_bytes(content)
    done = calib("spec", "check")
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 2
    assert f"workflow_specs/periods.csv{said}" in line
    assert "Traceback" not in line


def test_all_of_it_is_told_at_once(boundaries: Path, calib: Calib) -> None:
    boundaries.write_text("first_run\n1\nx\n5\n3\n7\n\n6\n")
    lines = calib("spec", "check").stderr.splitlines()
    assert [line.split("periods.csv:")[1].split(";")[0] for line in lines] == [
        "3:0: 'x' is no run number", "5:0: 3 comes after 5", "8:0: 6 comes after 7",
    ]  # fmt: skip
    boundaries.write_text("first_run\n" + "x\n" * 100)
    assert len(calib("spec", "check").stderr.splitlines()) == boundaries_file.MOST


def test_what_cannot_be_read(boundaries: Path, calib: Calib) -> None:
    """Nobody waits for a pipe; a name with a NUL byte is the name of no file."""

    def told() -> str:
        done = calib("spec", "check")
        assert done.exit_code == 2
        return done.stderr

    assert "periods.csv:0:0: the boundaries cannot be read: No such file or directory; is the path right?" in told()
    boundaries.mkdir()
    assert "the boundaries cannot be read: Is a directory" in told()
    boundaries.rmdir()
    os.mkfifo(boundaries)
    assert "the boundaries cannot be read: it is a pipe, a socket or a device" in told()


def test_it_is_read_with_a_file_alone_too(world: World, boundaries: Path, calib: Calib) -> None:
    boundaries.write_text("first_run\n7\n5\n")
    assert "periods.csv:3:0: 5 comes after 7" in calib("spec", "check", str(world.specs / "demo.yaml")).stderr


def test_failed_runs_where_none_can_fail(world: World, calib: Calib) -> None:
    world.runs()
    use(world, FILL, "{fill: {failed_runs: exclude}}")
    assert calib("spec", "check").stderr == ""
    use(world, "    needs: [skim]\n", "")
    (line,) = calib("spec", "check").stderr.splitlines()
    assert "demo.yaml:10:36: failed_runs has no effect: no task of the grouping 'fill' needs one of another" in line
    assert calib("spec", "check", "--strict").exit_code == 2
    # What another workflow makes may fail for a run.
    use(world, "jobs: {command: [echo, hello]}", "needs: [other.check]\n    jobs: {command: [echo, hello]}")
    assert calib("spec", "check").stderr == ""
