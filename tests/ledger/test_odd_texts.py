"""Texts that come from jobs, machines and batch systems may hold anything; no database may refuse them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.transitions import Subject, append_events
from tests.ledger.making import new_ledger

ODD = "half a line\x00\x00 \ud800 \udcff ü"


@pytest.mark.usefixtures("database")
def test_a_text_that_is_none_is_stored_all_the_same(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    aside = tables.mirror_set_aside
    with ledger.write() as connection:
        row = {"target": "t", "event_id": 1, "measurement": "m", "at": datetime.now(UTC)}
        connection.execute(insert(aside).values(**row, line=ODD, reason=ODD))
        append_events(connection, [{"entity": "job", "subject": Subject(), "data": {"reason": ODD}}])
    with ledger.read() as connection:
        stored = connection.execute(select(aside.c.reason)).scalar_one()
        said = connection.execute(select(tables.event.c.data)).scalar_one()["reason"]
    assert stored == "half a line   ? ? ü"
    assert said == ODD
    ledger.close()
