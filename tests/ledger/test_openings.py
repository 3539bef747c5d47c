"""Rules 26–29: which groups get DAG runs, and that each gets one."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from airflow_calib_provider.ledger import campaigns, openings, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.openings import CLAIM_EXPIRES, OpeningLimits
from tests import processes
from tests.ledger.making import RUN, T0, count, done, facts, fill, group_ids, put_runs, set_state, task, workflow

FREE = workflow("free", task("skim"))
LOCKED = workflow("locked", task("fit", needs=["free.skim@run"]))


def plan(ledger: Ledger, limits: OpeningLimits | None = None) -> int:
    with ledger.write() as connection:
        return openings.plan(connection, T0 + timedelta(days=30), limits)


def requested(ledger: Ledger, flow: str, campaign: str = "prompt") -> list[str]:
    prefix = f"{campaign}__"
    table = tables.dag_run_request
    with ledger.read() as connection:
        query = select(table.c.run_id).where(table.c.dag_id.startswith(f"{flow}__"), table.c.run_id.startswith(prefix))
        found = [run_id.removeprefix(prefix) for run_id in connection.execute(query).scalars()]
    return sorted(found, key=lambda name: int(name.rpartition("-r")[2]))


def test_a_hundred_locked_groups_do_not_delay_the_next(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(n) for n in range(1, 121)])
    put_runs(ledger, LOCKED, [facts(n) for n in range(1, 121)])
    limits = OpeningLimits(max_open=5, window=3)
    plan(ledger, limits)
    assert requested(ledger, "locked") == ["run-r1", "run-r2", "run-r3"]
    done(ledger, group_ids(ledger, "run", "free")["run-r101"], "skim")
    plan(ledger, limits)
    assert requested(ledger, "locked") == ["run-r1", "run-r2", "run-r3", "run-r101"]


def test_max_open(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(n) for n in range(1, 11)])
    limits = OpeningLimits(max_open=4, window=2)
    assert plan(ledger, limits) == 4
    assert plan(ledger, limits) == 0
    ids = group_ids(ledger, "run")
    set_state(ledger, ids["run-r1"], "skim", "processing")
    assert plan(ledger, limits) == 0
    set_state(ledger, ids["run-r1"], "skim", "done")
    set_state(ledger, ids["run-r2"], "skim", "failed")
    assert plan(ledger, limits) == 2
    assert requested(ledger, "free") == [f"run-r{n}" for n in range(1, 7)]


def test_a_waiting_branch_beside_a_failed_one_is_open(ledger: Ledger) -> None:
    put_runs(ledger, workflow("w", task("a"), task("b"), task("c")), [facts(1), facts(2)])
    limits = OpeningLimits(max_open=1, window=0)
    assert plan(ledger, limits) == 1
    group = group_ids(ledger, "run")["run-r1"]
    set_state(ledger, group, "a", "failed")
    set_state(ledger, group, "b", "processing")
    assert plan(ledger, limits) == 0
    set_state(ledger, group, "b", "done")
    assert plan(ledger, limits) == 1


def test_window_counts_per_campaign_and_shows_the_forming_group(ledger: Ledger) -> None:
    flow = workflow("locked", task("fit", fill(), payloads=["Nothing"]))
    runs = [facts(n, n) for n in range(1, 31)]
    put_runs(ledger, flow, runs)
    with ledger.write() as connection:
        campaigns.create(connection, "rereco", kind="streamed")
    put_runs(ledger, flow, runs, "rereco")
    assert plan(ledger, OpeningLimits(max_open=100, window=4)) == 8
    for campaign in ("prompt", "rereco"):
        assert requested(ledger, "locked", campaign) == ["fill-r1", "fill-r2", "fill-r3", "fill-r30"]


def test_prompt_has_a_share_of_its_own(ledger: Ledger) -> None:
    with ledger.write() as connection:
        campaigns.create(connection, "prompt", kind="streamed")
        campaigns.create(connection, "rereco", kind="streamed")
    put_runs(ledger, FREE, [facts(n) for n in range(1, 31)], "rereco")
    limits = OpeningLimits(max_open=10, prompt_share=0.2, starting=100)
    assert plan(ledger, limits) == 8
    put_runs(ledger, FREE, [facts(n) for n in range(1, 31)])
    assert plan(ledger, limits) == 2
    assert len(requested(ledger, "free", "prompt")) == 2


def test_open_counts_do_not_leave_out_a_group_that_became_ready(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(n) for n in range(1, 11)])
    put_runs(ledger, LOCKED, [facts(n) for n in range(1, 11)])
    limits = OpeningLimits(max_open=2, window=2)
    plan(ledger, limits)
    ids = group_ids(ledger, "run", "free")
    for name in ("run-r1", "run-r2", "run-r5"):
        done(ledger, ids[name], "skim")
    # The two that waited are ready now and fill max_open; two others may wait in their place.
    plan(ledger, limits)
    assert requested(ledger, "locked") == ["run-r1", "run-r2", "run-r3", "run-r4"]


def test_dropped_groups_and_groups_without_anything_to_do_are_not_opened(ledger: Ledger) -> None:
    put_runs(ledger, workflow("w", task("fit", fill(50, short="drop"))), [facts(1, 1), facts(2, 2, 60), facts(3, 3)])
    put_runs(ledger, FREE, [facts(1), facts(2), facts(3)])
    with ledger.write() as connection:
        skips.add(connection, "prompt", "free", [2], reason="x", person="ada", now=T0)
    plan(ledger)
    assert requested(ledger, "w") == ["fill-r2", "fill-r3"]
    assert requested(ledger, "free") == ["run-r1", "run-r3"]


def test_at_most_one_request_per_group(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(n) for n in range(1, 6)])
    assert [plan(ledger), plan(ledger)] == [5, 0]
    with ledger.write() as connection:
        for item in openings.claim(connection, "me", T0 + timedelta(days=31)):
            openings.opened(connection, item.group_id, "me", T0 + timedelta(days=31))
    assert plan(ledger) == 0
    assert count(ledger, tables.dag_run_request) == 5


def test_what_a_request_says(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(7)])
    plan(ledger)
    with ledger.write() as connection:
        (item,) = openings.claim(connection, "me", T0 + timedelta(days=31))
    assert (item.dag_id, item.run_id) == ("free__run", "prompt__run-r7")
    assert item.run_after == facts(7).start
    assert item.note == "run from run 7 (campaign prompt)"


def test_a_group_without_start_is_ordered_by_its_run(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [type(facts(1))(n, None, None, {}) for n in (7, 9)])
    plan(ledger)
    with ledger.write() as connection:
        items = openings.claim(connection, "me", T0 + timedelta(days=31))
    assert items[1].run_after - items[0].run_after == timedelta(microseconds=2)
    assert T0 - timedelta(minutes=1) <= items[0].run_after
    assert max(item.run_after for item in items) < T0


@pytest.mark.parametrize(("hours", "by_start"), [(1, True), (11, True), (13, False), (24 * 365, False)])
def test_old_data_is_opened_now(ledger: Ledger, hours: int, by_start: bool) -> None:
    """Airflow's home page counts what happened in the last day by this time: a failure of old data is seen there."""
    start = T0 - timedelta(hours=hours)
    put_runs(ledger, FREE, [type(facts(1))(n, start, start, {}) for n in (7, 9)])
    plan(ledger)
    with ledger.write() as connection:
        first, second = openings.claim(connection, "me", T0 + timedelta(days=31))
    assert (first.run_after == start) is by_start
    assert by_start or T0 - timedelta(minutes=1) <= first.run_after < second.run_after < T0


def test_claims(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(1)])
    plan(ledger)
    now = T0 + timedelta(days=31)
    with ledger.write() as connection:
        (item,) = openings.claim(connection, "dead", now)
        assert openings.claim(connection, "other", now + CLAIM_EXPIRES) == []
        late = now + CLAIM_EXPIRES + timedelta(seconds=1)
        assert [r.group_id for r in openings.claim(connection, "other", late)] == [item.group_id]
        openings.opened(connection, item.group_id, "dead", late)
    assert count(ledger, tables.dag_run_request, tables.dag_run_request.c.state == "opened") == 0
    with ledger.write() as connection:
        openings.opened(connection, item.group_id, "other", late)
        openings.opened(connection, item.group_id, "other", late)
        assert openings.claim(connection, "x", late + timedelta(days=1)) == []
    assert count(ledger, tables.dag_run_request, tables.dag_run_request.c.state == "opened") == 1


def test_refusals_are_asked_again_ever_more_rarely(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(1)])
    plan(ledger)
    at, waits = T0 + timedelta(days=31), []
    for _ in range(12):
        with ledger.write() as connection:
            (item,) = openings.claim(connection, "me", at)
            openings.refused(connection, item.group_id, "me", "no such DAG", at)
            row = connection.execute(select(tables.dag_run_request)).one()
            assert openings.claim(connection, "me", at) == []
        waits.append((row.not_before - at).total_seconds())
        at = row.not_before
    assert waits[:3] == [10, 20, 40]
    assert waits[-1] == 3600
    assert row.error == "no such DAG"


def _claim_all(url: str, name: str, out: multiprocessing.Queue[tuple[str, list[int]]]) -> None:
    ledger, mine = Ledger(url), []
    while True:
        with ledger.write() as connection:
            items = openings.claim(connection, name, T0 + timedelta(days=31), limit=3)
        if not items:
            break
        mine += [item.group_id for item in items]
        time.sleep(0.002)
    out.put((name, mine))


@pytest.mark.parametrize("claimants", [4])
def test_two_claimants_never_own_one_request(ledger: Ledger, claimants: int) -> None:
    put_runs(ledger, FREE, [facts(n) for n in range(1, 61)])
    plan(ledger)
    ledger.close()
    out: multiprocessing.Queue[tuple[str, list[int]]] = processes.context().Queue()
    url = ledger.url.render_as_string(hide_password=False)
    started = [processes.process(_claim_all, url, f"p{n}", out) for n in range(claimants)]
    for process in started:
        process.start()
    owned = dict(out.get(timeout=60) for _ in started)
    for process in started:
        process.join()
    counted = Counter(group for mine in owned.values() for group in mine)
    assert len(counted) == 60
    assert set(counted.values()) == {1}


def test_runs_of_a_thousand_groups_are_planned_by_few_statements(ledger: Ledger) -> None:
    from tests.ledger.test_waiting import statements

    counts = []
    for runs in (range(1, 6), range(6, 11), range(11, 1000)):
        put_runs(ledger, workflow("w", task("skim", RUN, payloads=["X"]), task("fit")), [facts(n) for n in runs])
        with statements(ledger) as seen:
            plan(ledger, OpeningLimits(max_open=10_000, window=10_000))
        counts.append(len(seen))
    assert counts[1] == counts[2]


def test_what_is_ready_far_behind_is_found_by_news_of_it_and_by_a_thorough_look(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(n) for n in range(1, 361)])
    put_runs(ledger, LOCKED, [facts(n) for n in range(1, 361)])
    limits = OpeningLimits(max_open=5, window=1)
    plan(ledger, limits)
    free = group_ids(ledger, "run", "free")
    done(ledger, free["run-r340"], "skim")
    done(ledger, free["run-r350"], "skim")
    plan(ledger, limits)
    assert requested(ledger, "locked") == ["run-r1"]
    with ledger.write() as connection:
        about = openings.concerned(connection, free["run-r350"])
        assert openings.plan(connection, T0 + timedelta(days=30), limits, about) == 1
    assert requested(ledger, "locked") == ["run-r1", "run-r350"]
    about = openings.ready_beyond(ledger)
    with ledger.write() as connection:
        assert openings.plan(connection, T0 + timedelta(days=30), limits, about) >= 1
    assert requested(ledger, "locked") == ["run-r1", "run-r340", "run-r350"]


def test_what_is_ready_far_behind_is_opened_without_another_thorough_look(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(n) for n in range(1, 361)])
    put_runs(ledger, LOCKED, [facts(n) for n in range(1, 361)])
    limits = OpeningLimits(max_open=3, window=0)
    free = group_ids(ledger, "run", "free")
    for number in (330, 340, 350, 351, 352):
        done(ledger, free[f"run-r{number}"], "skim")
    about = openings.ready_beyond(ledger)
    with ledger.write() as connection:
        openings.plan(connection, T0 + timedelta(days=30), limits, about)
    assert requested(ledger, "locked") == ["run-r330", "run-r340", "run-r350"]
    for number in (330, 340):
        done(ledger, group_ids(ledger, "run", "locked")[f"run-r{number}"], "fit")
    lost = update(tables.group_task).where(tables.group_task.c.group_id == free["run-r351"]).values(state="failed")
    with ledger.write() as connection:
        connection.execute(lost)
        connection.execute(
            update(tables.generation).where(tables.generation.c.group_id == free["run-r351"]).values(state="failed")
        )
    plan(ledger, limits)
    assert requested(ledger, "locked") == ["run-r330", "run-r340", "run-r350", "run-r352"]
    table = tables.run_group
    assert count(ledger, table, table.c.opening == "ready") == 0, "what is shut again waits as the others do"


def test_groups_with_nothing_left_to_do_do_not_hold_up_the_next(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(n) for n in range(1, 321)])
    with ledger.write() as connection:
        skips.add(connection, "prompt", "free", range(1, 311), reason="x", person="ada", now=T0)
    assert plan(ledger, OpeningLimits(max_open=4, window=0)) == 4
    assert requested(ledger, "free") == [f"run-r{n}" for n in range(311, 315)]
    table = tables.run_group
    assert count(ledger, table, table.c.opening.is_(None)) == 310


def test_a_finite_campaign_that_is_not_grouped_completely_opens_nothing(ledger: Ledger) -> None:
    with ledger.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": [1, 2]})
    put_runs(ledger, FREE, [facts(1), facts(2)], "again")
    below = update(tables.grouping).where(tables.grouping.c.campaign == "again")
    with ledger.write() as connection:
        connection.execute(below.values(assigned_below=0))
    about = list(group_ids(ledger, "run", "free", "again").values())
    for news in ([], about):
        with ledger.write() as connection:
            assert openings.plan(connection, T0 + timedelta(days=30), about=news) == 0
    assert openings.ready_beyond(ledger) == []
    with ledger.write() as connection:
        connection.execute(below.values(assigned_below=3))
    assert plan(ledger) == 0, "another workflow is not grouped yet"
    with ledger.write() as connection:
        assert campaigns.note_grouped(connection, "again", T0)
    assert plan(ledger) == 2


def test_a_cleared_task_of_what_was_over_counts_as_working(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(n) for n in range(1, 4)])
    limits = OpeningLimits(max_open=1, window=0)
    assert plan(ledger, limits) == 1
    ids = group_ids(ledger, "run")
    set_state(ledger, ids["run-r1"], "skim", "processing", "done")
    assert plan(ledger, limits) == 1  # run-r1 is over
    set_state(ledger, ids["run-r2"], "skim", "processing", "done")
    set_state(ledger, ids["run-r1"], "skim", "processing")
    assert plan(ledger, limits) == 0
    set_state(ledger, ids["run-r1"], "skim", "done")
    assert plan(ledger, limits) == 1


def test_what_ends_concerns_those_who_take_it_from_there(ledger: Ledger) -> None:
    put_runs(ledger, FREE, [facts(n) for n in range(1, 4)])
    with ledger.write() as connection:
        campaigns.create(connection, "based", kind="finite", runs={"daq": [1, 2, 3]}, base_campaign="prompt")
        campaigns.create(connection, "other", kind="finite", runs={"daq": [1, 2, 3]})
        for name in ("based", "other"):
            campaigns.note_grouped(connection, name, T0)
    for name in ("based", "other"):
        put_runs(ledger, LOCKED, [facts(n) for n in range(1, 4)], name)
    first = group_ids(ledger, "run", "free")["run-r1"]
    mine = group_ids(ledger, "run", "locked", "based")["run-r1"]
    with ledger.read() as connection:
        assert set(openings.concerned(connection, first)) == {first, mine}
