"""A store that another package brings is written as every one is, whatever befalls its calls."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.errors import StoreUnavailable, StoreUnknown
from airflow_calib_provider.kinds import CONDITIONS_STORES
from airflow_calib_provider.outside.connections import OutsideConnection, look_up_with
from tests.outside.conformance import ConditionsStoreConformance, Interval, Put
from tests.outside.writing import WritableStoreConformance


class _Faults:
    """Of the calls that change something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.armed: tuple[int, str, int] | None = None
        kind = CONDITIONS_STORES.member("shelf")
        for name in ("put", "change"):
            monkeypatch.setattr(kind, name, self._wrapped(getattr(kind, name)))

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            self.count += 1
            what, pid = self.armed[1:] if self.armed is not None and self.armed[0] == self.count else ("", 0)
            if what == "kill_before":
                os.kill(pid, signal.SIGKILL)
            if what == "before":
                raise StoreUnavailable("the shelf is away")
            found = call(*arguments)
            if what == "kill_after":
                os.kill(pid, signal.SIGKILL)
            if what == "after":
                raise StoreUnknown("the shelf has not answered")
            return found

        return run

    def arm(self, number: int, what: str, pid: int) -> None:
        self.armed = (self.count + number, what, pid)

    def calls(self) -> int:
        return self.count

    def disarm(self) -> None:
        self.armed = None


class TestShelf(ConditionsStoreConformance, WritableStoreConformance):
    @pytest.fixture(autouse=True)
    def board(self, tmp_path: Path) -> Iterator[Path]:
        (tmp_path / "board").mkdir()
        look_up_with({"wall": OutsideConnection("wall", "generic", host=str(tmp_path))}.get)
        yield tmp_path / "board"
        look_up_with(lambda name: None)

    @pytest.fixture
    def name(self) -> str:
        return "shelf"

    @pytest.fixture
    def place(self) -> str:
        return "wall/board"

    @pytest.fixture
    def no_place(self) -> str:
        return "/board"

    @pytest.fixture
    def put(self, board: Path) -> Put:
        def write(tag: str, intervals: Iterable[Interval]) -> None:
            (board / f"{tag}.json").write_text(json.dumps([[*one, ""] for one in intervals]))

        return write

    @pytest.fixture
    def breaks(self, board: Path) -> Callable[[], None]:
        return lambda: shutil.rmtree(board)

    @pytest.fixture
    def ready_tags(self) -> Callable[[], tuple[str, str]]:
        numbers = iter(range(1000))
        return lambda: (f"Scale{(number := next(numbers))}", f"Errors{number}")

    @pytest.fixture
    def faults(self, monkeypatch: pytest.MonkeyPatch) -> _Faults:
        return _Faults(monkeypatch)


def test_a_spec_names_it(tmp_path):
    from airflow_calib_provider.spec.store_keys import StoreKeys

    keys = StoreKeys.unstated(store="shelf", connection="wall", place="board")
    target = keys.target()
    assert target is not None
    assert target.store == "shelf:wall/board"
