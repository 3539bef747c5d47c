"""Locks of which one is enough, and locks that are not waited for for ever (rules 60, 61)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from airflow_calib_provider.domain.locks.deadlines import Limits
from airflow_calib_provider.domain.reasons import Cause, render
from airflow_calib_provider.errors import NotOpen
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.starting import require_open
from airflow_calib_provider.ledger.waiting import Look, look, look_and_record
from airflow_calib_provider.mirror.history import awaited_in
from airflow_calib_provider.spec.models import Lock, Workflow
from tests.ledger.making import T0, facts, fill, group_ids, put_runs, task, workflow

HOUR = timedelta(hours=1)


def limits(at_most: timedelta, since: str, then: str) -> dict[str, Any]:
    return dict(Limits(at_most, since, then).as_json())


def flow(*locks: Lock) -> Workflow:
    return workflow("scales", task("publish"), task("fit", fill()).model_copy(update={"locks": locks}))


def payload(tag: str = "Laser", then: str = "", since: str = "group_closed", at_most: timedelta = HOUR) -> Lock:
    said = limits(at_most, since, then) if then else {}
    return Lock(kind="payload", parameters={"tag": tag, "covers": "group"}, limits=said)


def delay(of: timedelta, after: str = "group_closed") -> Lock:
    return Lock(kind="delay", parameters={"for": of.total_seconds(), "after": after})


@pytest.fixture
def group(ledger: Ledger) -> Callable[..., int]:
    """A closed group of the runs 1 to 3, whose task ``fit`` has these locks."""

    def make(*locks: Lock, closed: timedelta = timedelta(), run_end: datetime | None = None) -> int:
        put_runs(ledger, flow(*locks), [facts(number, 1 + number // 4) for number in range(1, 5)])
        found = group_ids(ledger, "fill")["fill-r1"]
        times = {"closed_at": datetime.now(UTC) - closed, "end": run_end}
        with ledger.write() as connection:
            connection.execute(update(tables.run_group).where(tables.run_group.c.id == found).values(**times))
        return found

    return make


def publish(ledger: Ledger, first: int, last: int, tag: str = "Laser", state: str = "published") -> None:
    row = {
        **{
            "campaign": "prompt",
            "tag": tag,
            "first_run": first,
            "last_run": last,
            "revision": first + 1,
            "state": state,
        },
        **{"content_hash": f"{first:064d}", "file_name": "l", "size": 1, "workflow": "scales", "task": "publish"},
        **{"group_id": group_ids(ledger, "run")["run-r1"], "provenance": {}, "published_at": T0},
    }
    with ledger.write() as connection:
        connection.execute(insert(tables.payload).values(**row))


def view(ledger: Ledger, group_id: int) -> Look:
    with ledger.read() as connection:
        return look(connection, [(group_id, "fit")])[group_id, "fit"]


def test_one_of_several_is_enough(ledger: Ledger, group: Callable[..., int]) -> None:
    either = Lock(kind="any", alternatives=(payload("Laser"), payload("Led")))
    here = group(either, delay(HOUR), closed=2 * HOUR)
    seen = view(ledger, here)
    assert seen.state == "waiting"
    assert render(seen.reason).startswith("one of these is enough: 0 of 3 runs covered by payloads of Laser")
    assert Cause("the task", seen.reason or {}).release == "one of these"
    publish(ledger, 1, 3, "Led")
    assert view(ledger, here) == Look("open")


def test_one_of_several_with_another_that_is_shut(ledger: Ledger, group: Callable[..., int]) -> None:
    either = Lock(kind="any", alternatives=(payload("Laser"), delay(HOUR)))
    here = group(either, payload("Pedestals"), closed=2 * HOUR)
    seen = view(ledger, here)
    assert seen.reason is not None
    assert (seen.state, seen.reason["code"], seen.reason["tag"]) == ("waiting", "payload", "Pedestals")


def test_a_delay_counts_from_what_it_says(ledger: Ledger, group: Callable[..., int]) -> None:
    now = datetime.now(UTC)
    here = group(delay(3 * HOUR, "run_end"), closed=2 * HOUR, run_end=now - 2 * HOUR)
    text = render(view(ledger, here).reason)
    opens = now + HOUR
    assert text.startswith(f"delay 3h after run_end: opens at {opens:%Y-%m-%d %H:%M}")
    with ledger.write() as connection:
        connection.execute(update(tables.run_group).where(tables.run_group.c.id == here).values(end=now - 4 * HOUR))
    assert view(ledger, here) == Look("open")


def test_runs_without_an_end_are_told_at_once(ledger: Ledger, group: Callable[..., int]) -> None:
    seen = view(ledger, group(delay(HOUR, "run_end"), closed=2 * HOUR))
    assert seen.state == "never"
    assert "the runs of the group have no end; write `after: group_closed`" in render(seen.reason)


def test_a_deadline_is_told_and_then_near(ledger: Ledger, group: Callable[..., int]) -> None:
    here = group(payload(then="fail", at_most=10 * HOUR), closed=5 * HOUR)
    assert "(until " in render(view(ledger, here).reason)
    assert "near" not in render(view(ledger, here).reason)
    with ledger.write() as connection:
        values = {"closed_at": datetime.now(UTC) - 9 * HOUR}
        connection.execute(update(tables.run_group).where(tables.run_group.c.id == here).values(**values))
    seen = view(ledger, here)
    assert seen.reason is not None
    assert "UTC, which is near; then the task fails)" in render(seen.reason)
    assert [one.name for one in awaited_in(seen.reason)] == ["payload Laser"]


def test_a_deadline_that_is_near_is_an_event(ledger: Ledger, group: Callable[..., int]) -> None:
    here = group(payload(then="fail", at_most=10 * HOUR), closed=5 * HOUR)

    def told() -> list[bool]:
        event = tables.event
        with ledger.read() as connection:
            rows = connection.execute(select(event.c.data).where(event.c.entity == "group_task").order_by(event.c.id))
            reasons = [row[0].get("reason") or {} for row in rows]
        return [reason["deadline"]["near"] for reason in reasons if "deadline" in reason]

    for _ in range(3):
        look_and_record(ledger, [(here, "fit")])
    assert told() == [False]
    with ledger.write() as connection:
        values = {"closed_at": datetime.now(UTC) - 9 * HOUR}
        connection.execute(update(tables.run_group).where(tables.run_group.c.id == here).values(**values))
    for _ in range(3):
        look_and_record(ledger, [(here, "fit")])
    assert told() == [False, True]


def test_fail(ledger: Ledger, group: Callable[..., int]) -> None:
    here = group(payload(then="fail"), closed=2 * HOUR)
    looks = look_and_record(ledger, [(here, "fit")])
    assert looks[here, "fit"].state == "never"
    text = render(looks[here, "fit"].reason)
    assert text.startswith("the deadline has passed (")
    assert "1h from group closed" in text
    assert "missing 1 (no payload yet)" in text
    with ledger.read() as connection, pytest.raises(NotOpen, match="the deadline has passed"):
        require_open(connection, here, "fit")
    publish(ledger, 1, 3)
    assert view(ledger, here) == Look("open"), "what came late is there, and lets a person go on"


def test_go_on(ledger: Ledger, group: Callable[..., int]) -> None:
    here = group(payload(then="go_on"), closed=2 * HOUR)
    seen = view(ledger, here)
    assert seen.state == "open"
    (gone,) = seen.gone_on
    assert (gone["lock"], gone["what"], gone["then"], gone["tag"]) == ("payload", "Laser", "go_on", "Laser")
    assert gone["missing"][0] == [1, "no payload yet"]
    with ledger.read() as connection:
        assert require_open(connection, here, "fit") == (gone,)
    publish(ledger, 1, 3)
    assert view(ledger, here) == Look("open")


def test_the_last_good_payload(ledger: Ledger, group: Callable[..., int]) -> None:
    here = group(payload(then="last_good"), closed=2 * HOUR)
    seen = view(ledger, here)
    assert seen.state == "never"
    assert "and no payload of Laser is there from before the group" in render(seen.reason)
    publish(ledger, 2, 2)
    assert view(ledger, here).state == "never", "that of run 2 is none from before run 1"
    publish(ledger, 1, 1)
    seen = view(ledger, here)
    assert seen.state == "open"
    assert [one["then"] for one in seen.gone_on] == ["last_good"]


def test_a_candidate_is_no_good_payload(ledger: Ledger, group: Callable[..., int]) -> None:
    here = group(payload(then="last_good"), closed=2 * HOUR)
    publish(ledger, 0, 0, state="candidate")
    assert view(ledger, here).state == "never"


def test_from_the_end_of_the_runs(ledger: Ledger, group: Callable[..., int]) -> None:
    here = group(payload(then="go_on", since="run_end"), run_end=datetime.now(UTC) - 2 * HOUR)
    assert view(ledger, here).state == "open"


def test_from_when_the_wait_began(ledger: Ledger, group: Callable[..., int]) -> None:
    here = group(payload(then="go_on", since="waiting"), closed=2 * HOUR)
    assert view(ledger, here).state == "waiting"
    look_and_record(ledger, [(here, "fit")])
    seen = view(ledger, here)
    assert seen.reason is not None
    at = datetime.fromisoformat(seen.reason["deadline"]["at"])  # type: ignore[index]
    assert abs(at - datetime.now(UTC) - HOUR) < timedelta(minutes=1)
    with ledger.write() as connection:
        connection.execute(update(tables.lock).values(deadline=datetime.now(UTC) - timedelta(seconds=1)))
    assert view(ledger, here).state == "open"


def test_several_with_a_deadline_together(ledger: Ledger, group: Callable[..., int]) -> None:
    said = limits(HOUR, "group_closed", "go_on")
    either = Lock(kind="any", alternatives=(payload("Laser"), payload("Led")), limits=said)
    here = group(either, closed=timedelta(minutes=1))
    assert "(until " in render(view(ledger, here).reason)
    with ledger.write() as connection:
        values = {"closed_at": datetime.now(UTC) - 2 * HOUR}
        connection.execute(update(tables.run_group).where(tables.run_group.c.id == here).values(**values))
    seen = view(ledger, here)
    assert (seen.state, [one["lock"] for one in seen.gone_on]) == ("open", ["any"])


def test_a_group_that_forms_has_no_deadline(ledger: Ledger) -> None:
    put_runs(ledger, flow(payload(then="fail", since="run_end")), [facts(1, 1)])
    here = group_ids(ledger, "fill")["fill-r1"]
    seen = view(ledger, here)
    assert seen.state == "waiting"
    assert "deadline" not in (seen.reason or {})


def test_locks_follow_an_edit(ledger: Ledger, group: Callable[..., int]) -> None:
    """A task that has failed by its deadline goes on after an edit, which is what its release says."""
    from airflow_calib_provider.ledger.edited_specs import sync_tasks

    here = group(payload(then="fail"), closed=2 * HOUR)
    look_and_record(ledger, [(here, "fit")])
    with ledger.write() as connection:
        sync_tasks(connection, "prompt", flow(payload(then="go_on")), datetime.now(UTC))
    assert view(ledger, here).state == "open"


def test_an_edit_is_no_reason_to_wait_anew_for_the_same(ledger: Ledger, group: Callable[..., int]) -> None:
    """What counts from when the task began to wait goes on counting, with the deadline that the file says now."""
    from airflow_calib_provider.ledger.edited_specs import sync_tasks

    here = group(payload(then="fail", since="waiting"), closed=2 * HOUR)
    look_and_record(ledger, [(here, "fit")])

    def deadline() -> datetime | None:
        with ledger.read() as connection:
            query = select(tables.lock.c.deadline).where(tables.lock.c.group_id == here)
            return connection.execute(query).scalar_one()  # type: ignore[no-any-return]

    first = deadline()
    assert first is not None
    for tag, at_most, then, left in (
        ("Laser", HOUR, "go_on", first),
        ("Laser", 3 * HOUR, "fail", first + 2 * HOUR),
        ("Led", HOUR, "fail", None),
    ):
        edited = flow(payload(tag, then=then, since="waiting", at_most=at_most))
        with ledger.write() as connection:
            sync_tasks(connection, "prompt", edited, datetime.now(UTC))
        assert deadline() == left


def test_an_edit_leaves_an_amended_group_its_time(ledger: Ledger, group: Callable[..., int]) -> None:
    """Its deadline is not over before one that counts from the amendment."""
    from airflow_calib_provider.ledger.edited_specs import sync_tasks

    here = group(payload(then="fail", since="run_end"), run_end=datetime.now(UTC) - 9 * HOUR)
    assert view(ledger, here).state == "never"
    amended = datetime.now(UTC)
    with ledger.write() as connection:
        connection.execute(update(tables.lock).values(deadline=amended + HOUR))
        edited = flow(payload(then="go_on", since="run_end", at_most=3 * HOUR))
        sync_tasks(connection, "prompt", edited, datetime.now(UTC))
    seen = view(ledger, here)
    assert seen.reason is not None
    assert datetime.fromisoformat(seen.reason["deadline"]["at"]) == amended + 3 * HOUR  # type: ignore[index]


def test_a_lock_that_cannot_be_looked_at_is_told_alone(ledger: Ledger) -> None:
    """As rows may be that another version has written, or where a machine lacks a zone: all others go on."""
    broken: dict[str, dict[str, Any]] = {
        "delay": {"for": 1},
        "time": {"not_from": "08:00", "not_until": "18:00", "zone": "Mars/Base"},
        "file": {"path": "/data/x"},
    }
    put_runs(ledger, flow(delay(timedelta())), [facts(number, number) for number in range(1, 31)])
    groups = [group_ids(ledger, "fill")[f"fill-r{number}"] for number in range(1, 30)]
    locks = tables.lock
    with ledger.write() as connection:
        for here, (kind, parameters) in zip(groups[5:], broken.items(), strict=False):
            values = {"kind": kind, "parameters": parameters}
            connection.execute(update(locks).where(locks.c.group_id == here).values(**values))
    looks = look_and_record(ledger, [(here, "fit") for here in groups])
    shut = {groups.index(key[0]): render(one.reason) for key, one in looks.items() if one.state != "open"}
    assert shut == {
        5: "the lock 'delay' cannot be looked at: KeyError: 'after'",
        6: "the lock 'time' cannot be looked at: ZoneInfoNotFoundError: 'No time zone found with key Mars/Base'",
        7: "the lock 'file' cannot be looked at: KeyError: 'stable_for'",
    }
    assert asker_of(ledger, groups) == 0


def test_what_is_silent_is_not_asked_of_each_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each look takes long before it raises, not so many are made as there are locks."""
    from airflow_calib_provider.ledger.locks import apart

    asked: list[int] = []

    def look(locks: Sequence[Any]) -> list[Any]:
        asked.append(len(locks))
        raise TimeoutError

    locks: list[Any] = list(range(8))
    assert [fault.lock for fault in apart.one_by_one(look, locks)[1]] == locks
    assert len(asked) == 15
    monkeypatch.setattr(apart, "_PATIENCE", 0.0)
    asked.clear()
    assert [fault.lock for fault in apart.one_by_one(look, locks)[1]] == locks
    assert asked == [8]


def test_a_deadline_that_cannot_be_read_is_told_alone(ledger: Ledger, group: Callable[..., int]) -> None:
    here = group(payload(then="fail"), closed=2 * HOUR)
    with ledger.write() as connection:
        connection.execute(update(tables.lock).values(limits={"at_most": 3600, "since": "run_end"}))
    assert render(view(ledger, here).reason) == "the lock 'payload' cannot be looked at: KeyError: 'from'"


def asker_of(ledger: Ledger, groups: list[int]) -> int:
    """How many questions are asked for these groups."""
    from airflow_calib_provider.ledger.asking import Asker

    return Asker(ledger).start([(here, "fit") for here in groups])
