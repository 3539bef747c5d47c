"""What a further edition waits for has its time, whatever the time of the runs was (rules 51, 61)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.locks.deadlines import GO_ON, GROUP_CLOSED, RUN_END, WAITING, Limits
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.waiting import look_and_record
from tests.injection.test_amending import Amending, world  # noqa: F401


@pytest.mark.parametrize("since", [RUN_END, GROUP_CLOSED, WAITING])
def test_no_deadline_of_the_next_edition_is_over_when_it_begins_to_wait(world: Amending, since: str) -> None:  # noqa: F811
    """What was added was not waited for before."""
    world.make("fill-r1", "scale", Iov(1, 3))
    limits = Limits(timedelta(hours=1), since, GO_ON).as_json()
    key = (world.id("fill-r1"), "scale")
    long_ago = datetime.now(UTC) - timedelta(days=1)
    lock = {"group_id": key[0], "task": key[1], "position": 0, "kind": "payload", "parameters": {"tag": "Never"}}
    with world.ledger.write() as connection:
        connection.execute(insert(tables.lock).values(**lock, limits=limits, deadline=long_ago))
    assert look_and_record(world.ledger, [key])[key].state == "open", "it goes on without"
    world.amend("fill-r1", add=[2])
    for _ in range(2):  # the first look lets count what counts from the wait on
        seen = look_and_record(world.ledger, [key])[key]
    assert seen.state == "waiting"
    at = datetime.fromisoformat(seen.reason["deadline"]["at"])  # type: ignore[index]
    assert abs(at - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=2)
