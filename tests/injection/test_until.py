"""Groups until enough was found in their runs, as a task has reported of each (rule 47)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.cli.campaign_show import _heads
from airflow_calib_provider.domain.failed_runs import FailedRuns
from airflow_calib_provider.domain.group_words import why_closed
from airflow_calib_provider.injection import assigning
from airflow_calib_provider.injection.inject import close_campaign
from airflow_calib_provider.ledger import campaigns, skips, tables
from airflow_calib_provider.ledger.campaign_progress import progress
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Explanation, Scope, explain_group, explain_run
from airflow_calib_provider.spec.models import Workflow
from tests.injection.test_boundaries import Died
from tests.injection.test_inject import World
from tests.ledger.making import RUN, done, enough, group_ids, set_state, task, workflow

HOUR = timedelta(hours=1)


def flow(when: str = "sum.pairs >= 100.0 && count >= 2", name: str = "muon", **options: Any) -> Workflow:
    return workflow(
        name, task("skim"), task("select"), task("scale", enough(when, **options), needs=[f"{name}.select@run"])
    )


class Muons(World):
    """With what was selected in each run."""

    def select(self, run: int, *pairs: float, campaign: str = "prompt", at: datetime | None = None) -> None:
        """Each job has found so many."""
        done(self.ledger, self.group(run, campaign), "select", *({"pairs": n} for n in pairs), at=at or self.now)

    def group(self, run: int, campaign: str = "prompt") -> int:
        return group_ids(self.ledger, "run", "muon", campaign)[f"run-r{run}"]

    def made(self, campaign: str = "prompt") -> list[tuple[str, str, list[int]]]:
        """Groups: name, state, runs."""
        table, member = tables.run_group, tables.membership
        with self.ledger.read() as connection:
            query = select(table).where(table.c.grouping == "until", table.c.campaign == campaign)
            rows = connection.execute(query.order_by(table.c.first_run)).all()
            runs = select(member.c.run, member.c.group_id).where(member.c.state == "grouped").order_by(member.c.run)
            members = connection.execute(runs).all()
        return [(row.name, row.state, [one.run for one in members if one.group_id == row.id]) for row in rows]

    def reason(self, name: str) -> Any:
        table = tables.run_group
        with self.ledger.read() as connection:
            return connection.execute(select(table.c.close_reason).where(table.c.name == name)).scalar_one()

    def why(self, what: int | str, spec: Workflow, campaign: str = "prompt") -> Explanation:
        scope = Scope(campaign, self.now, specs={"muon": spec})
        with self.ledger.read() as connection:
            if isinstance(what, str):
                return explain_group(connection, scope, what)
            return explain_run(connection, scope, what)

    def skip(self, run: int, name: str = "", campaign: str = "prompt") -> None:
        with self.ledger.write() as connection:
            skips.add(connection, campaign, "muon", [run], task=name, reason="bad", person="me", now=self.now)


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path) -> Muons:
    return Muons(ledger, tmp_path)


def test_a_group_closes_with_the_run_with_which_it_has_enough(world: Muons) -> None:
    world.runs(*range(1, 8))
    world.inject(flow())
    assert world.made() == []
    for run, pairs in enumerate([60.0, 30.0, 20.0, 150.0, 1.0], 1):
        world.select(run, pairs)
    world.inject(flow())
    assert world.made() == [("until-r1", "closed", [1, 2, 3]), ("until-r4", "closed", [4, 5])]
    assert world.reason("until-r1")["values"] == {"sum.pairs": 110.0, "count": 3}
    assert why_closed(world.reason("until-r1")) == "110 sum.pairs and 3 count, of select, are enough"
    assert world.inject(flow()).assigned == 0
    world.select(6, 3.0)
    world.inject(flow())
    assert world.made()[-1] == ("until-r6", "forming", [6])
    with world.ledger.read() as connection:
        query = select(tables.membership.c.record).where(
            tables.membership.c.run == 2, tables.membership.c.grouping == "until"
        )
        record = connection.execute(query).scalar_one()
    assert record["reported values"] == {"select": {"pairs": [30.0, 30.0, 30.0]}}


def test_of_several_jobs_the_sum_the_least_and_the_largest_count(world: Muons) -> None:
    spec = flow("sum.pairs >= 100.0 && min.pairs < 10.0 && max.pairs > 50.0")
    world.runs(1, 2, 3)
    world.inject(spec)
    world.select(1, 40.0, 45.0, 30.0)
    world.select(2, 60.0)
    world.select(3, 5.0)
    world.inject(spec)
    assert world.made() == [("until-r1", "closed", [1, 2, 3])]


def test_a_run_whose_values_are_not_known_holds_what_follows_and_is_named(world: Muons) -> None:
    world.runs(*range(1, 6))
    world.inject(flow())
    world.select(1, 60.0)
    for run in (3, 4):
        world.select(run, 60.0)
    report = world.inject(flow())
    assert world.made() == [("until-r1", "forming", [1])]
    (said,) = report.waits
    assert "no run from 2 on is put into groups of until" in said
    assert "muon.select has not begun for it (run-r2)" in said
    for what in (2, 4, "until-r1"):
        (cause,) = [one for one in world.why(what, flow()).causes if one.code == "value_awaited"]
        assert cause.text == said
        assert "`calib skip 2 --workflow muon --task select" in cause.release
    set_state(world.ledger, world.group(2), "select", "processing", "failed")
    (cause,) = [one for one in world.why(4, flow()).causes if one.code == "value_failed"]
    assert "`calib retry run-r2 --workflow muon`" in cause.release
    world.select(2, 10.0)
    world.inject(flow())
    assert world.made() == [("until-r1", "closed", [1, 2, 3]), ("until-r4", "forming", [4])]
    assert [one.code for one in world.why(5, flow()).causes if one.code.startswith("value")] == ["value_awaited"]


def test_a_task_that_is_done_and_has_not_reported_the_value_holds_and_says_what_it_reports(world: Muons) -> None:
    world.runs(1, 2)
    world.inject(flow())
    done(world.ledger, world.group(1), "select", {"pair": 5.0, "chi2": 1.0})
    world.inject(flow())
    (cause,) = [one for one in world.why(1, flow()).causes if one.code == "value_not_reported"]
    assert "has not reported pairs; it reports chi2, pair" in cause.text
    world.inject(flow("sum.pair >= 100.0"))
    assert world.made() == [("until-r1", "forming", [1])]


@pytest.mark.parametrize("name", ["", "select"])
def test_a_skipped_run_is_in_the_group_and_counts_nothing(world: Muons, name: str) -> None:
    world.runs(1, 2, 3)
    world.inject(flow())
    for run in (1, 2, 3):
        world.select(run, 60.0)
    world.skip(2, name)
    world.inject(flow())
    assert world.made() == [("until-r1", "closed", [1, 2, 3])]
    assert world.reason("until-r1")["values"] == {"sum.pairs": 120.0, "count": 2}


@pytest.mark.parametrize("where", ["select", "skim"])
def test_a_run_that_has_failed_is_waited_for_or_left_out_as_the_policy_says(world: Muons, where: str) -> None:
    before = task("skim"), task("select", needs=["muon.skim@run"])

    def spec(**options: Any) -> Workflow:
        return workflow("muon", *before, task("scale", enough("sum.pairs >= 100.0", **options)))

    later = spec(failed_runs=FailedRuns(exclude=0.5, after=6 * HOUR))
    world.runs(1, 2, 3)
    world.inject(spec())
    for run in (1, 3):
        world.select(run, 60.0)
    set_state(world.ledger, world.group(2), where, "processing", "failed")
    world.inject(spec())
    assert world.made() == [("until-r1", "forming", [1])]
    with world.ledger.write() as connection:
        table = tables.group_task
        connection.execute(table.update().where(table.c.state == "failed").values(since=world.now))
    world.inject(later)
    assert world.made() == [("until-r1", "forming", [1])]
    (cause,) = [one for one in world.why(3, later).causes if one.code == "value_failed"]
    assert "it goes on without it from" in cause.text
    world.inject(later, now=world.now + 7 * HOUR)
    assert world.made() == [("until-r1", "closed", [1, 2, 3])]


def test_a_newer_value_counts_until_the_run_is_assigned_and_no_longer(world: Muons) -> None:
    world.runs(1, 2, 3)
    world.inject(flow())
    world.select(1, 10.0)
    world.inject(flow())
    world.select(1, 500.0)  # frozen
    world.select(2, 10.0)
    world.select(2, 95.0)
    world.inject(flow())
    assert world.made() == [("until-r1", "closed", [1, 2])]
    assert world.reason("until-r1")["values"]["sum.pairs"] == 105.0


def test_what_is_in_no_group_there_is_in_none_here_and_holds_nobody(world: Muons) -> None:
    world.runs(1, 3, 5)
    world.inject(flow())
    world.select(1, 30.0)
    world.inject(flow())  # waits for 3
    world.runs(1, 3, 4, 5)
    world.inject(flow())
    assert world.members("run", "muon")[4] == "late late"
    for run in (3, 5):
        world.select(run, 60.0)
    world.inject(flow())
    assert world.members("until", "muon") == {1: "until-r1", 3: "until-r1", 4: "late late", 5: "until-r1"}


def test_a_run_that_is_late_there_with_a_group_of_its_own_is_not_late_where_it_was_waited(world: Muons) -> None:
    late = RUN.model_copy(update={"late_runs": "new_group"})
    spec = workflow("muon", task("select", late), task("scale", enough("sum.pairs >= 100.0")))
    world.runs(1, 3, 5)
    world.inject(spec)
    world.select(1, 30.0)
    world.inject(spec)  # waits for 3
    world.runs(1, 3, 4, 5)
    world.inject(spec)
    for run in (3, 4):
        world.select(run, 40.0)
    world.inject(spec)
    assert world.made() == [("until-r1", "closed", [1, 3, 4])]


def test_late_runs_form_groups_of_their_own_when_their_values_are_known(world: Muons) -> None:
    late = RUN.model_copy(update={"late_runs": "new_group"})
    spec = workflow("muon", task("select", late), task("scale", enough("sum.pairs >= 100.0", late_runs="new_group")))
    world.runs(1, 5)
    world.inject(spec)
    for run in (1, 5):
        world.select(run, 60.0)
    world.inject(spec)
    world.runs(1, 2, 3, 5, 6)
    world.inject(spec)
    assert world.members("until", "muon").keys() == {1, 5}
    (cause,) = [one for one in world.why(3, spec).causes if one.code == "value_awaited"]
    assert "the values of run 3" in cause.text
    world.select(6, 10.0)
    world.inject(spec)
    assert world.made()[-1] == ("until-r6", "forming", [6]), "they hold each other only"
    for run in (2, 3):
        world.select(run, 60.0)
    world.inject(spec)
    assert world.made() == [
        ("until-r1", "closed", [1, 5]), ("until-r2", "closed", [2, 3]), ("until-r6", "forming", [6]),
    ]  # fmt: skip


def test_runs_that_the_workflow_does_not_take_hold_nobody(world: Muons) -> None:
    spec = workflow("muon", task("select"), task("scale", enough("sum.pairs >= 100.0")), where="run.lumi_pb > 10.0")
    world.runs(1, {"number": 2, "lumi_pb": 1.0}, 3)
    world.inject(spec)
    for run in (1, 3):
        world.select(run, 60.0)
    world.inject(spec)
    assert world.made() == [("until-r1", "closed", [1, 3])]


def test_the_clock_ends_a_group_whose_next_run_is_held(world: Muons) -> None:
    spec = flow(max_wait=5 * HOUR)
    world.runs(1, 2)
    world.inject(spec, now=world.now)
    world.select(1, 60.0)
    world.inject(spec)
    assert world.made() == [("until-r1", "closed", [1])]


def test_a_death_between_two_parts_loses_nothing(world: Muons, monkeypatch: pytest.MonkeyPatch) -> None:
    world.runs(*range(1, 21))
    world.inject(flow())
    for run in range(1, 18):
        world.select(run, 35.0)
    monkeypatch.setattr(assigning, "AT_ONCE", 4)
    left = 3

    def die(name: str, what: str) -> None:
        nonlocal left
        left -= name == "inject.after_commit"
        if not left:
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(assigning, "crash_point", die)
        with pytest.raises(Died):
            world.inject(flow())
    assert len(world.members("until", "muon")) < 17
    world.inject(flow())
    expected = [(f"until-r{n}", "closed", [n, n + 1, n + 2]) for n in range(1, 16, 3)]
    assert world.made() == [*expected, ("until-r16", "forming", [16, 17])]


def finite(world: Muons, spec: Workflow, runs: range, **more: Any) -> None:
    with world.ledger.write() as connection:
        campaigns.create(
            connection, "c", kind="finite", runs={"daq": list(runs)}, spec_hashes={"muon": spec.hash}, **more
        )


def test_in_a_finite_campaign_it_is_made_when_all_values_are_known_and_others_do_not_wait(world: Muons) -> None:
    spec = flow(tail="previous")
    world.runs(*range(1, 9))
    world.inject(spec)
    finite(world, spec, range(1, 8))
    world.inject(spec)
    assert len(world.members("run", "muon", "c")) == 7
    with world.ledger.read() as connection:
        assert campaigns.get(connection, "c").state == "open"
    for run in range(1, 7):
        world.select(run, 55.0, campaign="c")
    assert world.inject(spec).waits != []
    assert world.made("c") == []
    with world.ledger.read() as connection:
        shown = dict(_heads(progress(connection, "c", world.now)))
    assert shown["to be made"] == (
        "until of muon is made when the values of all of its runs are known: "
        "`calib explain 1 --workflow muon --campaign c` names the run that holds it"
    )
    (cause,) = [one for one in world.why(1, spec, "c").causes if one.code.startswith("value")]
    assert "run 7" in cause.text
    assert "--campaign c" in cause.release
    world.select(7, 1.0, campaign="c")
    world.inject(spec)
    assert world.made("c") == [
        ("until-r1", "closed", [1, 2]), ("until-r3", "closed", [3, 4]), ("until-r5", "closed", [5, 6, 7]),
    ]  # fmt: skip
    with world.ledger.read() as connection:
        table = tables.grouping
        assert not progress(connection, "c", world.now).to_make
        bounds = connection.execute(select(table.c.label, table.c.assigned_below).where(table.c.campaign == "c")).all()
    assert {tuple(row) for row in bounds} == {("run", 8), ("until", 8)}


def test_a_death_in_a_finite_campaign_opens_nothing_before_the_last_part(
    world: Muons, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = flow(tail="previous")
    world.runs(*range(1, 10))
    world.inject(spec)
    finite(world, spec, range(1, 10))
    world.inject(spec)
    for run in range(1, 10):
        world.select(run, 55.0, campaign="c")
    monkeypatch.setattr(assigning, "AT_ONCE", 3)
    left = 2

    def die(name: str, what: str) -> None:
        nonlocal left
        left -= name == "inject.after_commit"
        if not left:
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(assigning, "crash_point", die)
        with pytest.raises(Died):
            world.inject(spec)
    with world.ledger.read() as connection:
        table = tables.grouping
        here = (table.c.campaign == "c", table.c.label == "until")
        assert connection.execute(select(table.c.assigned_below).where(*here)).scalar_one() == 0
    world.inject(spec)
    assert [one[2] for one in world.made("c")] == [[1, 2], [3, 4], [5, 6], [7, 8, 9]]


def test_from_the_middle_the_values_are_those_of_the_base(world: Muons) -> None:
    spec = flow()
    world.runs(*range(1, 5))
    world.inject(spec)
    for run in (1, 2, 3):
        world.select(run, 60.0)
    begin = {"muon": {"first": ["scale"], "before": ["skim", "select"]}}
    finite(world, spec, range(1, 5), base_campaign="prompt", first_tasks=begin)
    world.inject(spec)
    assert world.made("c") == []
    (cause,) = [one for one in world.why(2, spec, "c").causes if one.code.startswith("value")]
    assert "muon.select in prompt has not begun for it (run-r4)" in cause.text
    assert "`calib explain 4 --workflow muon --task select`" in cause.release
    assert "`calib skip 4 --workflow muon --campaign c" in cause.release
    world.skip(4, campaign="c")
    world.inject(spec)
    assert world.made("c") == [("until-r1", "closed", [1, 2]), ("until-r3", "closed", [3, 4])]
    assert world.members("run", "muon", "c") == {}


def test_when_a_campaign_is_closed_what_forms_ends_and_what_waits_stays_where_it_is(world: Muons) -> None:
    world.runs(1, 2, 3)
    world.inject(flow())
    world.select(1, 60.0)
    world.inject(flow())
    close_campaign(world.ledger, {"muon": flow()}, "prompt", world.now)
    assert world.made() == [("until-r1", "closed", [1])]


def test_statements_do_not_depend_on_the_number_of_runs(world: Muons) -> None:
    from tests.ledger.test_waiting import statements

    counts = []
    for highest in (50, 140, 290):
        world.runs(*range(1, highest))
        world.inject(flow())
        for name, group in group_ids(world.ledger, "run", "muon").items():
            if int(name[5:]) not in world.members("until", "muon"):
                done(world.ledger, group, "select", {"pairs": 30.0})
        with statements(world.ledger) as seen:
            world.inject(flow())
        counts.append(len(seen))
    assert counts[1] == counts[2]
