"""Any history gives what the rules say: injections into a real ledger against a reference written from the rules.

What :mod:`tests.planning.test_reference` leaves out: sources that correct and withdraw runs before and after these are
assigned, injections that die between two transactions, runs that are skipped or fail in what groups need, and groups
that persons amend. Several histories share a ledger, as workflows do, and each must go on as if it were alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import select

from airflow_calib_provider.domain.failed_runs import FailedRuns
from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.injection import amending, assigning, ended
from airflow_calib_provider.injection.amendments import Amendment
from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.ledger import campaigns, generations, groups, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.waiting import look
from airflow_calib_provider.spec.models import FieldType, RunSource, Workflow
from tests.domain.after_reference import Editions, Stands, Work, may_add, stands
from tests.domain.grouping_reference import Asked, One, Outcome, Selection, Tick, Told, has_no_field
from tests.domain.grouping_reference import history as by_the_rules
from tests.ledger.making import RUN, new_ledger, task, workflow
from tests.planning.stories import BASE, FIELDS, TOGETHER, History, Line, Moment, Stories, together
from tests.planning.test_reference import policy_of

COLUMNS = ("number", "start", "end", "completed", *FIELDS)


class Died(BaseException):
    """Instead of a death between two transactions."""


def is_told(line: Line, number: int, found: tuple[float, ...] | None) -> Told:
    """What a line of the source says, for the reference.

    :param found: what jobs report of the run when they are done.
    """
    fields = {name: line[name] for name in FIELDS}
    return Told(One(number, line["start"], line["end"], fields, found=found), bool(line["completed"]))


def is_admitted(one: One) -> bool:
    """The condition of those that have one."""
    return one.fields["lumi_pb"] is None or one.fields["lumi_pb"] > 6.0


@dataclass
class Reference:
    """What the rules say of a history so far.

    :ivar left_out: group and task → the runs that it went on without.
    :ivar begun: those that are done.
    """

    story: History
    ticks: list[Tick] = field(default_factory=list)
    known: set[int] = field(default_factory=set)
    work: Work = field(default_factory=Work)
    editions: Editions = field(default_factory=Editions)
    left_out: dict[tuple[int, str], set[int]] = field(default_factory=dict)
    begun: set[tuple[int, str]] = field(default_factory=set)
    kept: dict[tuple[str, int], Outcome] = field(default_factory=dict)

    def tick(self, moment: Moment) -> None:
        """An injection."""
        self.known |= set(moment.listed)
        found = self.story.found
        listed = {number: is_told(line, number, found.get(number)) for number, line in moment.listed.items()}
        gone = frozenset(self.known - set(moment.listed))
        tick = Tick(moment.now, listed, frozenset(self.work.skipped), gone)
        self.ticks.append(tick)
        if self.story.asked.kind == "until":
            # Single runs come first: what became of one decides what is known of its values.
            before = self.ticks[-2].listed if len(self.ticks) > 1 else {}
            known, of_run = {**before, **listed}, self.of_run()
            valued = {run: replace(one, values=self.valued(run, of_run, moment.now)) for run, one in known.items()}
            self.ticks[-1] = replace(tick, listed=valued)

    def valued(self, run: int, of_run: Mapping[int, str], now: datetime) -> str:
        """How a run stands with its values (47)."""
        failing, work = self.story.failing, self.work
        if run in work.skipped:
            return "without"
        if of_run.get(run, "grouped") != "grouped":
            return of_run[run]
        if run in work.done:
            return "known"
        is_left_out = failing is not None and run in work.failed and now >= work.failed[run] + failing.after
        return "without" if is_left_out else "unknown"

    def found(self, asked: Asked | None = None, ticks: int = 0) -> Outcome:
        """What the rules for groups give.

        :param ticks: after so many injections; 0: all.
        """
        asked, ticks = asked or self.story.asked, ticks or len(self.ticks)
        if (asked.kind, ticks) not in self.kept:
            chosen = self.story.selection
            admits = is_admitted if chosen.where else lambda _: True
            selection = Selection(admits, int(str(chosen.since)), chosen.settle, chosen.incomplete_after)
            self.kept[asked.kind, ticks] = by_the_rules(asked, selection, self.ticks[:ticks])
        return self.kept[asked.kind, ticks]

    def of_run(self) -> dict[int, str]:
        """What became of each run in the grouping of single runs."""
        return self.found(Asked("run", late=self.story.asked.late)).states

    def left_out_of(self, name: int, *but: str) -> set[int]:
        """What tasks of a group went on without."""
        return {run for key, runs in self.left_out.items() if key[0] == name and key[1] not in but for run in runs}

    def stands(self, name: int, named: str, now: datetime) -> Stands:
        """How a task of a closed group stands."""
        runs = self.editions.groups(self.found())[name].runs
        mine = self.left_out.get((name, named), set())
        return stands(self.story.failing, runs, self.of_run(), self.work, mine, self.left_out_of(name, named), now)

    def allows(self, name: int, add: set[int], remove: set[int]) -> bool:
        """Whether a person may amend a group so."""
        found, left = self.found(), self.left_out_of(name)
        runs = set(self.editions.groups(found)[name].runs)
        return (
            bool(add | remove)
            and not add & remove
            and remove <= runs
            and bool((runs | add) - remove)
            and all(may_add(self.editions, found, name, run, left, self.work) for run in add)
            and not any(has_no_field(self.story.asked, self.decided(run)) for run in add - runs)
        )

    def decided(self, run: int) -> One:
        """A run as it was when something was decided about it."""
        for place in range(1, len(self.ticks) + 1):
            if run in self.found(ticks=place).states:
                return next(tick.listed[run].one for tick in reversed(self.ticks[:place]) if run in tick.listed)
        raise AssertionError(run)

    def amend(self, name: int, add: set[int], remove: set[int]) -> None:
        """Done tasks of all groups that become others are to be done again."""
        found = self.found()
        before = self.editions.groups(found)
        self.editions.amend(found, name, add, remove)
        after = self.editions.groups(found)
        changed = {other for other in after if after[other].runs != before[other].runs} | {name}
        self.begun = {key for key in self.begun if key[0] not in changed}
        for key, runs in self.left_out.items():
            if key[0] in changed:
                runs &= set(after[key[0]].runs) - (add if key[0] == name else set())


class World:
    """The same in a ledger."""

    def __init__(self, folder: Path, told: Stories) -> None:
        self.folder, self.told = folder, told
        self.ledger: Ledger = new_ledger(folder)
        self.references = {f"w{n}": Reference(story) for n, story in enumerate(told.stories)}
        self.flows = {name: self.flow(name, one.story) for name, one in self.references.items()}
        kinds = {"number": FieldType.INT, "start": FieldType.TIME, "end": FieldType.TIME, "completed": FieldType.BOOL}
        self.sources = {
            name: RunSource(name=name, fields={**kinds, **FIELDS}, kind="csv", options={"path": f"{name}.csv"})
            for name in self.flows
        }
        self.commits, self.tries = 0, 8
        self.group_ids: dict[tuple[str, str, int], int] = {}

    def flow(self, name: str, story: History) -> Workflow:
        each = RUN.model_copy(update={"late_runs": story.asked.late})
        tasks = [task("skim", each)]
        if story.asked.kind != "run":
            tasks += [task(named, self.policy(story), needs=[f"{name}.skim@run"]) for named in ("scale", "check")]
        made = workflow(name, *tasks, text=f"{name} {story.asked}")
        return made.model_copy(update={"runs": story.selection.model_copy(update={"source": name})})

    def policy(self, story: History) -> Grouping:
        failing = story.failing
        failed = None if failing is None else FailedRuns(exclude=float(failing.most), after=failing.after or None)
        made = policy_of(story.asked)
        options = {**made.options, "task": "skim"} if story.asked.kind == "until" else made.options
        return made.model_copy(update={"failed_runs": failed, "options": options})

    def go(self) -> None:
        """All that happens, each moment compared."""
        with self.ledger.write() as connection:
            campaigns.ensure_prompt(connection)
        for place in range(len(self.told.stories[0].moments)):
            now = self.told.stories[0].moments[place].now
            each = [(name, one, one.story.moments[place]) for name, one in self.references.items()]
            for name, one, moment in each:
                self.write(name, moment)
                self.skip(name, one, moment)
                one.tick(moment)
            self.inject(now)
            self.end_runs([(name, one, moment) for name, one, moment in each])
            self.compare()
            self.look(now)
            for name, one, moment in each:
                self.begin(name, one, moment, late=bool(place % 2))
                if moment.amends:
                    self.amend(name, one, moment)
            self.compare()

    def write(self, name: str, moment: Moment) -> None:
        def text(value: Any) -> str:
            return "" if value is None else value.isoformat() if isinstance(value, datetime) else str(value).lower()

        rows = [
            ",".join(text(number if column == "number" else line[column]) for column in COLUMNS)
            for number, line in sorted(moment.listed.items())
        ]
        (self.folder / f"{name}.csv").write_text("\n".join([",".join(COLUMNS), *rows, ""]))

    def skip(self, name: str, one: Reference, moment: Moment) -> None:
        for run in moment.skips:
            if run in one.known:
                with self.ledger.write() as connection:
                    skips.add(connection, "prompt", name, [run], reason="bad", person="ada", now=moment.now)
                one.work.skipped.add(run)

    def inject(self, now: datetime) -> None:
        """Again and again, until it does not die any more."""

        def point(name: str, scope: str = "") -> None:
            self.commits += name == "inject.after_commit"
            if name == "inject.after_commit" and self.commits in self.told.deaths:
                raise Died

        with pytest.MonkeyPatch.context() as patched:
            for module in (assigning, ended):
                patched.setattr(module, "AT_ONCE", self.told.at_once)
                patched.setattr(module, "crash_point", point)
            while True:
                try:
                    report = inject(self.ledger, self.flows, self.sources, self.folder, now=now)
                    break
                except Died:
                    continue
        assert report.errors == []

    def ids(self) -> dict[tuple[str, str, int], int]:
        """Of groups, by workflow, grouping, and the first run in the name."""
        table = tables.run_group
        with self.ledger.read() as connection:
            rows = connection.execute(select(table.c.workflow, table.c.grouping, table.c.name, table.c.id)).all()
        return {(row.workflow, row.grouping, int(row.name.rpartition("-r")[2])): row.id for row in rows}

    def end_runs(self, each: list[tuple[str, Reference, Moment]]) -> None:
        """The tasks of single runs end."""
        ids = self.ids()
        with self.ledger.write() as connection:
            for name, one, moment in each:
                states, work = one.of_run(), one.work
                for run, how in moment.ends.items():
                    if states.get(run) != "grouped" or run in work.skipped | work.done:
                        continue
                    of_run = ids[name, "run", run]
                    if how == "failed" and run not in work.failed:
                        said = {"code": "jobs_failed", "n_failed": 1, "n_jobs": 1, "failed": [[0, "exit code 3"]]}
                        groups.set_task_states(connection, of_run, "failed", said, moment.now, task="skim")
                        work.failed[run] = moment.now
                    elif how == "done":
                        is_done(connection, of_run, one.story.found.get(run, (0.0,)))
                        work.done.add(run)
                        work.failed.pop(run, None)

    def compare(self) -> None:
        """What became of each run, and each group."""
        member, group = tables.membership, tables.run_group
        with self.ledger.read() as connection:
            members = connection.execute(select(member)).all()
            rows = connection.execute(select(group)).all()
        in_group: dict[int, list[int]] = {}
        for row in members:
            if row.state == "grouped":
                in_group.setdefault(row.group_id, []).append(row.run)
        for name, one in self.references.items():
            for asked in (one.story.asked, Asked("run", late=one.story.asked.late)):
                mine = [row for row in members if (row.workflow, row.grouping) == (name, asked.kind)]
                found, editions = one.found(asked), one.editions if asked.kind != "run" else Editions()
                is_now = {row.run: row.state for row in mine}
                assert is_now == editions.states(found), (name, asked.kind, is_now, editions.states(found))
                made = {
                    int(row.name.rpartition("-r")[2]): (
                        sorted(in_group.get(row.id, [])),
                        row.state,
                        (row.close_reason or {}).get("why") or (row.close_reason or {}).get("code"),
                        row.late,
                    )
                    for row in rows
                    if (row.workflow, row.grouping) == (name, asked.kind)
                }
                wanted = {
                    first: (one.runs if one.state != "dropped" else [], one.state, one.why, one.late)
                    for first, one in editions.groups(found).items()
                }
                assert made == wanted, (name, asked.kind, made, wanted)

    def closed(self, name: str) -> list[tuple[int, str, int]]:
        """The tasks of closed groups that wait for single runs: the group, the task, and the group's id."""
        one, ids = self.references[name], self.group_ids
        kind = one.story.asked.kind
        made = one.editions.groups(one.found()) if kind != "run" else {}
        found = [first for first, each in made.items() if each.state == "closed"]
        return [(first, named, ids[name, kind, first]) for first in found for named in ("scale", "check")]

    def look(self, now: datetime) -> None:
        """How all tasks of closed groups stand."""
        self.group_ids = self.ids()
        keys = {(name, *key): (key[2], key[1]) for name in self.references for key in self.closed(name)}
        with self.ledger.read() as connection:
            looks = look(connection, list(keys.values()), now)
        for (name, first, named, _), key in keys.items():
            wanted, seen = self.references[name].stands(first, named, now), looks[key]
            if wanted.state != "skipped":
                assert (seen.state == "open") == (wanted.state == "open"), (first, named, seen, wanted)
            if wanted.state == "open":
                before = self.references[name].left_out.get((first, named), set())
                assert wanted.without - before <= set(seen.without) <= wanted.without, (first, named, seen, wanted)

    def begin(self, name: str, one: Reference, moment: Moment, *, late: bool) -> None:
        """Those that may begin, begin, and are done at once."""
        now, kind, flow = moment.now, one.story.asked.kind, self.flows[name]
        if moment.clears:
            self.tries += 1
        for first, named, group_id in self.closed(name):
            wanted = one.stands(first, named, now)
            again = (first, named) not in one.begun or moment.clears
            if wanted.state != "open" or not again or (named == "check" and late):
                continue
            of_run = f"prompt__{kind}-r{first}"
            made = begin(
                self.ledger, flow, flow.tasks[named], group_id, max_tries=self.tries, dag_run_id=of_run, now=now
            )
            with self.ledger.write() as connection:
                row = generations.by_id(connection, made.generation_id)
                assert tuple(row.runs) == wanted.runs, (name, first, named, row.runs, wanted)
                runs = one.editions.groups(one.found())[first].runs
                assert row.excluded_runs == [run for run in runs if run not in wanted.runs]
                generations.end(connection, row, "done", {"code": "done"}, now)
            one.begun.add((first, named))
            one.left_out[first, named] = set(wanted.without)

    def amend(self, name: str, one: Reference, moment: Moment) -> None:
        assert moment.amends is not None
        place, add, remove = moment.amends[0], set(moment.amends[1]), set(moment.amends[2])
        made = one.editions.groups(one.found())
        closed = [first for first, each in made.items() if each.state == "closed"]
        if not closed:
            return
        first = closed[place % len(closed)]
        if place % 2:
            remove &= set(made[first].runs)
            add = {run for run in add if one.allows(first, {run}, set())}
        wanted = Amendment(sorted(add), sorted(remove), "it came late", "ada")
        group_id = self.group_ids[name, one.story.asked.kind, first]
        allowed = one.story.asked.kind != "run" and one.allows(first, add, remove)
        if not allowed:
            with pytest.raises(CalibError):
                amending.amend(self.ledger, group_id, wanted, moment.now)
            return
        amending.amend(self.ledger, group_id, wanted, moment.now)
        one.amend(first, add, remove)
        self.tries += 1


def is_done(connection: Any, group_id: int, found: Sequence[float]) -> None:
    """The task of a single run is done, and each job of it has reported a value."""
    new = generations.NewGeneration(
        group_id,
        "skim",
        0,
        "local",
        "h",
        None,
        "d",
        [],
        [],
        [],
        {},
        0,
        1.0,
        {},
        f"f/{group_id}",
        "r",
        [{} for _ in found],  # type: ignore[typeddict-item]
    )
    row = generations.by_id(connection, generations.create(connection, new, BASE))
    of_job = {"generation_id": row.id, "step": 0, "name": "pairs", "error": None}
    told = [{**of_job, "job_index": index, "value": one} for index, one in enumerate(found)]
    connection.execute(tables.value.insert(), told)
    generations.end(connection, row, "done", {"code": "done"}, BASE)


def check(folder: Path, told: Stories) -> None:
    world = World(folder, told)
    try:
        world.go()
    finally:
        world.ledger.close()


QUIETLY = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@pytest.mark.long  # some minutes of a core: the groups of 300 histories are compared in test_reference.py
@given(told=together())
@settings(max_examples=100 // TOGETHER, deadline=None, suppress_health_check=QUIETLY)
def test_any_history_gives_what_the_rules_say(tmp_path_factory: Any, told: Stories) -> None:
    check(tmp_path_factory.mktemp("histories"), told)


@pytest.mark.long
@given(told=together())
@settings(max_examples=6000 // TOGETHER, deadline=None, suppress_health_check=QUIETLY)
def test_six_thousand_histories_give_what_the_rules_say(tmp_path_factory: Any, told: Stories) -> None:
    check(tmp_path_factory.mktemp("histories"), told)
