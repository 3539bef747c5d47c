"""What groups wait for (rules 20–22), in one statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.ledger import campaigns, groups, skips, tables, waiting
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.waiting import Look, look, look_and_record
from tests.ledger.making import T0, count, done, facts, fill, group_ids, nightly, put_runs, set_state, task, workflow


def view(ledger: Ledger, group_id: int, name: str) -> Look:
    with ledger.read() as connection:
        return look(connection, [(group_id, name)])[group_id, name]


@contextmanager
def statements(ledger: Ledger) -> Iterator[list[str]]:
    seen: list[str] = []

    def listen(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            seen.append(statement)

    event.listen(ledger.engine, "before_cursor_execute", listen)
    yield seen
    event.remove(ledger.engine, "before_cursor_execute", listen)


ECAL = workflow(
    "ecal",
    task("skim"),
    task("scale", fill(), needs=["ecal.skim@run"]),
    task("deliver", fill(), needs=["ecal.scale@fill"]),
)


@pytest.fixture
def ecal(ledger: Ledger) -> Ledger:
    put_runs(ledger, ECAL, [facts(1, 1), facts(2, 1), facts(3, 2), facts(4, 2), facts(5, 3)])
    return ledger


def test_forming_group(ecal: Ledger) -> None:
    ids = group_ids(ecal, "fill")
    assert view(ecal, ids["fill-r1"], waiting.FORMING) == Look("open")
    forming = view(ecal, ids["fill-r5"], waiting.FORMING)
    assert forming.state == "waiting"
    assert forming.reason is not None
    assert (forming.reason["code"], forming.reason["n_runs"]) == ("forming", 1)


@pytest.mark.parametrize(
    ("policy", "end", "told"),
    [
        (fill(max_wait=timedelta(hours=1)), None, True),
        (fill(max_wait=timedelta(hours=1)), T0, False),
        (fill(), None, False),
        (nightly(max_wait=timedelta(hours=1)), None, False),
    ],
    ids=["no end", "an end", "no max_wait", "a window ends by itself"],
)
def test_a_clock_that_never_runs_is_told(ledger: Ledger, policy: Grouping, end: datetime | None, told: bool) -> None:
    put_runs(ledger, workflow("ecal", task("scale", policy)), [replace(facts(1), end=end)])
    (here,) = group_ids(ledger, policy.label).values()
    text = render(look_and_record(ledger, [(here, waiting.FORMING)])[here, waiting.FORMING].reason)
    assert ("; none of its runs has an end, so that max_wait never closes it" in text) is told


def test_needs_of_another_grouping(ecal: Ledger) -> None:
    runs, scale = group_ids(ecal, "run"), group_ids(ecal, "fill")["fill-r1"]
    done(ecal, runs["run-r1"], "skim")
    seen = view(ecal, scale, "scale")
    assert seen.state == "waiting"
    assert seen.reason == {
        "code": "needs",
        "needs": "ecal.skim",
        "done": 1,
        "total": 2,
        "missing": [[2, "not started"]],
    }
    assert render(seen.reason) == "1 of 2 runs done in ecal.skim; missing 2 (not started)"
    done(ecal, runs["run-r2"], "skim")
    assert view(ecal, scale, "scale") == Look("open")


def test_needs_of_a_base_campaign_name_it(ecal: Ledger) -> None:
    """What is told of it, and asked there, is the base's."""
    from_scale = ECAL.model_copy(update={"base": "prompt", "from_base": frozenset({"ecal.skim"})})
    with ecal.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": [1, 2, 3]}, base_campaign="prompt")
    put_runs(ecal, from_scale, [facts(1, 1), facts(2, 1), facts(3, 2)], "again")
    scale = group_ids(ecal, "fill", campaign="again")["fill-r1"]
    done(ecal, group_ids(ecal, "run")["run-r1"], "skim")
    seen = view(ecal, scale, "scale")
    missing = [[2, "not started"]]
    assert seen.reason == {
        "code": "needs", "needs": "ecal.skim", "campaign": "prompt", "done": 1, "total": 2, "missing": missing
    }  # fmt: skip
    assert render(seen.reason) == "1 of 2 runs done in ecal.skim of the campaign prompt; missing 2 (not started)"
    with ecal.write() as connection:
        skips.add(connection, "prompt", "ecal", [1, 2], task="skim", reason="bad", person="ada", now=T0)
    never = view(ecal, scale, "scale")
    assert (never.state, never.reason) == ("never", {"code": "all_skipped", "needs": "ecal.skim", "total": 2})


def test_a_newer_failed_generation_does_not_close_the_lock(ecal: Ledger) -> None:
    runs, scale = group_ids(ecal, "run"), group_ids(ecal, "fill")["fill-r1"]
    for name in ("run-r1", "run-r2"):
        done(ecal, runs[name], "skim")
    set_state(ecal, runs["run-r1"], "skim", "processing", "failed")
    assert view(ecal, scale, "scale") == Look("open")


def test_task_without_locks_and_unknown_keys_are_open(ecal: Ledger) -> None:
    runs = group_ids(ecal, "run")
    assert view(ecal, runs["run-r1"], "skim") == Look("open")
    assert view(ecal, 12345, "scale") == Look("open")
    with ecal.read() as connection:
        assert look(connection, []) == {}


def test_inside_needs_are_no_locks(ecal: Ledger) -> None:
    assert view(ecal, group_ids(ecal, "fill")["fill-r1"], "deliver") == Look("open")


def kept_and_skipped(connection: Connection, group_id: int, name: str) -> tuple[list[int], list[int]]:
    """The runs of a group without and with a skip that concerns a task."""
    members = skips.members_of(connection, groups.group_by_id(connection, group_id), name)
    return [one.run for one in members if not one.skipped], [one.run for one in members if one.skipped]


def test_skipped_runs_are_not_waited_for(ecal: Ledger) -> None:
    runs, scale = group_ids(ecal, "run"), group_ids(ecal, "fill")["fill-r1"]
    done(ecal, runs["run-r1"], "skim")
    with ecal.write() as connection:
        assert skips.add(connection, "prompt", "ecal", [2], reason="bad magnet", person="ada", now=T0) == [2]
    assert view(ecal, scale, "scale") == Look("open")
    with ecal.read() as connection:
        assert kept_and_skipped(connection, scale, "scale") == ([1], [2])
        state = select(tables.group_task.c.state, tables.group_task.c.reason)
        row = connection.execute(state.where(tables.group_task.c.group_id == runs["run-r2"])).one()
    assert (row.state, render(row.reason)) == ("skipped", "skipped by ada: bad magnet")
    before = count(ecal, tables.event)
    with ecal.write() as connection:
        assert skips.add(connection, "prompt", "ecal", [2], reason="again", person="bob", now=T0) == []
    assert count(ecal, tables.event) == before


def test_all_skipped_never_opens(ecal: Ledger) -> None:
    scale = group_ids(ecal, "fill")["fill-r1"]
    with ecal.write() as connection:
        skips.add(connection, "prompt", "ecal", [1, 2], task="skim", reason="x", person="ada", now=T0)
    seen = view(ecal, scale, "scale")
    assert (seen.state, seen.reason and seen.reason["code"]) == ("never", "all_skipped")
    assert view(ecal, group_ids(ecal, "fill")["fill-r3"], "scale").state == "waiting"


def test_needs_of_another_workflow(ecal: Ledger) -> None:
    track = workflow("track", task("align", fill(), needs=["ecal.skim@run"]))
    put_runs(ecal, track, [facts(1, 1), facts(2, 1), facts(3, 2), facts(6, 3), facts(7, 4)])
    ids, runs = group_ids(ecal, "fill", "track"), group_ids(ecal, "run")
    with ecal.write() as connection:
        connection.execute(
            tables.membership.update()
            .where(tables.membership.c.run == 2, tables.membership.c.workflow == "ecal")
            .values(state="not_selected")
        )
    assert view(ecal, ids["fill-r1"], "align").reason == {
        "code": "needs",
        "needs": "ecal.skim",
        "done": 0,
        "total": 1,
        "missing": [[1, "not started"]],
    }
    done(ecal, runs["run-r1"], "skim")
    assert view(ecal, ids["fill-r1"], "align") == Look("open")
    unassigned = view(ecal, ids["fill-r6"], "align")
    assert unassigned.reason is not None
    assert unassigned.reason["missing"] == [[6, "not yet assigned to a group there"]]


def test_selected_none_never_opens(ecal: Ledger) -> None:
    track = workflow("track", task("align", needs=["ecal.skim@run"]))
    put_runs(ecal, track, [facts(1, 1)])
    with ecal.write() as connection:
        connection.execute(
            tables.membership.update().where(tables.membership.c.workflow == "ecal").values(state="not_selected")
        )
    seen = view(ecal, group_ids(ecal, "run", "track")["run-r1"], "align")
    assert (seen.state, seen.reason and seen.reason["code"]) == ("never", "needs_selected_none")
    assert "selected none of the 1 runs" in render(seen.reason)


def test_dropped_runs_are_skipped_and_a_dropped_group_never_opens(ledger: Ledger) -> None:
    flow = workflow("w", task("scale", fill(50, short="drop")), task("check", needs=["w.scale@fill"]))
    put_runs(ledger, flow, [facts(1, 1), facts(2, 2, 60), facts(3, 3)])
    dropped = group_ids(ledger, "fill")["fill-r1"]
    assert view(ledger, dropped, waiting.FORMING) == Look("never", {"code": "dropped"})
    seen = view(ledger, group_ids(ledger, "run")["run-r1"], "check")
    assert (seen.state, seen.reason and seen.reason["code"]) == ("never", "all_skipped")
    with ledger.read() as connection:
        state = select(tables.group_task.c.state).where(tables.group_task.c.group_id == dropped)
        assert connection.execute(state).scalar() == "skipped"
        member = select(tables.membership.c.state).where(tables.membership.c.group_id == dropped)
        assert connection.execute(member).scalar() == "dropped"
        assert kept_and_skipped(connection, group_ids(ledger, "run")["run-r1"], "check") == ([], [1])


LASER = workflow("laser", task("scale", fill(), payloads=["Laser"]))


def publish(ledger: Ledger, first: int, last: int, campaign: str = "prompt", state: str = "published") -> None:
    group = next(iter(group_ids(ledger, "fill", campaign="prompt").values()))
    with ledger.write() as connection:
        connection.execute(
            insert(tables.payload).values(
                campaign=campaign,
                tag="Laser",
                first_run=first,
                last_run=last,
                revision=last,
                state=state,
                content_hash="0" * 64,
                file_name="f",
                size=1,
                workflow="other",
                task="t",
                group_id=group,
                provenance={},
                published_at=T0,
            )
        )


def test_payload_lock(ledger: Ledger) -> None:
    put_runs(ledger, LASER, [facts(1, 1), facts(2, 1), facts(3, 2)])
    group = group_ids(ledger, "fill")["fill-r1"]
    publish(ledger, 1, 1)
    publish(ledger, 2, 2, state="superseded")
    seen = view(ledger, group, "scale")
    assert render(seen.reason) == "1 of 2 runs covered by payloads of Laser; missing 2 (no payload yet)"
    publish(ledger, 2, 10)
    assert view(ledger, group, "scale") == Look("open")


def test_payload_of_the_base_campaign(ledger: Ledger) -> None:
    put_runs(ledger, LASER, [facts(1, 1), facts(3, 2)])
    with ledger.write() as connection:
        campaigns.create(connection, "based", kind="streamed", base_campaign="prompt")
        campaigns.create(connection, "alone", kind="streamed")
    for campaign in ("based", "alone"):
        put_runs(ledger, LASER, [facts(1, 1), facts(3, 2)], campaign)
    publish(ledger, 1, 5)
    states = {
        campaign: view(ledger, group_ids(ledger, "fill", campaign=campaign)["fill-r1"], "scale").state
        for campaign in ("prompt", "based", "alone")
    }
    assert states == {"prompt": "open", "based": "open", "alone": "waiting"}


def test_several_locks(ledger: Ledger) -> None:
    flow = workflow("w", task("skim"), task("scale", fill(), needs=["w.skim@run"], payloads=["Laser"]))
    put_runs(ledger, flow, [facts(1, 1), facts(3, 2)])
    group = group_ids(ledger, "fill")["fill-r1"]
    seen = view(ledger, group, "scale")
    assert seen.reason is not None
    assert [reason["code"] for reason in seen.reason["reasons"]] == ["needs", "payload"]
    done(ledger, group_ids(ledger, "run")["run-r1"], "skim")
    assert view(ledger, group, "scale").reason == {
        "code": "payload",
        "tag": "Laser",
        "done": 0,
        "total": 1,
        "missing": [[1, "no payload yet"]],
    }


def test_a_skip_of_very_many_runs_is_one_question(ledger: Ledger) -> None:
    with ledger.write() as connection, pytest.raises(NotFound) as caught:
        skips.add(connection, "prompt", "ecal", range(1, 70_001), reason="x", person="ada", now=T0)
    assert caught.value.message.endswith(" more")
    assert len(caught.value.message) < 200


def test_looks_are_recorded_once(ecal: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = group_ids(ecal, "fill")
    key = (ids["fill-r1"], "scale")
    times = iter(T0 + timedelta(seconds=s) for s in (0, 5, 100, 105, 110))
    monkeypatch.setattr(waiting, "datetime", SimpleNamespace(now=lambda zone: next(times)))
    before = count(ecal, tables.event)
    row = select(tables.group_task).where(tables.group_task.c.group_id == key[0], tables.group_task.c.task == "scale")
    for looked_at in (0, 0, 100):
        look_and_record(ecal, [key])
        assert count(ecal, tables.event) == before + 1
        with ecal.read() as connection:
            stored = connection.execute(row).one()
        assert (stored.state, stored.since) == ("waiting", T0)
        assert stored.looked_at == T0 + timedelta(seconds=looked_at)
    done(ecal, group_ids(ecal, "run")["run-r1"], "skim")
    look_and_record(ecal, [key])
    with ecal.read() as connection:
        stored = connection.execute(row).one()
    assert (stored.reason["done"], stored.since) == (1, T0)


def test_forming_reason_is_stored_with_the_root_tasks(ecal: Ledger) -> None:
    group = group_ids(ecal, "fill")["fill-r5"]
    look_and_record(ecal, [(group, waiting.FORMING)])
    with ecal.read() as connection:
        rows = connection.execute(select(tables.group_task).where(tables.group_task.c.group_id == group)).all()
    assert {row.task: row.state for row in rows} == {"scale": "waiting", "deliver": "new"}


def test_one_statement_however_many_wait(ledger: Ledger) -> None:
    flow = workflow("w", task("skim"), task("scale", fill(), needs=["w.skim@run"], payloads=["Laser"]))
    put_runs(ledger, flow, [facts(number, number) for number in range(1, 202)])
    keys = [(group, "scale") for group in group_ids(ledger, "fill").values()]
    counts = []
    for some in (keys[:2], keys):
        with statements(ledger) as seen, ledger.read() as connection:
            assert len(look(connection, some)) == len(some)
        assert len(seen) == 1
        with statements(ledger) as seen:
            look_and_record(ledger, [*some, (some[0][0], waiting.FORMING)])
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_ten_thousand_keys(ledger: Ledger) -> None:
    put_runs(ledger, ECAL, [facts(1, 1), facts(2, 2)])
    with ledger.read() as connection:
        assert len(look(connection, [(number, "scale") for number in range(40_000)])) == 40_000
