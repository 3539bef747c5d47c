"""Every advice of ``calib explain`` is followed: the situation is made, its commands are given as they are printed.

A reason whose advice names a command, and that has no scenario here, fails :func:`test_every_advice_is_tried`.
"""

from __future__ import annotations

import re

import pytest

from airflow_calib_provider.domain import reasons
from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.domain.reasons import RELEASES
from airflow_calib_provider.kinds import LOCKS
from airflow_calib_provider.ledger import editions, generations, rounds
from tests.cli.campaign_situations import (
    collecting,
    extended,
    few_groups,
    few_jobs,
    grouped_now,
    not_run_here,
    of_base,
    opened_now,
    own_version,
    paused_campaign,
    skipped_here_alone,
    told_by_base,
)
from tests.cli.conftest import Calib
from tests.cli.lock_situations import gone_on_without, too_late
from tests.cli.payload_situations import asked_of, awaits_approval, not_published_as
from tests.cli.run_situations import (
    category_shown,
    gone_on,
    in_no_category,
    left_out,
    only_left_out,
    taken_in,
    taken_in_alone,
    value_awaited,
    value_failed,
    value_not_reported,
)
from tests.cli.situations import (
    Place,
    Scenario,
    added,
    added_later,
    amended,
    at_work,
    before_first_seen,
    before_it,
    began,
    broken,
    candidate,
    changed,
    cleared_scale,
    component,
    every_hold,
    failed_before_jobs,
    finite,
    forming,
    gone,
    grouped,
    held,
    import_error,
    in_airflow,
    injected,
    jobs_failed,
    jobs_shown,
    killed,
    late,
    listed,
    marked,
    mended,
    needing,
    not_found,
    nothing_open,
    of_airflow,
    on_hold,
    passed_by_hand,
    paused,
    publication_failed,
    published,
    refused,
    run_ended,
    scale_began,
    selected_none,
    skipped_there,
    stub_written,
    taken_anew,
    unheard_of,
    valid,
)
from tests.cli.step_situations import began_elsewhere, iterated
from tests.cli.test_airflow import FakeAirflow, airflow  # noqa: F401 - airflow is a fixture
from tests.cli.world import NOW, SOURCES, World

SCENARIOS: dict[str, list[Scenario]] = {
    "forming": [Scenario(forming)],
    "dag_run_opened": [Scenario(run_ended, began)],
    "dag_run_failed": [Scenario(in_airflow("failed"), began)],
    "airflow_upstream_failed": [Scenario(in_airflow("upstream_failed"), began)],
    "airflow_task_ended": [
        Scenario(in_airflow("success", "success"), began),
        Scenario(in_airflow("failed"), began),
        Scenario(in_airflow("skipped", "success"), began),
    ],
    "task_not_in_dag_run": [Scenario(added_later, added)],
    "not_open": [Scenario(passed_by_hand, cleared_scale)],
    "deadline_passed": [Scenario(too_late, gone_on_without)],
    "upstream_ended": [Scenario(before_it, cleared_scale)],
    "killed": [Scenario(killed, began)],
    "error": [Scenario(failed_before_jobs, began)],
    "jobs_failed": [Scenario(jobs_failed, jobs_shown)],
    "iteration_max_steps": [Scenario(iterated("max_steps", max_steps=30), began)],
    "iteration_stalled": [Scenario(iterated("stalled"), began)],
    "iteration_oscillating": [Scenario(iterated("oscillating", left=0.95, damping=0.5), began)],
    "iteration_diverging": [Scenario(iterated("diverging", how="far", limit=10.0), began_elsewhere)],
    "iteration_not_finite": [Scenario(iterated("not_finite", said="metric mass: NaN"), began)],
    "iteration_not_enough_data": [Scenario(iterated("not_enough_data", error=0.3, tolerance=0.5), began)],
    "iteration_failed": [Scenario(iterated("failed", said="there is no report"), began)],
    "iteration_killed": [Scenario(iterated("killed", said="a person"), began)],
    "publish_failed": [Scenario(publication_failed, published)],
    "not_validated": [Scenario(not_published_as("not_validated", by="validate", wrong=["jump is 1"]), published)],
    "not_approved": [Scenario(not_published_as("not_approved", how="ada has rejected it"), published)],
    "store_refused": [Scenario(not_published_as("store_refused", said="the branch is protected"), published)],
    "awaits_approval": [Scenario(awaits_approval, asked_of, stays=True)],
    "marked_success_without_products": [Scenario(marked, cleared_scale, stays=True)],
    "needs": [Scenario(needing), Scenario(of_base, skipped_here_alone)],
    "of_base": [Scenario(not_run_here, told_by_base, stays=True)],
    "needs_selected_none": [Scenario(selected_none)],
    "all_skipped": [Scenario(skipped_there)],
    "holds_horizon": [Scenario(held("3"), injected)],
    "held_by_run": [Scenario(held("4"), injected)],
    "finite_incomplete": [Scenario(finite, grouped)],
    "campaign_collecting": [Scenario(collecting, grouped_now)],
    "campaign_paused": [Scenario(paused_campaign, opened_now)],
    "spec_changed": [Scenario(own_version, extended)],
    "groups_throttled": [Scenario(few_groups)],
    "jobs_throttled": [Scenario(few_jobs)],
    "workflow_gone": [Scenario(gone, nothing_open, stays=True)],
    "candidate": [Scenario(candidate, valid)],
    "stale_cleared": [Scenario(amended(lambda at, row: editions.settle(at, [row.group_id])), scale_began)],
    "stale_stuck": [Scenario(amended(editions.give_up), scale_began)],
    "failed_run": [Scenario(left_out, taken_in)],
    "all_left_out": [Scenario(only_left_out, taken_in_alone)],
    "in_no_category": [Scenario(in_no_category, category_shown, stays=True)],
    "value_awaited": [Scenario(value_awaited, gone_on, stays=True)],  # the next one
    "value_failed": [Scenario(value_failed, gone_on)],
    "value_not_reported": [Scenario(value_not_reported, gone_on)],
    "late": [Scenario(late, taken_anew, stays=True)],
    "before_first_seen": [Scenario(before_first_seen, taken_anew, stays=True)],
    "source_changed": [Scenario(changed, taken_anew, stays=True)],
    "jobs": [Scenario(at_work, listed, stays=True)],
    "live_jobs": [Scenario(on_hold(2), listed, stays=True)],
    "more_live_jobs": [Scenario(on_hold(7), every_hold, stays=True)],
    "spec_broken": [Scenario(broken, mended)],
    "spec_refused": [Scenario(refused, mended)],
    "dag_import_error": [Scenario(import_error, mended)],
    "dag_not_found": [Scenario(not_found, stub_written)],
    "scheduler_down": [Scenario(component("scheduler"), of_airflow)],
    "triggerer_down": [Scenario(component("triggerer"), of_airflow)],
    "dag_processor_down": [Scenario(component("dag_processor"), of_airflow)],
    "dag_paused": [Scenario(paused, of_airflow)],
}

BY_AN_ERROR = {"run_unknown"}
"""Told as an error, with a test of its own."""

NO_COMMAND = {
    # time, or what goes on by itself
    "dag_run_claimed", "settle", "retry_pending", "up_for_retry", "task_queued", "upstream", "upstream_not_done",
    # the next injection, or a DAG run that ends
    "queued_in_ledger", "dag_run_wanted", "claim_expired", "dag_run_not_asked", "next_inject", "dag_run_queued",
    "others_start", "campaign_grouping",
    "no_workflow", "pool_full", "source_unreadable",
    # what the message says, the run source, or the site
    "lock_unknown", "lock_trouble", "dag_run_refused", "backend_trouble", "credential", "not_completed", "spec_clash",
    "airflow_unreachable", "publish_by", "publishing",
    # of what is published, as `calib payload show` tells it
    "withdrawing", "withdrawal_refused",
    "metadatabase_down", "dag_run_missing", "payload", "lock", "not_read", "boundary_cuts", "before_boundaries",
    # the advice of each of its parts
    "several", "any_of",
    # nothing in this campaign
    "dropped", "skipped", "run_skipped", "where_false", "before_since", "not_in_campaign", "condition_error",
    "field_missing", "not_listed", "incomplete_too_long", "campaign_closed", "campaign_half_grouped",
    "campaign_cancelled", "late_group", "stale", "stale_refused", "stale_gone", "amended", "added", "removed",
    "absorbed",
}  # fmt: skip


@pytest.fixture
def place(world: World, airflow: FakeAirflow, calib: Calib) -> Place:  # noqa: F811
    assert "daq" in SOURCES
    return Place(world, airflow, calib)


def advices() -> dict[str, str]:
    """Code → the words of what releases it."""
    return {**RELEASES, **{LOCKS.member(name).code: LOCKS.member(name).release for name in LOCKS.own}}


def test_every_advice_is_tried() -> None:
    commands = {code for code, text in advices().items() if "`" in text}
    assert commands | {"source_changed"} == set(SCENARIOS) | BY_AN_ERROR, "a scenario is missing, or one too many"
    assert set(advices()) == set(SCENARIOS) | BY_AN_ERROR | NO_COMMAND, "say of a new reason what its advice is"


@pytest.mark.parametrize(
    ("code", "scenario"),
    [pytest.param(code, one, id=f"{code}-{n}") for code, some in SCENARIOS.items() for n, one in enumerate(some)],
)
def test_the_advice_works(place: Place, code: str, scenario: Scenario) -> None:
    ask = scenario.make(place)
    found = place.causes(ask)
    told = [cause for cause in found if cause["code"] == code]
    assert told, [cause["code"] for cause in found]
    assert told[0]["release"] in " ".join(place.calib.plain("explain", *ask).split())
    assert place.follow(told[0]["release"])
    scenario.then(place)
    left = [cause for cause in place.causes(ask) if cause["code"] == code]
    assert bool(left) is scenario.stays, left


def test_what_was_skipped_before_it_is_not_advised_to_be_retried() -> None:
    """As in a task that its workflow got after the one before it was skipped."""
    reason = {"code": "upstream_ended", "tasks": [["scale", "skipped"]]}
    told = reasons.Cause("it", reason, workflow="demo", group="fill-r2", task="deliver", campaign="again").release
    assert "calib retry" not in told
    assert 'calib skip fill-r2 --workflow demo --task deliver --campaign again --reason "..."' in told


def test_the_advice_of_several_reasons_is_that_of_each() -> None:
    held = {"code": "held_by_run", "run": 7, "n_behind": 0, "behind": []}
    several = {"code": "several", "reasons": [{"code": "settle"}, held]}
    assert (
        reasons.Cause("it", several, workflow="demo").release
        == "time; " + reasons.Cause("it", held, workflow="demo").release
    )


def test_more_runs_than_are_shown() -> None:
    needs = {"code": "needs", "needs": "demo.skim", "done": 0, "total": 9, "missing": [[n, "new"] for n in range(9)]}
    told = reasons.Cause("it", needs, workflow="third", group="fill-r2", task="laser").release
    assert told.count("`calib skip ") == told.count("`calib explain ") == 3
    assert told.count(" and 6 more") == 2


def test_a_job_that_failed_while_others_run(place: Place) -> None:
    """Nothing can be cleared before the others have ended."""
    ask = at_work(place)
    generation = place.world.begin("run-r3", "skim")
    for _ in range(2):
        place.world.observe(generation, 0, AttemptState.FAILED, exit_code=3, reason="exit code 3", retry_after=0)
        with place.world.ledger.write() as connection:
            current = generations.by_id(connection, generation)
            rounds.plan(connection, current, NOW)
            for item in rounds.in_states(connection, [generation], ["planned"]):
                rounds.note_submitted(connection, current, item, NOW)
    causes = place.causes(("run-r3", *ask[1:]))
    (failed,) = [cause for cause in causes if cause["code"] == "jobs_failed"]
    assert "when the other jobs have ended, `calib retry run-r3 --task skim --workflow demo`" in failed["release"]


def test_a_run_that_is_not_known(place: Place) -> None:
    ask = unheard_of(place)
    error = place.calib.fails("explain", *ask)
    advice = re.search("it becomes known by (.*)", error.replace("\n", " "))
    assert advice
    (place.world.folder / "more.csv").write_text(
        "number,start,end,completed,fill,lumi\n9,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,true,4,1.0\n"
    )
    place.fill_in = {"FILE": "more.csv", "NAME": "daq"}
    place.follow(advice[1])
    assert "run_unknown" not in {cause["code"] for cause in place.causes(ask)}
