"""Every cause that the ledger knows is named, in states that the real code has made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from airflow_calib_provider.domain import reasons
from airflow_calib_provider.domain.iteration.endings import ADVANCES
from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.jobsets.begin import record_failure
from airflow_calib_provider.jobsets.kill import settle
from airflow_calib_provider.ledger import campaigns, openings, skips, tables
from airflow_calib_provider.ledger.explain import Explanation, Scope, explain_group, explain_run
from airflow_calib_provider.ledger.groups import set_task_states
from airflow_calib_provider.ledger.waiting import look_and_record
from tests.cli.test_airflow import be_filled
from tests.cli.world import NOW, World, row, same_place


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    folder = same_place(tmp_path_factory)
    monkeypatch.setenv("CALIB_HOME", str(folder / "calib"))
    monkeypatch.delenv("CALIB_LEDGER", raising=False)
    made = World(folder)
    yield made
    made.ledger.close()


def ask(world: World, what: int | str, workflow: str | None = "demo", **scope: object) -> Explanation:
    limits = scope.pop("limits", openings.OpeningLimits())
    asked = Scope(str(scope.pop("campaign", "prompt")), NOW, workflow, specs=world.workflows, limits=limits, **scope)  # type: ignore[arg-type]
    with world.ledger.read() as connection:
        if isinstance(what, int):
            return explain_run(connection, asked, what)
        return explain_group(connection, asked, what)


def usual(world: World) -> None:
    """Fill 1 closed by fill 2, which is forming."""
    world.once("filled", be_filled)


def unknown(world: World) -> Explanation:
    usual(world)
    return ask(world, 77)


def incomplete(world: World) -> Explanation:
    world.inject(row(2), row(3, completed=False), row(4), row(5))
    return ask(world, 3)


def behind_incomplete(world: World) -> Explanation:
    world.inject(row(2), row(3, completed=False), row(4), row(5))
    return ask(world, 5)


def incomplete_too(world: World) -> Explanation:
    world.inject(row(2), row(3, completed=False), row(4, completed=False))
    return ask(world, 4)


def settling(world: World) -> Explanation:
    world.inject(row(2), row(3, hours_ago=0.05))
    return ask(world, 3)


def not_yet_injected(world: World) -> Explanation:
    world.inject(row(2), row(3, completed=False), row(4))
    world.runs(row(2), row(3), row(4))
    from airflow_calib_provider.ledger.runs import record_runs
    from airflow_calib_provider.runsources import read_source
    from airflow_calib_provider.spec.loader import load_sources

    records = read_source(load_sources(world.specs / "sources.yaml")["daq"], base_folder=world.specs)
    with world.ledger.write() as connection:
        record_runs(connection, "daq", records, NOW)
    return ask(world, 4)


def where_false(world: World) -> Explanation:
    world.inject(row(2), row(3, lumi=0.0))
    return ask(world, 3)


def before_since(world: World) -> Explanation:
    world.inject(row(1), row(2))
    return ask(world, 1)


def before_first_seen(world: World) -> Explanation:
    file = world.specs / "third.yaml"
    file.write_text(file.read_text().replace(", since: 1", ""))
    world.inject(row(2), row(3))
    return ask(world, 3, "third")


def not_in_campaign(world: World) -> Explanation:
    usual(world)
    with world.ledger.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": [2, 4]})
    return ask(world, 3, campaign="again")


def half_grouped(world: World, *, closed: bool = False) -> Explanation:
    """A finite campaign as an injection leaves it that dies between two parts; by a person who closes it."""
    usual(world)
    with world.ledger.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": [2, 4]})
    world.inject()
    with world.ledger.write() as connection:
        table = tables.grouping
        connection.execute(table.update().where(table.c.campaign == "again").values(assigned_below=0))
        connection.execute(tables.dag_run_request.delete())
        if closed:
            campaigns.close(connection, "again")
    return ask(world, "run-r2", campaign="again")


def half_grouped_and_closed(world: World) -> Explanation:
    return half_grouped(world, closed=True)


def finite_incomplete(world: World) -> Explanation:
    world.inject(row(2), row(3, completed=False), row(4))
    with world.ledger.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": [2, 3, 4]})
    return ask(world, 2, campaign="again")


def null_in_condition(world: World) -> Explanation:
    world.inject(row(2), row(3, lumi=None))
    return ask(world, 3)


def no_fill(world: World) -> Explanation:
    world.inject(row(2), row(3, fill=None))
    return ask(world, 3)


def stuck_too_long(world: World) -> Explanation:
    file = world.specs / "demo.yaml"
    file.write_text(file.read_text().replace("settle: 10m", "incomplete_after: 1h"))
    world.inject(row(2), row(3, completed=False), row(4))
    return ask(world, 3)


def late(world: World) -> Explanation:
    world.inject(row(2), row(4))
    world.inject(row(2), row(3), row(4))
    return ask(world, 3)


def forming(world: World) -> Explanation:
    usual(world)
    return ask(world, "fill-r4")


def dropped(world: World) -> Explanation:
    world.inject(row(2, lumi=1.0), row(3, fill=2), row(4, fill=2))
    return ask(world, 2)


def behind_max_open(world: World) -> Explanation:
    limits = openings.OpeningLimits(max_open=1, window=0)
    world.inject(row(2), row(3), limits=limits)
    return ask(world, "run-r3", limits=limits)


def not_asked(world: World) -> Explanation:
    world.inject(row(2), row(3), limits=openings.OpeningLimits(max_open=1, window=0))
    return ask(world, "run-r3")


def wanted(world: World) -> Explanation:
    world.inject(row(2))
    return ask(world, "run-r2")


def refused_by_airflow(world: World) -> Explanation:
    world.inject(row(2))
    world.refuse_dag_runs("NOT_FOUND: no such DAG")
    return ask(world, "run-r2")


def claimed(world: World) -> Explanation:
    world.inject(row(2))
    with world.ledger.write() as connection:
        openings.claim(connection, "one", NOW)
    return ask(world, "run-r2")


def claimed_by_the_dead(world: World) -> Explanation:
    world.inject(row(2))
    with world.ledger.write() as connection:
        openings.claim(connection, "one", NOW - timedelta(0))
    limits = openings.OpeningLimits()
    scope = Scope("prompt", NOW + timedelta(minutes=2), "demo", None, world.workflows, limits)
    with world.ledger.read() as connection:
        return explain_group(connection, scope, "run-r2")


def opened(world: World) -> Explanation:
    usual(world)
    return ask(world, "run-r2")


def needs(world: World) -> Explanation:
    usual(world)
    world.do("run-r2", "skim")
    return ask(world, "fill-r2", task="scale")


def needs_nothing(world: World) -> Explanation:
    usual(world)
    return ask(world, "run-r2", "third", task="never")


def payload(world: World) -> Explanation:
    usual(world)
    key = (world.group("run-r2", "third").id, "laser")
    look_and_record(world.ledger, [key])
    return ask(world, "run-r2", "third", task="laser")


def all_skipped(world: World) -> Explanation:
    usual(world)
    with world.ledger.write() as connection:
        skips.add(connection, "prompt", "other", [2], reason="noise", person="ada", now=NOW)
    return ask(world, "run-r2", "third", task="never")


def upstream(world: World) -> Explanation:
    usual(world)
    return ask(world, "fill-r2", task="deliver")


def upstream_failed(world: World) -> Explanation:
    usual(world)
    record_failure(world.ledger, world.group("fill-r2").id, "scale", "cannot render", NOW)
    return ask(world, "fill-r2")


def jobs_running(world: World) -> Explanation:
    usual(world)
    generation = world.begin("run-r2", "skim")
    world.observe(generation, 0, AttemptState.RUNNING, host="node1")
    return ask(world, "run-r2")


def retrying(world: World) -> Explanation:
    usual(world)
    generation = world.begin("run-r2", "skim")
    world.observe(generation, 0, AttemptState.FAILED, exit_code=3)
    return ask(world, "run-r2")


def jobs_failed(world: World) -> Explanation:
    usual(world)
    generation = world.begin("run-r2", "skim")
    reason = {"code": "jobs_failed", "n_failed": 1, "n_jobs": 2, "failed": [[1, "killed by signal 9"]]}
    world.end(generation, "failed", reason)
    return ask(world, "run-r2")


class NoBackend:
    """Removes nothing."""

    def remove(self, *_: object) -> None:
        pass


def killed(world: World) -> Explanation:
    usual(world)
    generation = world.begin("run-r2", "skim")
    assert settle(world.ledger, lambda _: NoBackend(), generation, "failed", NOW) == "removed"  # type: ignore[arg-type,return-value]
    return ask(world, "run-r2")


def marked_without_products(world: World) -> Explanation:
    usual(world)
    world.do("run-r2", "skim")
    world.do("run-r3", "skim")
    generation = world.begin("fill-r2", "scale")
    assert settle(world.ledger, lambda _: NoBackend(), generation, "success", NOW) == "kept"  # type: ignore[arg-type,return-value]
    return ask(world, "fill-r2", task="scale")


def skipped(world: World) -> Explanation:
    usual(world)
    with world.ledger.write() as connection:
        skips.add(connection, "prompt", "demo", [2], reason="noise", person="ada", now=NOW)
    return ask(world, 2)


def finished(world: World) -> Explanation:
    usual(world)
    world.do("run-r2", "skim")
    return ask(world, "run-r2")


def published(world: World) -> Explanation:
    usual(world)
    for number in (2, 3):
        world.do(f"run-r{number}", "skim")
    world.do("fill-r2", "scale")
    world.publish("fill-r2")
    return ask(world, "fill-r2", task="deliver")


def publish_failed(world: World) -> Explanation:
    usual(world)
    with world.ledger.write() as connection:
        said = {"code": "error", "message": "the interval overlaps another group's"}
        set_task_states(connection, world.group("fill-r2").id, "failed", said, NOW, task="deliver")
    return ask(world, "fill-r2", task="deliver")


def closed_campaign(world: World) -> Explanation:
    usual(world)
    with world.ledger.write() as connection:
        campaigns.close(connection, "prompt")
    return ask(world, 4)


def nobody_takes_it(world: World) -> Explanation:
    usual(world)
    return ask(world, 2, "nobody")


CASES: list[tuple[Callable[[World], Explanation], str, str]] = [
    (unknown, "run_unknown", "no run 77; the highest is 4"),
    (incomplete, "holds_horizon", "holds back every run above it: 2 completed runs are behind it: 4, 5"),
    (behind_incomplete, "held_by_run", "held back by run 3"),
    (incomplete_too, "not_completed", "does not list it as completed"),
    (incomplete_too, "held_by_run", "held back by run 3"),
    (settling, "settle", "run 3 ended less than 10m ago"),
    (not_yet_injected, "next_inject", "the next calib_inject puts it into a group"),
    (where_false, "where_false", "`run.lumi > 0.0` is false"),
    (before_since, "before_since", "before runs.since (2)"),
    (before_first_seen, "before_first_seen", "first seen"),
    (not_in_campaign, "not_in_campaign", "not one of the campaign's runs"),
    (finite_incomplete, "finite_incomplete", "missing 3"),
    (half_grouped, "campaign_grouping", "again is not grouped completely yet"),
    (half_grouped_and_closed, "campaign_half_grouped", "again was closed before demo was grouped"),
    (null_in_condition, "condition_error", "refused"),
    (no_fill, "field_missing", "the run has no fill, which the grouping fill needs"),
    (stuck_too_long, "incomplete_too_long", "still not completed"),
    (late, "late", "all runs below 5 were already assigned"),
    (forming, "forming", "1 run, 6 of 10 lumi"),
    (dropped, "dropped", "it ended with 1 of 10 lumi"),
    (behind_max_open, "queued_in_ledger", "1 of at most 1 DAG runs of demo__run are open"),
    (not_asked, "dag_run_not_asked", "demo__run was not asked for yet"),
    (wanted, "dag_run_wanted", "prompt__run-r2 is about to be opened"),
    (refused_by_airflow, "dag_run_refused", "refused its DAG run prompt__run-r2 1 time: NOT_FOUND"),
    (claimed, "dag_run_claimed", "being opened right now"),
    (claimed_by_the_dead, "claim_expired", "died"),
    (opened, "dag_run_opened", "Airflow has not started skim yet"),
    (needs, "needs", "1 of 2 runs done in demo.skim; missing 3 (not started)"),
    (needs_nothing, "needs_selected_none", "other.check selected none"),
    (payload, "payload", "0 of 1 runs covered by payloads of Scale; missing 2 (no payload yet)"),
    (all_skipped, "all_skipped", "all 1 runs are skipped in other.check"),
    (upstream, "upstream", "waits for scale in its own DAG run"),
    (upstream_failed, "upstream_ended", "scale is failed"),
    (upstream_failed, "error", "cannot render"),
    (jobs_running, "jobs", "1 running, 1 submitted, waiting for a slot of its machine (CALIB_LOCAL_SLOTS)"),
    (retrying, "retry_pending", "1 job failed and is tried again at 20"),
    (jobs_failed, "jobs_failed", "job 1: killed by signal 9"),
    (killed, "killed", "Airflow's state is failed"),
    (marked_without_products, "marked_success_without_products", "missing products constants of job 0"),
    (skipped, "run_skipped", "skipped by ada: noise"),
    (skipped, "skipped", "skipped by ada: noise"),
    (finished, "done", "all jobs succeeded"),
    (published, "published", "published Scale revision 1 for runs 2–3"),
    (publish_failed, "publish_failed", "could not be published: the interval overlaps"),
    (closed_campaign, "campaign_closed", "the campaign prompt is closed"),
    (nobody_takes_it, "no_workflow", "no workflow nobody"),
]


@pytest.mark.parametrize(("build", "code", "text"), CASES, ids=[f"{case[0].__name__}-{case[1]}" for case in CASES])
def test_cause(world: World, build: Callable[[World], Explanation], code: str, text: str) -> None:
    found = build(world)
    causes = {cause.code: cause for cause in found.causes}
    assert code in causes, [cause.text for cause in found.causes]
    cause = causes[code]
    assert text in cause.text
    if code != "run_unknown":
        assert cause.since is not None
    assert (cause.release == "") == (code in {"done", "published"})


def test_nothing_else_is_said_about_a_simple_wait(world: World) -> None:
    assert [cause.code for cause in needs(world).causes] == ["needs"]


def test_who_looked_last(world: World) -> None:
    cause = payload(world).causes[0]
    assert cause.looked_at is not None
    assert cause.state == "waiting"


def test_a_run_is_explained_in_every_workflow(world: World) -> None:
    usual(world)
    found = ask(world, 2, None)
    assert {cause.workflow for cause in found.causes} == {"demo", "other", "third"}
    assert {item.dag_id for item in found.dag_runs} == {"demo__run", "demo__fill", "third__run"}


def test_explaining_writes_nothing(world: World) -> None:
    from sqlalchemy import func, select

    from airflow_calib_provider.ledger.tables import event

    usual(world)
    with world.ledger.read() as connection:
        before = connection.execute(select(func.count()).select_from(event)).scalar()
    for what in (2, 77, "fill-r2", "fill-r4"):
        ask(world, what)
    with world.ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(event)).scalar() == before


def test_every_wait_has_a_release_and_every_release_a_text() -> None:
    assert set(reasons.RELEASES) <= set(reasons.TEXTS)
    ends = {"done", "published", "unchanged", "marked_success", "running"}
    ends |= {f"iteration_{ending.value}" for ending in ADVANCES}
    assert set(reasons.TEXTS) - set(reasons.RELEASES) == ends


def test_explaining_writes_nothing_beside_a_dag_run_that_is_over(world: World) -> None:
    """Nobody has taken note of that yet, and there is room for a group that has none."""
    behind_max_open(world)
    world.open_dag_runs()
    world.do("run-r2", "skim")
    found = ask(world, 3)
    assert "dag_run_not_asked" in [cause.reason["code"] for cause in found.causes]
