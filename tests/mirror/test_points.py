"""Points and lines: what an event says, in a form that every InfluxDB takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_calib_provider.domain.locks.deadlines import GO_ON, GROUP_CLOSED, Limits
from airflow_calib_provider.ledger import steering, tables, waiting
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import outbox
from airflow_calib_provider.mirror.history import GroupHistory, TaskHistory, _deadlines, _waits
from airflow_calib_provider.mirror.lines import line_of
from airflow_calib_provider.mirror.points import PointMaker, time_of
from airflow_calib_provider.mirror.schema import MEASUREMENTS, Point, clean_tag, clean_text, point
from airflow_calib_provider.spec.models import Lock
from tests.ledger.making import done, facts, fill, group_ids, put_runs, set_state, task, workflow


def named(made: Point) -> dict[str, Any]:
    """A point as a mapping, with the names of its tags and fields."""
    about = MEASUREMENTS[made.measurement]
    fields = zip(about.fields, made.fields, strict=True)
    return {
        **dict(zip(about.tags, made.tags, strict=True)),
        **{name: value for name, value in fields if value is not None},
    }


def all_points(ledger: Ledger, page: int = 1000) -> list[Point]:
    maker, made, cursor = PointMaker(), [], 0
    while True:
        with ledger.read() as connection:
            rows = outbox.after(connection, cursor, page)
            maker.prepare(connection, rows)
        if not rows:
            return made
        made += [item for row in rows for item in maker.points(row)]
        cursor = rows[-1].id


FLOW = workflow("ecal", task("skim"), task("fit", fill(), needs=["ecal.skim@run"]))


def test_states_of_runs(ledger: Ledger) -> None:
    put_runs(ledger, FLOW, [facts(4), facts(5)])
    groups = group_ids(ledger, "run")
    done(ledger, groups["run-r4"], "skim")
    found = [named(item) for item in all_points(ledger) if item.measurement == "run_task"]
    states = [(item["run"], item["state"], item["state_code"], item["generation"]) for item in found]
    assert [item for item in states if item[0] == "4"][-2:] == [("4", "processing", 2, 1), ("4", "done", 3, 1)]
    assert [(item["run"], item["state"]) for item in found if item["task"] == "fit"] == [("4", "new"), ("5", "new")]
    assert [item["group"] for item in found if item["task"] == "fit"] == ["fill-r4", "fill-r4"]


def test_a_run_that_joins_later_gets_the_states_that_its_tasks_have(ledger: Ledger) -> None:
    put_runs(ledger, FLOW, [facts(4)])
    set_state(ledger, group_ids(ledger, "fill")["fill-r4"], "fit", "waiting")
    put_runs(ledger, FLOW, [facts(5)])
    found = [named(item) for item in all_points(ledger) if item.measurement == "run_task"]
    last = {(item["run"], item["task"]): item["state"] for item in found}
    assert last["5", "fit"] == last["4", "fit"] == "waiting"


def test_a_campaign_says_what_was_changed_of_it_at_once(ledger: Ledger) -> None:
    put_runs(ledger, FLOW, [facts(4)])
    now = datetime.now(UTC)
    steering.alter(ledger, "prompt", steering.Changes(max_groups=3, priority=7))
    steering.pause(ledger, "prompt", now)
    steering.alter(ledger, "prompt", steering.Changes(max_groups=0))
    found = [named(item) for item in all_points(ledger) if item.measurement == "campaign"]
    said = [{key: value for key, value in item.items() if key not in ("campaign", "event")} for item in found]
    assert said == [
        {"state": "open"},
        {"state": "open", "priority": 7, "max_groups": 3},
        {"state": "paused"},
        {"state": "paused", "max_groups": 0},
    ]


def test_waits_begin_and_end(ledger: Ledger) -> None:
    put_runs(ledger, FLOW, [facts(1), facts(4)])
    runs, fills = group_ids(ledger, "run"), group_ids(ledger, "fill")
    waits = [(fills["fill-r1"], "fit"), (fills["fill-r1"], waiting.FORMING)]
    waiting.look_and_record(ledger, waits)
    waiting.look_and_record(ledger, waits)
    done(ledger, runs["run-r1"], "skim")
    done(ledger, runs["run-r4"], "skim")
    waiting.look_and_record(ledger, [(fills["fill-r1"], "fit")])
    found = [named(item) for item in all_points(ledger) if item.measurement == "lock"]
    of_skim = [item for item in found if item["lock"] == "task ecal.skim"]
    assert [(item["state"], item["task"], item["group"]) for item in of_skim] == [
        ("waiting", "fit", "fill-r1"),
        ("open", "fit", "fill-r1"),
    ]
    assert of_skim[0]["waited"] == 0.0
    assert of_skim[1]["waited"] > 0.0
    assert of_skim[0]["done"] == 0
    assert of_skim[0]["total"] == 2


@pytest.mark.parametrize("page", [1, 3, 7])
def test_points_do_not_depend_on_how_events_are_read(ledger: Ledger, page: int) -> None:
    put_runs(ledger, FLOW, [facts(n, n // 4) for n in range(1, 10)])
    waiting.look_and_record(ledger, [(number, "fit") for number in group_ids(ledger, "fill").values()])
    for number in list(group_ids(ledger, "run").values())[:4]:
        done(ledger, number, "skim")
    assert all_points(ledger, page) == all_points(ledger)
    # From any event on, as a carrier does that takes over.
    with ledger.read() as connection:
        rows = outbox.after(connection, 0, 1000)
        for start in range(0, len(rows), 11):
            maker = PointMaker()
            maker.prepare(connection, rows[start:])
            made = [item for row in rows[start:] for item in maker.points(row)]
            assert made == all_points(ledger)[-len(made) :] if made else True


def test_no_two_points_are_in_the_same_place(ledger: Ledger) -> None:
    put_runs(ledger, FLOW, [facts(n, n // 4) for n in range(1, 20)])
    for number in group_ids(ledger, "run").values():
        done(ledger, number, "skim")
    found = [(item.measurement, item.tags, item.time) for item in all_points(ledger)]
    assert len(found) == len(set(found))


def test_times_of_events_of_one_millisecond_differ() -> None:
    times = {time_of(SimpleNamespace(at=1_700_000_000_123_456_789, id=number)) for number in range(5, 2005)}
    assert len(times) == 2000
    assert min(times) // 1_000_000 == max(times) // 1_000_000 == 1_700_000_000_123


def test_values_have_the_time_of_the_data_and_the_last_one_counts() -> None:
    row = SimpleNamespace(
        id=9, at=5, entity="job", campaign="c", workflow="w", task="t", group_name="run-r3", run=None, generation=2,
        job_index=1, attempt=1, from_state="running", to_state="succeeded",
        data={"values": {"a": [1.5, None], "b": [2.0, 0.5]}},
    )  # fmt: skip
    maker = PointMaker()
    from airflow_calib_provider.mirror.points import GroupFacts

    maker._facts["c", "w", "run-r3"] = GroupFacts("run", 3, datetime(2026, 1, 1, 0, 0, 7, 999, tzinfo=UTC))
    job, a, b = maker.points(row)
    assert job.measurement == "job"
    assert a.time == b.time == int(datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC).timestamp()) * 10**9 + 3_000_001
    assert named(a) == {
        "campaign": "c", "workflow": "w", "task": "t", "name": "a", "value": 1.5, "error": 0.0, "group": "run-r3",
        "first_run": 3, "last_run": 3, "generation": 2, "job": 1, "recorded_at": 5, "final": True, "event": 9,
    }  # fmt: skip
    assert named(b)["error"] == 0.5


def test_an_edit_of_the_spec_ends_no_wait() -> None:
    def event(number: int, before: str | None, after: str, **data: Any) -> Any:
        return SimpleNamespace(
            id=number, at=number * 10**9, entity="group_task", task="t", from_state=before, to_state=after, data=data
        )

    history = GroupHistory()
    needs = {"code": "needs", "needs": "a.b", "done": 1, "total": 2}
    assert history.apply(event(1, None, "new")) == []
    [began] = history.apply(event(2, "new", "waiting", reason=needs))
    assert history.apply(event(3, "waiting", "waiting", spec_hash="x")) == []
    assert history.tasks["t"].code == "needs"
    [ended] = history.apply(event(5, "waiting", "new", reason=None))
    assert (began.awaited.name, began.state, ended.state, ended.waited) == ("task a.b", "waiting", "open", 3.0)
    never = {"code": "needs_selected_none", "needs": "a.b", "total": 2}
    assert [item.state for item in history.apply(event(6, "new", "failed", reason=never))] == ["never"]


def test_lines() -> None:
    item = point(
        "job",
        ("a b", "c,d=e", None, "", 'q"'),
        {"group": 'say "x"\\\n', "job": 3, "wall": 1e22, "progress": float("nan"), "exit_code": True, "event": 7},
        12,
    )
    assert line_of(item) == (
        r"job,campaign=a\ b,workflow=c\,d\=e,task=none,state=none,failure=q"
        '" group="say \\"x\\"\\\\\\\\n",job=3i,wall=1e+22,event=7i 12'
    )


@given(text=st.text(max_size=300))
def test_any_text_fits_a_tag_and_a_field(text: str) -> None:
    tag, line = clean_tag(text), clean_text(text)
    assert tag
    assert "\\" not in tag
    assert "\n" not in tag + line
    (tag + line).encode()


@pytest.mark.parametrize("value", [float("inf"), 2**63, "3", None, True])
def test_what_is_no_number_is_no_field(value: Any) -> None:
    assert point("system", ("all", "all"), {"jobs_running": value}, 1).fields[2] is None


def test_no_tag_is_a_field() -> None:
    for about in MEASUREMENTS.values():
        assert not set(about.tags) & set(about.fields)
        assert "event" in about.fields
        assert "time" not in {*about.tags, *about.fields}


def test_late_events_are_seen_as_holes() -> None:
    holes = outbox.gaps(3, [4, 7, 8, 12], 100.0)
    assert holes == [[5, 6, 100.0], [9, 11, 100.0]]
    assert outbox.still_open(holes, [10], 200.0) == [[5, 6, 100.0], [9, 9, 100.0], [11, 11, 100.0]]
    assert outbox.still_open(holes, [5, 6, 9, 10, 11], 200.0) == []
    assert outbox.still_open(holes, [], 100.0 + 3601) == []


def test_events_since_a_time(ledger: Ledger) -> None:
    put_runs(ledger, FLOW, [facts(1)])
    with ledger.read() as connection:
        rows = connection.execute(tables.event.select().order_by(tables.event.c.id)).all()
        for row in (rows[0], rows[5], rows[-1]):
            assert outbox.first_since(connection, row.at) == row.id
        assert outbox.first_since(connection, rows[-1].at + 1) == rows[-1].id + 1


def test_the_seconds_until_a_deadline(ledger: Ledger) -> None:
    """It begins to count, comes near, and is met."""
    limits = dict(Limits(timedelta(hours=10), GROUP_CLOSED, GO_ON).as_json())
    lock = Lock(kind="payload", parameters={"tag": "Laser"}, limits=limits)
    flow = workflow("ecal", task("fit", fill()).model_copy(update={"locks": (lock,)}))
    put_runs(ledger, flow, [facts(1, 1), facts(2, 2)])
    waits = [(group_ids(ledger, "fill")["fill-r1"], "fit")]
    group, now = tables.run_group, datetime.now(UTC)
    for hours in (1, 1, 9):
        with ledger.write() as connection:
            closed = group.update().where(group.c.id == waits[0][0])
            connection.execute(closed.values(closed_at=now - timedelta(hours=hours)))
        waiting.look_and_record(ledger, waits)
    with ledger.write() as connection:
        connection.execute(tables.lock.delete())
    waiting.look_and_record(ledger, waits)
    found = [named(item) for item in all_points(ledger) if item.measurement == "deadline"]
    told = [(one["state"], one["near"], round(one["left"] / 3600, 1)) for one in found]
    assert told == [("waiting", False, 9.0), ("waiting", True, 1.0), ("met", True, 1.0)]
    assert {(one["group"], one["task"], one["lock"], one["then"]) for one in found} == {
        ("fill-r1", "fit", "payload Laser", "go_on")
    }
    assert found[0]["ends"] == int((now + timedelta(hours=9)).timestamp())


def test_a_deadline_that_has_passed_or_is_lifted() -> None:
    hour = 3600 * 10**9
    ends = datetime.fromtimestamp(3600, UTC).isoformat()
    tag = {"code": "payload", "tag": "Laser", "done": 0, "total": 1, "missing": [[1, "no payload yet"]]}
    limited = {**tag, "deadline": {"at": ends, "near": False, "then": "fail"}}
    failed = {"code": "deadline_passed", "was": "then", "reason": tag}
    for state, reason, at, told in (
        ("failed", failed, 2 * hour, ("passed", -3600.0)),
        ("processing", None, 2 * hour, ("passed", -3600.0)),
        ("processing", None, hour // 2, ("met", 1800.0)),
        ("waiting", tag, hour // 2, ("lifted", 1800.0)),
        ("skipped", None, hour // 2, ("lifted", 1800.0)),
    ):
        task = TaskHistory("waiting", limited)
        assert [(one.state, one.left) for one in _deadlines(task, 0)] == [("waiting", 3600.0)]
        assert _deadlines(task, 1) == []
        task.state, task.reason = state, reason
        assert [(one.state, one.left) for one in _deadlines(task, at)] == [told]


def test_locks_of_which_one_is_enough_and_deadlines_that_have_passed_are_named() -> None:
    tag = {"code": "payload", "tag": "Laser", "done": 0, "total": 1, "missing": [[1, "no payload yet"]]}
    other = {**tag, "tag": "Noise"}
    task = TaskHistory("waiting", {"code": "any_of", "reasons": [tag, other]})
    assert [(one.awaited.name, one.state) for one in _waits(task, 0)] == [
        ("payload Laser", "waiting"),
        ("payload Noise", "waiting"),
    ]
    task.state, task.reason = "failed", {"code": "deadline_passed", "was": "then", "reason": tag}
    ended = {one.awaited.name: one.state for one in _waits(task, 10**9)}
    assert ended == {"payload Laser": "never", "payload Noise": "never"}
