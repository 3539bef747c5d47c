from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.ledger.engine import Ledger
from tests.ledger.making import new_ledger


@pytest.fixture
def ledger(tmp_path: Path, database: str) -> Iterator[Ledger]:
    """A ledger with nothing in it, on each kind of database."""
    made = new_ledger(tmp_path)
    yield made
    made.close()
