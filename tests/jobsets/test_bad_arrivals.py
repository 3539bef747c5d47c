"""Bundles and results that no honest worker makes: each costs its attempt, and nothing waits for it for ever."""

from __future__ import annotations

import io
import os
import random
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_calib_provider.domain.iteration.reserving import Beat, HandedOver, Order, Worker, lost
from airflow_calib_provider.errors import ProductError
from airflow_calib_provider.jobsets.arrivals import unpack
from airflow_calib_provider.jobsets.mailbox import Mailbox

NAME = HandedOver(Order(1, 0, 1), Worker(0, 1))
FILE = f"{NAME}.1-2.tar"


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **pax: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.pax_headers = kind, target, dict(pax)
    return made


def bundle(outputs: Path, *members: tarfile.TarInfo) -> dict[str, object]:
    outputs.mkdir()
    with tarfile.open(outputs / FILE, "w") as made:
        for one in members:
            one.size = 1 if one.isreg() else 0
            made.addfile(one, io.BytesIO(b"x"))
    return {"files": FILE, "bytes": (outputs / FILE).stat().st_size}


@pytest.mark.parametrize(
    "members",
    [
        [],
        [member("a" * 300)],
        [member("d", path="out/a\0b")],
        [member("a", mtime="inf")],
        [member("a", mtime="1e300")],
        [member("a", tarfile.DIRTYPE), member("a")],
        [member("a"), member("a/b")],
        [member("inputs.txt", tarfile.DIRTYPE)],
        [member("out")],
        [member("a", tarfile.LNKTYPE, "absent")],
        [member("a", tarfile.SYMTYPE, "a"), member("a/b")],
        [member("a", tarfile.LNKTYPE, "a")],
        [member("/dev/full", tarfile.CHRTYPE)],
    ],
    ids=[
        "nothing in it",
        "a long name",
        "a NUL",
        "a time that is none",
        "a time that never comes",
        "a folder, then a file",
        "a file, then in it",
        "a folder where a file is",
        "a file where a folder is",
        "a link to nothing",
        "a link to itself",
        "a hard link to itself",
        "a device",
    ],
)
def test_a_bundle_that_cannot_be_unpacked(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    place = tmp_path / "attempts" / "job"
    (place / "out").mkdir(parents=True)
    (place / "out" / "h.txt").touch()
    (place / "inputs.txt").touch()
    with pytest.raises(ProductError):
        unpack(tmp_path / "outputs", NAME, bundle(tmp_path / "outputs", *members), place)
    assert [one.name for one in place.parent.iterdir()] == ["job"]
    assert (place / "inputs.txt").is_file()


def test_a_bundle_that_is_cut(tmp_path: Path) -> None:
    """At any byte: all of it is there, or nothing is."""
    outputs = tmp_path / "outputs"
    bundle(outputs, member("out", tarfile.DIRTYPE), member("out/h.txt", comment="x" * 600), member("stdout"))
    whole = (outputs / FILE).read_bytes()
    for size in (*range(0, 6000, 250), len(whole)):
        (outputs / FILE).write_bytes(whole[:size])
        place = tmp_path / f"{size}" / "job"
        try:
            unpack(outputs, NAME, {"files": FILE, "bytes": size}, place)
        except ProductError:
            assert not (place / "stdout").exists()
        else:
            assert (place / "out" / "h.txt").read_bytes() == b"x", size
            assert (place / "stdout").exists(), size


def test_a_bundle_with_any_damage(tmp_path: Path) -> None:
    """Bytes changed at random: it is unpacked, or refused, and nothing lies elsewhere."""
    outputs = tmp_path / "outputs"
    parts = [member("out", tarfile.DIRTYPE), member("out/h.txt", comment="x", size="1"), member("stdout")]
    bundle(outputs, *parts, member("l", tarfile.LNKTYPE, "stdout"), member("s", tarfile.SYMTYPE, "out/h.txt"))
    whole, dice = (outputs / FILE).read_bytes(), random.Random(20261130)
    used = [n for n, byte in enumerate(whole) if byte]
    for turn in range(400):
        damaged = bytearray(whole)
        for place in dice.sample(used, dice.choice((1, 2, 8))):
            damaged[place] = dice.choice((0, 32, 46, 47, 49, 57, 128, 255))
        _sum_up(damaged)
        (outputs / FILE).write_bytes(damaged)
        with suppress(ProductError):
            unpack(outputs, NAME, {"files": FILE, "bytes": len(whole)}, tmp_path / "attempts" / f"{turn}")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["attempts", "outputs"]


def _sum_up(damaged: bytearray) -> None:
    """Right checksums of all headers, so that what is damaged is read."""
    for start in range(0, len(damaged) - 512, 512):
        if damaged[start + 257 : start + 262] == b"ustar":
            damaged[start + 148 : start + 156] = b" " * 8
            damaged[start + 148 : start + 156] = b"%06o\0 " % sum(damaged[start : start + 512])


@pytest.mark.parametrize("what", ["pipe", "link", "folder"])
def test_a_bundle_that_is_no_file(tmp_path: Path, what: str) -> None:
    outputs = tmp_path / "outputs"
    bundle(outputs, member("stdout"))
    (outputs / FILE).rename(tmp_path / "elsewhere.tar")
    if what == "pipe":
        os.mkfifo(outputs / FILE)
    elif what == "link":
        (outputs / FILE).symlink_to(tmp_path / "elsewhere.tar")
    else:
        (outputs / FILE).mkdir()
    size = (outputs / FILE).lstat().st_size
    with pytest.raises(ProductError, match="no file"):
        unpack(outputs, NAME, {"files": FILE, "bytes": size}, tmp_path / "attempts" / "job")


@pytest.mark.parametrize("text", ["null", " null\n"])
def test_a_result_of_nothing_is_a_result(tmp_path: Path, text: str) -> None:
    """It has come, and is wrong: it is not waited for any more."""
    mailbox = Mailbox(tmp_path / "mailbox")
    mailbox.prepare()
    (mailbox.folder / "results" / str(NAME)).write_text(text)
    assert mailbox.result(NAME) is not None


@pytest.mark.parametrize("off", [-86_400, 0, 86_400])
def test_a_clock_that_is_a_day_off(tmp_path: Path, off: int) -> None:
    """Where files have the time of the machine that wrote them: who writes is alive, and who does not is not."""
    mailbox = Mailbox(tmp_path / "mailbox")
    mailbox.prepare()

    def beat(turn: int) -> None:
        (mailbox.folder / "beats" / "0").write_text("1 - idle host\n")
        os.utime(mailbox.folder / "beats" / "0", (0, time.time() + off + turn))

    def age() -> float:
        return mailbox.beats([0])[0].age

    beat(0)
    assert age() < 5 or off < 0
    time.sleep(0.3)
    beat(1)
    assert age() < 0.29, "it has changed since"
    time.sleep(0.3)
    assert 0.29 < age() < 5, "it has not"


@pytest.mark.parametrize("running", [-86_400.0, 400.0, 86_400.0])
def test_a_clock_of_a_watcher_that_is_a_day_off(running: float) -> None:
    """Whoever has stored when the worker began: it is alive or lost by its signs of life."""
    worker = Worker(0, 1)
    for age, found in ((10.0, []), (301.0, [worker])):
        assert lost({0: Beat(worker, "-", "idle", "host", age)}, {worker: running}, 300) == found
