from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toys.installed import toys


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, toys(patch):
        yield


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "home"))


@pytest.fixture
def database() -> str:
    return "sqlite"
