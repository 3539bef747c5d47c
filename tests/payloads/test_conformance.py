"""The payload stores of this package do what every payload store must."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.payloads.conformance import PayloadStoreConformance


class TestEmbedded(PayloadStoreConformance):
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("CALIB_HOME", str(tmp_path / "home"))
        return tmp_path / "home"

    @pytest.fixture
    def name(self) -> str:
        return "embedded"

    @pytest.fixture
    def breaks(self, home: Path) -> Callable[[], None]:
        def stand_in_the_way() -> None:
            home.mkdir(exist_ok=True)
            (home / "payloads").write_text("a file where the folder should be")

        return stand_in_the_way
