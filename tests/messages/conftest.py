from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.messages.base import Message
from airflow_calib_provider.outside.connections import OutsideConnection
from tests.ledger.making import new_ledger
from tests.messages.chat import FakeMattermost, mattermost
from tests.mirror.conftest import let_the_disk_rest

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    made = new_ledger(tmp_path)
    let_the_disk_rest(made)
    yield made
    made.close()


@pytest.fixture
def chat() -> Iterator[FakeMattermost]:
    with mattermost() as server:
        yield server


def webhook(address: str, **extra: object) -> OutsideConnection:
    """The connection to a webhook."""
    more = {"plain_http": True} if address.startswith("http:") else {}
    return OutsideConnection("chat", "calib_mattermost", password=address, extra={**more, **extra})


def message(number: int = 1, **more: object) -> Message:
    said = {"title": f"Failed: zee.scale run-r{number}", "where": "zee · scale", "why": "2 of 3 jobs failed"}
    values = {"key": f"event-{number}", "topic": "failed", "event": number, "at": AT, **said, **more}
    return Message(**values)  # type: ignore[arg-type]
