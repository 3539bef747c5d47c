from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.ledger.engine import Ledger
from tests.ledger.making import new_ledger
from tests.outside.nopayloaddb import nopayloaddb
from tests.payloads.outward import Outward


@pytest.fixture
def ledger(tmp_path: Path, database: str) -> Iterator[Ledger]:
    """A ledger with nothing in it, on each kind of database."""
    made = new_ledger(tmp_path)
    yield made
    made.close()


@pytest.fixture
def world(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outward]:
    """A workflow whose set of tags goes to two outside stores."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    with nopayloaddb() as server:
        yield Outward(tmp_path, ledger, server)
