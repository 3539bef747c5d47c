"""A group goes on without runs that have failed in what it needs, and says so (rule 49)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from airflow_calib_provider import api
from airflow_calib_provider.domain.failed_runs import FailedRuns
from airflow_calib_provider.domain.reasons import Cause, render
from airflow_calib_provider.errors import CalibError, IllegalTransition, NotOpen
from airflow_calib_provider.jobsets.begin import Begun, begin
from airflow_calib_provider.jobsets.context import gather
from airflow_calib_provider.jobsets.folders import product_path
from airflow_calib_provider.jobsets.publish import publish_group
from airflow_calib_provider.ledger import generations, groups, openings, queries, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_group, explain_run
from airflow_calib_provider.ledger.locks.base import Look
from airflow_calib_provider.ledger.waiting import look, unopened_looks
from airflow_calib_provider.spec.models import Workflow
from tests.ledger.making import T0, count, done, facts, fill, group_ids, new_ledger, put_runs, set_state, task, workflow
from tests.postgres.fixture import database  # noqa: F401  on both

HOUR = timedelta(hours=1)
FAILED = {"code": "jobs_failed", "n_failed": 1, "n_jobs": 1, "failed": [[0, "exit code 3"]]}
RUNS = [*(facts(number, 1) for number in range(1, 11)), facts(11, 2)]


def flow_of(exclude: float | None = 0.1, after: timedelta | None = None) -> Workflow:
    policy = fill(failed_runs=None if exclude is None else FailedRuns(exclude=exclude, after=after))
    return workflow(
        "ecal",
        task("skim"),
        task("select", needs=["ecal.skim@run"]),
        task("scale", policy, needs=["ecal.select@run"], products={"c": "c.json"}),
        task("final", policy, needs=["ecal.scale@fill"], products={"c": "c.json"}),
        task("deliver", policy, needs=["ecal.final@fill"], publish="Scale", file="{{ tasks.final.products.c }}"),
        task("direct", policy, needs=["ecal.skim@run"], publish="Direct", file="{{ products }}"),
    )


class Story:
    """Ten runs of a fill, all of them done but those that fail."""

    def __init__(self, ledger: Ledger, flow: Workflow) -> None:
        self.ledger, self.flow = ledger, flow
        put_runs(ledger, flow, RUNS)
        self.of_run = group_ids(ledger, "run")
        self.group = group_ids(ledger, "fill")["fill-r1"]

    def fail(self, run: int, name: str = "select", at: datetime = T0) -> None:
        group = self.of_run[f"run-r{run}"]
        with self.ledger.write() as connection:
            groups.set_task_states(connection, group, "failed", FAILED, at, task=name)

    def do(self, *but: int) -> None:
        for number in range(1, 11):
            if number not in but:
                for name in ("skim", "select"):
                    done(self.ledger, self.of_run[f"run-r{number}"], name)

    def redo(self, run: int) -> None:
        """A person repairs what has failed."""
        for name in ("skim", "select"):
            done(self.ledger, self.of_run[f"run-r{run}"], name)

    def look(self, name: str = "scale", now: datetime = T0) -> Look:
        with self.ledger.read() as connection:
            return look(connection, [(self.group, name)], now)[self.group, name]

    def begin(self, name: str = "scale", now: datetime = T0, max_tries: int = 8) -> Begun:
        spec = self.flow.tasks[name]
        run_id = "prompt__fill-r1"
        return begin(self.ledger, self.flow, spec, self.group, max_tries=max_tries, dag_run_id=run_id, now=now)

    def finish(self, name: str = "scale", max_tries: int = 8) -> Any:
        """What the jobs of a task and their watcher do."""
        begun = self.begin(name, max_tries=max_tries)
        with self.ledger.write() as connection:
            row = generations.by_id(connection, begun.generation_id)
            for label, file in row.products.items():
                path = product_path(row.folder, 0, file)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(str(row.runs))
                where = {"generation_id": row.id, "step": 0, "job_index": 0, "name": label, "file": file}
                connection.execute(tables.product.insert(), where)
            generations.end(connection, row, "done", {"code": "done"}, T0)
        return row

    def publish(self) -> dict[str, Any]:
        """Its provenance."""
        publish_group(self.ledger, self.flow, self.flow.tasks["deliver"], self.group, now=T0)
        newest = select(tables.payload.c.provenance).order_by(tables.payload.c.revision.desc()).limit(1)
        with self.ledger.read() as connection:
            return dict(connection.execute(newest).scalar_one())

    def causes(self, run: int | None = None, campaign: str = "prompt") -> list[Cause]:
        scope = Scope(campaign, T0, specs={"ecal": self.flow})
        with self.ledger.read() as connection:
            if run is not None:
                return explain_run(connection, scope, run).causes
            return explain_group(connection, scope, "fill-r1").causes


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Iterator[Ledger]:  # noqa: F811
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    made = new_ledger(tmp_path)
    yield made
    made.close()


@pytest.fixture
def story(ledger: Ledger) -> Story:
    made = Story(ledger, flow_of())
    made.do(7)
    return made


def test_one_of_ten_is_left_out_and_stands_in_the_provenance(story: Story) -> None:
    assert story.look().state == "waiting"
    story.fail(7)
    seen = story.look()
    assert (seen.state, list(seen.without)) == ("open", [7])
    row = story.finish()
    assert (row.runs, row.excluded_runs) == ([1, 2, 3, 4, 5, 6, 8, 9, 10], [7])
    story.finish("final")
    said = story.publish()
    assert (said["runs"], said["excluded_runs"]) == ([1, 2, 3, 4, 5, 6, 8, 9, 10], [7])
    reason = said["failed_runs"]["7"]
    assert (reason["failed"], reason["needs"]) == ("ecal.select", "ecal.select")
    assert "exit code 3" in reason["said"]
    told = count(story.ledger, tables.event, tables.event.c.entity == "excluded_run", tables.event.c.run == 7)
    assert told == 1


def test_without_the_key_it_waits(ledger: Ledger) -> None:
    story = Story(ledger, flow_of(None))
    story.do(7)
    story.fail(7)
    assert render(story.look(now=T0 + 10_000 * HOUR).reason).endswith("missing 7 (failed)")
    with pytest.raises(NotOpen):
        story.begin(now=T0 + 10_000 * HOUR)


def test_more_failures_than_allowed_exclude_none(story: Story) -> None:
    story.fail(7)
    with story.ledger.write() as connection:
        old = tables.generation.c.group_id == story.of_run["run-r8"], tables.generation.c.task == "select"
        connection.execute(update(tables.generation).where(*old).values(state="failed"))
    story.fail(8)
    said = render(story.look().reason)
    assert said.startswith("8 of 10 runs done in ecal.select; missing 7 (failed; 2 of 10 runs have, and it goes on")
    assert "without 1 at most), 8 (failed; 2 of 10" in said
    with pytest.raises(NotOpen, match="without 1 at most"):
        story.begin()
    assert count(story.ledger, tables.excluded_run) == 0


def test_it_is_waited_for_as_long_as_is_said(ledger: Ledger) -> None:
    story = Story(ledger, flow_of(0.1, 6 * HOUR))
    story.do(7)
    story.fail(7, at=T0 + HOUR)
    said = render(story.look(now=T0 + 6 * HOUR).reason)
    assert said.endswith("missing 7 (failed; it goes on without it from 2026-01-01 07:00 UTC on)")
    with pytest.raises(NotOpen, match="from 2026-01-01 07:00 UTC"):
        story.begin(now=T0 + 6 * HOUR)
    assert story.begin(now=T0 + 7 * HOUR).state == "running"
    assert count(ledger, tables.excluded_run) == 1


def test_what_comes_after_a_failed_task_has_failed_for_its_run_too(story: Story) -> None:
    story.fail(7, "skim")
    assert story.look().state == "open"
    story.finish()
    with story.ledger.read() as connection:
        reason = connection.execute(select(tables.excluded_run.c.reason)).scalar_one()
    assert (reason["needs"], reason["failed"]) == ("ecal.select", "ecal.skim")


def test_a_run_that_works_still_holds_it(story: Story) -> None:
    story.fail(7)
    for state in ("new", "waiting", "processing"):
        set_state(story.ledger, story.of_run["run-r7"], "select", state)
        assert story.look().state == "waiting"
    with pytest.raises(NotOpen):
        story.begin()


def test_it_opens_groups_that_wait_in_the_ledger(story: Story) -> None:
    story.fail(7)
    with story.ledger.read() as connection:
        assert unopened_looks(connection, [story.group])[story.group, "scale"].state == "open"
    with story.ledger.write() as connection:
        openings.plan(connection, T0, openings.OpeningLimits(window=0))
        asked = set(connection.execute(select(tables.dag_run_request.c.group_id)).scalars())
    assert story.group in asked


def test_a_skip_is_no_failure(story: Story) -> None:
    """What a person takes out does not use up what may fail."""
    with story.ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", [7], reason="magnet off", person="ada", now=T0)
        old = tables.generation.c.group_id == story.of_run["run-r8"], tables.generation.c.task == "select"
        connection.execute(update(tables.generation).where(*old).values(state="failed"))
    story.fail(8)
    row = story.finish()
    assert (row.excluded_runs, list(row.used["failed_runs"])) == ([7, 8], ["8"])


def test_never_all_of_them(ledger: Ledger) -> None:
    story = Story(ledger, flow_of(1.0))
    for run in range(1, 11):
        story.fail(run)
    assert story.look().state == "waiting"
    for run in range(1, 10):
        with ledger.write() as connection:
            skips.add(connection, "prompt", "ecal", [run], task="scale", reason="x", person="ada", now=T0)
    seen = story.look()
    assert (seen.state, seen.reason and seen.reason["missing"]) == ("waiting", [[10, "failed"]])


def test_one_that_is_done_later_enters_only_by_amending(story: Story, tmp_path: Path) -> None:
    story.fail(7)
    story.finish()
    story.finish("final")
    assert story.publish()["excluded_runs"] == [7]
    with pytest.raises(CalibError, match=r"run 7 is not done yet: ecal\.select has failed for it"):
        api.amend_group(story.ledger, "fill-r1", add=[7], reason="repaired", person="ada")
    story.redo(7)
    # A clear makes it again, without it.
    row = story.finish(max_tries=9)
    assert (row.n, row.excluded_runs) == (2, [7])
    amended = api.amend_group(story.ledger, "fill-r1", add=[7], reason="repaired", person="ada")
    assert (amended.edition, amended.added, amended.stale) == (2, [7], ["scale", "final", "deliver"])
    assert count(story.ledger, tables.excluded_run) == 0
    row = story.finish(max_tries=10)
    assert (row.n, row.runs, row.excluded_runs) == (3, list(range(1, 11)), [])
    assert "failed_runs" not in row.used
    story.finish("final", max_tries=10)
    said = story.publish()
    assert (said["runs"], said["excluded_runs"], said["edition"]) == (list(range(1, 11)), [], 2)


def test_another_failure_meanwhile_lets_it_begin_anew(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_calib_provider.jobsets import begin as module

    story.fail(7)

    def slowly(*arguments: Any, **options: Any) -> Any:
        found = gather(*arguments, **options)
        story.redo(7)
        return found

    monkeypatch.setattr(module, "gather", slowly)
    with pytest.raises(IllegalTransition, match="the failed runs of fill-r1 are others by now"):
        story.begin()
    assert count(story.ledger, tables.generation, tables.generation.c.task == "scale") == 0
    monkeypatch.undo()
    assert story.finish().excluded_runs == []


def test_people_are_told(story: Story) -> None:
    story.fail(7)
    assert "failed" in [cause.state for cause in story.causes(7) if cause.task == "select"]
    story.finish()
    (cause,) = [cause for cause in story.causes(7) if cause.state == "excluded"]
    assert (cause.about, cause.group, cause.task) == ("run 7 in ecal.scale of fill-r1", "fill-r1", "scale")
    assert cause.text.startswith("left out: ecal.select failed for it at 2026-01-01 00:00 UTC: 1 of 1 jobs")
    assert '`calib group amend fill-r1 --add 7 --workflow ecal --reason "..."`' in cause.release
    assert [one.about for one in story.causes() if one.state == "excluded"] == [cause.about]
    assert not [one for one in story.causes(6) if one.state == "excluded"]
    with story.ledger.read() as connection:
        seen = queries.status(connection, "prompt", last=0)
    names = [column.name for column in seen.columns]
    # What comes after it is without the run, too; what does not need it is not.
    for name, state in (("scale", "done"), ("final", "new"), ("deliver", "new")):
        place = names.index(f"ecal.{name}")
        assert [row.states[place] for row in seen.rows] == [*[state] * 6, "excluded", *[state] * 3, "new"]
        assert seen.totals[place] == Counter([*[state] * 9, "excluded", "new"])
    direct = names.index("ecal.direct")
    assert seen.rows[6].states[direct] == "new"
    assert seen.totals[direct] == {"new": 11}


def test_a_run_that_is_skipped_besides_counts_as_skipped(story: Story) -> None:
    story.fail(7)
    story.finish()
    with story.ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", [7], task="final", reason="x", person="ada", now=T0)
    with story.ledger.read() as connection:
        seen = queries.status(connection, "prompt", last=0)
    places = [[column.name for column in seen.columns].index(f"ecal.{name}") for name in ("scale", "final", "deliver")]
    assert [seen.rows[6].states[place] for place in places] == ["excluded", "skipped", "excluded"]
    assert [seen.totals[place] for place in places] == [
        {"done": 9, "excluded": 1, "new": 1}, {"new": 10, "skipped": 1}, {"new": 10, "excluded": 1},
    ]  # fmt: skip


def test_what_another_workflow_makes_of_it_says_so_too(story: Story) -> None:
    other = workflow("mu", task("merge", fill(), needs=["ecal.scale@fill"], products={"m": "m.json"}))
    put_runs(story.ledger, other, RUNS)
    story.fail(7)
    story.finish()
    group = group_ids(story.ledger, "fill", "mu")["fill-r1"]
    with story.ledger.read() as connection:
        found = gather(connection, other, other.tasks["merge"], group, now=T0)
    assert (found.excluded_runs, list(found.used["failed_runs"])) == ([7], ["7"])


def test_a_publication_goes_on_without_them_too(story: Story) -> None:
    with story.ledger.write() as connection:
        old = tables.generation.c.group_id == story.of_run["run-r8"], tables.generation.c.task == "skim"
        connection.execute(update(tables.generation).where(*old).values(state="failed"))
    story.redo(7)
    story.fail(8, "skim")
    file = product_path("prompt/ecal/scale/fill-r1/g1", 0, "d.json")
    file.parent.mkdir(parents=True)
    file.write_text("1")
    spec = story.flow.tasks["direct"]
    assert spec.publish is not None
    spec = spec.model_copy(update={"publish": spec.publish.model_copy(update={"file": str(file)})})
    flow = story.flow.model_copy(update={"tasks": {**story.flow.tasks, "direct": spec}})
    publish_group(story.ledger, flow, spec, story.group, now=T0)
    with story.ledger.read() as connection:
        said = connection.execute(select(tables.payload.c.provenance)).scalar_one()
        rows = connection.execute(select(tables.excluded_run.c.task, tables.excluded_run.c.run)).all()
    assert (said["excluded_runs"], list(said["failed_runs"])) == ([8], ["8"])
    assert [tuple(row) for row in rows] == [("direct", 8)]


def test_where_only_left_out_runs_stay_it_waits_until_they_are_taken_in(story: Story) -> None:
    story.fail(7)
    story.finish()
    story.redo(7)
    others = [run for run in range(1, 11) if run != 7]
    with story.ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", others[:-1], reason="x", person="ada", now=T0)
    assert story.look().state == "open"
    api.amend_group(story.ledger, "fill-r1", remove=others[-1:], reason="bad", person="ada")
    seen = story.look()
    assert (seen.state, seen.reason) == ("waiting", {"code": "all_left_out", "runs": [7]})
    with pytest.raises(NotOpen, match=r"it went on without 7 before"):
        story.begin(max_tries=9)
    api.amend_group(story.ledger, "fill-r1", add=[7], reason="repaired", person="ada")
    assert story.look().state == "open"
    assert story.finish(max_tries=10).runs == [7]
