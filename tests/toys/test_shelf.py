"""A store that another package brings is written as every one is, whatever befalls its calls."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.errors import StoreUnavailable, StoreUnknown
from airflow_calib_provider.kinds import CONDITIONS_STORES
from airflow_calib_provider.outside.connections import OutsideConnection, look_up_with
from tests.outside.conformance import ConditionsStoreConformance, Interval, Put
from tests.outside.faults import CallFaults
from tests.outside.writing import WritableStoreConformance


class _Faults(CallFaults):
    """Of the calls that change something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(StoreUnavailable("the shelf is away"), StoreUnknown("the shelf has not answered"))
        kind = CONDITIONS_STORES.member("shelf")
        for name in ("put", "change"):
            monkeypatch.setattr(kind, name, self.wrapped(getattr(kind, name)))


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
