"""What is made once is made once, and never half."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cache import UnavailableError, kept, kept_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CALIB_CI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _slowly(folder: Path) -> None:
    (folder / "first").touch()
    with (folder.parent / "made").open("a") as made:
        made.write(f"{os.getpid()}\n")
    time.sleep(0.3)
    (folder / "last").touch()


def _fail(folder: Path) -> None:
    with (folder.parent / "made").open("a") as made:
        made.write(f"{os.getpid()}\n")
    time.sleep(0.5)
    raise UnavailableError("no network")


def _make(make: Any, out: Any) -> None:
    try:
        out.put(sorted(path.name for path in kept("thing", "1", make).iterdir()))
    except UnavailableError as error:
        out.put(str(error))


def _at_once(make: Any) -> list[Any]:
    context = multiprocessing.get_context("fork")
    out: Any = context.Queue()
    processes = [context.Process(target=_make, args=(make, out)) for _ in range(4)]
    for process in processes:
        process.start()
    answers = [out.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    return answers


def test_one_makes_it_and_the_others_wait(cache: Path) -> None:
    assert _at_once(_slowly) == [["first", "last"]] * 4
    assert len((cache / "made").read_text().split()) == 1


def test_a_failure_is_told_to_those_who_waited(cache: Path) -> None:
    assert _at_once(_fail) == ["no network"] * 4
    assert len((cache / "made").read_text().split()) < 4
    assert not kept_folder("thing", "1").exists()
    assert kept("thing", "1", _slowly).is_dir()  # the next try is a new one


def test_half_is_never_taken_for_whole(cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=kept, args=("thing", "1", lambda folder: (_slowly(folder), time.sleep(60))))
    process.start()
    while not (cache / "made").exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not kept_folder("thing", "1").exists()
    assert sorted(path.name for path in kept("thing", "1", _slowly).iterdir()) == ["first", "last"]
    assert [path.name for path in cache.glob("thing-*")] == [kept_folder("thing", "1").name]


def test_another_recipe_is_another_folder() -> None:
    assert kept("thing", "1", _slowly) != kept("thing", "2", _slowly)
