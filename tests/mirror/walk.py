"""A random walk through the ledger's own transitions: all that may happen to groups, tasks, jobs and payloads."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.locks.deadlines import GO_ON, WAITING, Limits
from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation
from airflow_calib_provider.domain.reducer import JobState, RetryLimits, reduce
from airflow_calib_provider.errors import CalibError, IllegalTransition, PayloadError
from airflow_calib_provider.injection.amending import amend
from airflow_calib_provider.injection.amendments import Amendment
from airflow_calib_provider.ledger import generations, groups, observed, rounds, skips, steering, tables, waiting
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.observed import InFlight, JobChange
from airflow_calib_provider.payloads import store
from airflow_calib_provider.spec.models import Lock
from tests.ledger.making import facts, fill, put_runs, task, workflow

SCAN = (
    Lock(
        kind="payload",
        parameters={"tag": "pedestals"},
        limits=dict(Limits(timedelta(seconds=6), WAITING, GO_ON).as_json()),
    ),
)
"""A lock whose deadline comes near, and passes, while the walk goes on."""

NAMES = ("shift", "width", "χ²/ndf", "a b,c=d", 'quote" \\back', "line\nbreak")


class Walk:
    """One installation, moved on at random.

    :param ledger: an empty one.
    """

    def __init__(self, ledger: Ledger, folder: Path, seed: int = 1) -> None:
        self.ledger, self.folder = ledger, folder
        self.random = random.Random(seed)
        self.next_run = 1
        self.flows = [
            workflow(
                "ecal",
                task("skim"),
                task("fit", fill(), needs=["ecal.skim@run"]),
                task("publish", fill(), publish="pedestals", file="f"),
            ),
            workflow(
                "laser", task("scan", fill()).model_copy(update={"locks": SCAN}), task("all", needs=["ecal.fit@fill"])
            ),
        ]
        self._kinds: list[tuple[int, Callable[[], None]]] = [
            (2, self._runs),
            (8, self._begin),
            (30, self._news),
            (8, self._in_flight),
            (8, self._look),
            (4, self._end),
            (2, self._publish),
            (1, self._skip),
            (1, self._steer),
            (1, self._amend),
        ]
        self._runs()

    def events(self) -> int:
        with self.ledger.read() as connection:
            return int(connection.execute(select(func.max(tables.event.c.id))).scalar() or 0)

    def step(self) -> None:
        """One thing happens; what cannot happen now does not."""
        [kind] = self.random.choices([item for _, item in self._kinds], [weight for weight, _ in self._kinds])
        with suppress(IllegalTransition, PayloadError):
            kind()

    def _one(self, query: Any) -> Any:
        with self.ledger.read() as connection:
            rows = connection.execute(query.limit(200)).all()
        return self.random.choice(rows) if rows else None

    def _runs(self) -> None:
        first, self.next_run = self.next_run, self.next_run + self.random.randint(1, 6)
        for flow in self.flows:
            runs = [facts(number, number // 4, selected=number % 7 != 0) for number in range(first, self.next_run)]
            put_runs(self.ledger, flow, runs)

    def _begin(self) -> None:
        task_ = tables.group_task
        row = self._one(
            select(task_)
            .where(task_.c.kind == "jobs", task_.c.state.in_(["new", "waiting", "failed", "done"]))
            .order_by(task_.c.group_id.desc())
        )
        if row is None:
            return
        jobs = [{"memory": 1_000_000_000}] * self.random.randint(1, 8)
        new = generations.NewGeneration(
            row.group_id, row.task, 0, "local", "h", None, "d", [], [], [], {}, 2, 1.0, {}, f"f/{row.task}", "r", jobs
        )
        with self.ledger.write() as connection:
            generations.by_id(connection, generations.create(connection, new, datetime.now(UTC)))

    def _generation(self) -> Any:
        found = self._one(select(tables.generation.c.id).where(tables.generation.c.state == "running"))
        if found is None:
            return None
        with self.ledger.read() as connection:
            return generations.by_id(connection, found.id)

    def _news(self) -> None:
        row = self._generation()
        if row is None:
            return
        now = datetime.now(UTC)
        with self.ledger.write() as connection:
            rounds.plan(connection, row, now)
            jobs = [generations.as_job(item) for item in generations.jobs_of(connection, [row.id])]
            changes = []
            for job in jobs:
                if job.state not in (JobState.SUBMITTED, JobState.RUNNING) or self.random.random() < 0.4:
                    continue
                changes.append(self._change(job, now))
            observed.store(connection, row, 0, [change for change in changes if change.before != change.after])

    def _change(self, job: Any, now: datetime) -> JobChange:
        kinds = [AttemptState.RUNNING, AttemptState.SUCCEEDED, AttemptState.SUCCEEDED, AttemptState.FAILED]
        kind = self.random.choice([*kinds, AttemptState.LOST])
        started = kind is not AttemptState.RUNNING
        failed = kind in (AttemptState.FAILED, AttemptState.LOST)
        seen = Observation(
            job.index,
            job.attempt,
            kind,
            now,
            exit_code=3 if kind is AttemptState.FAILED else 0 if started else None,
            host=self.random.choice(["node1", "node 2"]),
            start=now - timedelta(seconds=5),
            end=now if started else None,
            reason='it said "no"\nand died \\o/' if failed else None,
            failure=self.random.choice(list(FailureClass)) if failed else None,
            memory=self.random.randrange(10**9) if started else None,
        )
        after = reduce(job, seen, RetryLimits(retries=2))
        values = ()
        if after.state is JobState.SUCCEEDED:
            values = tuple((name, self.random.gauss(0, 1), self.random.choice([None, 0.1, 5.0])) for name in NAMES)
        return JobChange(job, after, seen, values=values)

    def _in_flight(self) -> None:
        row = self._generation()
        if row is None:
            return
        with self.ledger.write() as connection:
            jobs = [item for item in generations.jobs_of(connection, [row.id]) if item.state == "running"]
            news = {
                item.job_index: InFlight(
                    item.attempt,
                    self.random.choice([None, round(self.random.random(), 3)]),
                    [(name, self.random.gauss(0, 1), None) for name in self.random.sample(NAMES, 2)],
                )
                for item in jobs
            }
            observed.note_in_flight(connection, row, 0, news)

    def _look(self) -> None:
        with self.ledger.read() as connection:
            locks = [(row.group_id, row.task) for row in connection.execute(select(tables.lock))]
            table = tables.run_group
            forming = connection.execute(select(table.c.id).where(table.c.state == "forming")).scalars().all()
        keys = self.random.sample(locks, min(5, len(locks))) + [(number, waiting.FORMING) for number in forming]
        waiting.look_and_record(self.ledger, keys)

    def _end(self) -> None:
        row = self._generation()
        if row is None:
            return
        target = self.random.choice(["done", "done", "failed"])
        with self.ledger.write() as connection:
            generations.end(connection, row, target, {"code": target, "n_jobs": 1}, datetime.now(UTC))

    def _publish(self) -> None:
        task_, group = tables.group_task, tables.run_group
        row = self._one(
            select(task_.c.group_id, task_.c.task)
            .join(group, group.c.id == task_.c.group_id)
            .where(task_.c.kind == "publish", group.c.state == "closed")
        )
        if row is None:
            return
        file = self.folder / "payload"
        file.write_text(str(self.random.randrange(5)))
        with self.ledger.read() as connection:
            about = groups.group_by_id(connection, row.group_id)
        store.publish(
            self.ledger,
            tag="pedestals",
            file=file,
            group_id=row.group_id,
            task=row.task,
            iov=Iov(about.first_run, about.last_run),
            provenance={},
            now=datetime.now(UTC),
        )

    def _amend(self) -> None:
        """A run leaves its group, or one that left another comes into it."""
        member, group = tables.membership, tables.run_group
        removed = self._one(select(member.c.run).where(member.c.state == "removed", member.c.workflow == "ecal"))
        closed = select(group.c.id, group.c.last_run).where(group.c.state == "closed", group.c.grouping == "fill")
        row = self._one(closed.where(group.c.workflow == "ecal").order_by(group.c.first_run.desc()).limit(20))
        if row is not None:
            runs = {"add": [removed.run], "remove": []} if removed else {"add": [], "remove": [row.last_run]}
            with suppress(CalibError):  # it has one run only, or a task of it runs
                amend(self.ledger, row.id, Amendment(**runs, reason="noise", person="me"), datetime.now(UTC))

    def _skip(self) -> None:
        table = tables.membership
        row = self._one(select(table.c.run).where(table.c.state == "grouped").order_by(table.c.run.desc()))
        if row is not None:
            flow = self.random.choice(self.flows)
            with self.ledger.write() as connection:
                at = datetime.now(UTC)
                skips.add(connection, "prompt", flow.name, [row.run], reason="noise", person="me", now=at)

    def _steer(self) -> None:
        """Somebody does something with a campaign."""
        now, changes = datetime.now(UTC), steering.Changes(priority=3, max_jobs=self.random.choice([0, 7]))
        kind = self.random.choice(["pause", "resume", "alter", "alter"])
        if kind == "alter":
            steering.alter(self.ledger, "prompt", changes)
        else:
            {"pause": steering.pause, "resume": steering.resume}[kind](self.ledger, "prompt", now)
