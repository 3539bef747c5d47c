"""What a step costs in statements: a few, whatever the number of jobs, locks, runs and job sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.jobsets.advance import advance
from airflow_calib_provider.jobsets.begin import Begun, begin
from airflow_calib_provider.ledger import skips, tables, waiting
from airflow_calib_provider.ledger.asking import Asker
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.payloads import store
from airflow_calib_provider.spec.models import Jobs, Split, Workflow
from tests.jobsets.scripted import Scripted, T
from tests.ledger.making import RUN, T0, count, done, facts, fill, group_ids, new_ledger, put_runs, task, workflow

FEW = {"of an idle step": 5, "of a beginning": 9}
TAGS = ("Laser", "Noise", "Timing")


@contextmanager
def given(ledger: Ledger) -> Iterator[list[str]]:
    """The statements that read."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.split()[0] in ("SELECT", "WITH"):
            seen.append(statement)

    event.listen(ledger.engine, "before_cursor_execute", note)
    yield seen
    event.remove(ledger.engine, "before_cursor_execute", note)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    monkeypatch.setenv("CALIB_REPORT_INTERVAL", "0")
    return tmp_path


def flow_of(n_jobs: int, n_locks: int) -> Workflow:
    """A task that needs a finer one, another workflow's publication and job set, one of its own DAG, and payloads."""
    jobs = Jobs(command=("true",), split=Split(count=n_jobs))
    needs = ["ecal.skim@run", "ecal.prepare@fill", "laser.fit@fill", "laser.deliver@fill"]
    scale = task("scale", fill(), needs=needs, payloads=TAGS[:n_locks], jobs=jobs, products={"c": "c.txt"})
    return workflow("ecal", task("skim", RUN), task("prepare", fill()), scale, text=f"{n_jobs} {n_locks}")


def prepared(folder: Path, n_runs: int, flow: Workflow) -> Ledger:
    """A ledger in which the task may begin."""
    folder.mkdir()
    ledger = new_ledger(folder)
    laser = workflow(
        "laser", task("fit", fill()), *(task(f"deliver_{tag}", fill(), publish=tag, file="x") for tag in TAGS)
    )
    laser = laser.model_copy(
        update={"tasks": {**laser.tasks, "deliver": task("deliver", fill(), publish="Other", file="x")}}
    )
    runs = [*(facts(number, 1) for number in range(1, n_runs + 1)), facts(n_runs + 1, 2)]
    for one in (laser, flow):
        put_runs(ledger, one, runs)
    for group_id in group_ids(ledger, "run", "ecal").values():
        done(ledger, group_id, "skim")
    done(ledger, group_ids(ledger, "fill", "ecal")["fill-r1"], "prepare")
    group_id = group_ids(ledger, "fill", "laser")["fill-r1"]
    done(ledger, group_id, "fit")
    (folder / "x").write_text("1")
    for tag, name in [*((tag, f"deliver_{tag}") for tag in TAGS), ("Other", "deliver")]:
        where = {"file": folder / "x", "group_id": group_id, "iov": Iov(1, n_runs), "provenance": {}, "now": T0}
        store.publish(ledger, tag=tag, task=name, **where)
    with ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", [2], task="scale", reason="x", person="ada", now=T0)
    return ledger


def begun(ledger: Ledger, flow: Workflow, group_id: int) -> Begun:
    return begin(ledger, flow, flow.tasks["scale"], group_id, max_tries=8, dag_run_id="d", now=T0)


def test_a_beginning_reads_little_whatever_it_begins(home: Path) -> None:
    numbers = []
    for name, n_runs, n_jobs, n_locks in [("small", 3, 1, 1), ("runs", 60, 1, 1), ("large", 60, 40, 3)]:
        flow = flow_of(n_jobs, n_locks)
        ledger = prepared(home / name, n_runs, flow)
        group_id = group_ids(ledger, "fill", "ecal")["fill-r1"]
        with given(ledger) as first:
            assert begun(ledger, flow, group_id).state == "running"
        assert count(ledger, tables.job, tables.job.c.state == "waiting") == n_jobs
        with given(ledger) as again:
            assert begun(ledger, flow, group_id).attached
        assert len(again) == 1
        numbers.append(len(first))
        ledger.close()
    assert len(set(numbers)) == 1, numbers
    assert numbers[0] <= FEW["of a beginning"], first


def test_an_idle_step_of_the_watcher_reads_little_whatever_it_watches(home: Path) -> None:
    numbers = []
    for name, n_sets, n_jobs in [("small", 1, 2), ("sets", 6, 2), ("jobs", 2, 60)]:
        jobs = Jobs(command=("true",), split=Split(count=n_jobs))
        flow = workflow("ecal", task("skim", RUN, jobs=jobs))
        (home / name).mkdir()
        ledger = new_ledger(home / name)
        put_runs(ledger, flow, [facts(number) for number in range(1, n_sets + 1)])
        ids = [
            begin(ledger, flow, flow.tasks["skim"], one, max_tries=8, dag_run_id="d", now=T0).generation_id
            for one in group_ids(ledger, "run").values()
        ]
        backend = Scripted()
        backend_of = partial(lambda known, _: known, backend)
        advance(ledger, backend_of, ids, T, 0.0)
        for key in backend.submitted:
            backend.tell(0, AttemptState.RUNNING, key=key)
            backend.tell(1, AttemptState.HELD, key=key, reason="disk", hold_code=26)
        advance(ledger, backend_of, ids, T, 0.0)
        with given(ledger) as seen:
            standings = advance(ledger, backend_of, ids, T + timedelta(seconds=1), 0.0)
        assert {standing.counts["held"] for standing in standings.values()} == {1}
        assert "disk" in standings[ids[0]].said
        numbers.append(len(seen))
        ledger.close()
    assert len(set(numbers)) == 1, numbers
    assert numbers[0] <= FEW["of an idle step"], seen


def test_a_look_at_all_that_waits_reads_little(home: Path) -> None:
    flow = workflow("ecal", task("skim", RUN), task("scale", fill(), needs=["ecal.skim@run"], payloads=TAGS))
    numbers = []
    for name, n_fills in [("few", 2), ("many", 30)]:
        (home / name).mkdir()
        ledger = new_ledger(home / name)
        put_runs(ledger, flow, [facts(number, number // 2) for number in range(2, 2 * n_fills + 2)])
        keys = [(one, task) for one in group_ids(ledger, "fill").values() for task in ("scale", waiting.FORMING)]
        waiting.look_and_record(ledger, keys)
        with given(ledger) as seen:
            waiting.look_and_record(ledger, keys)
        numbers.append(len(seen))
        ledger.close()
    assert len(set(numbers)) == 1
    assert numbers[0] <= FEW["of an idle step"]


LOCKS = (
    lambda n: ("payload", {"tag": f"T{n}"}, {"at_most": 10**9, "from": "run_end", "then": "last_good"}),
    lambda n: ("product", {"workflow": "ecal", "task": "skim", "product": f"c{n}"}, None),
    lambda n: ("delay", {"for": 10**9 + n, "after": "group_closed"}, None),
    lambda n: ("time", {"not_from": "00:00", "not_until": f"23:{59 - n}", "zone": "UTC"}, None),
    lambda n: ("file", {"path": f"/none/{n}/{{{{ run.number }}}}", "stable_for": 60, "every": 60, "what": ""}, None),
)  # fmt: skip


def with_locks(ledger: Ledger, group_ids: list[int], n_locks: int) -> list[waiting.Key]:
    """Locks of all kinds, of each so many, for the task of each group."""
    rows = []
    for group_id in group_ids:
        made = [make(n) for n in range(n_locks) for make in LOCKS]
        for position, (kind, parameters, limits) in enumerate(made):
            row = {"group_id": group_id, "task": "skim", "position": position, "kind": kind, "choice": None}
            more = {"each_run": True} if kind == "file" else {}
            rows.append({**row, "parameters": {**parameters, **more}, "limits": limits, "deadline": None})
    with ledger.write() as connection:
        connection.execute(insert(tables.lock), rows)
    return [(group_id, "skim") for group_id in group_ids]


def test_a_look_at_all_kinds_of_locks_reads_little_and_writes_nothing(home: Path) -> None:
    flow = workflow("ecal", task("skim", RUN))
    numbers = []
    for name, n_groups, n_locks in [("few", 2, 1), ("groups", 40, 1), ("locks", 40, 4)]:
        (home / name).mkdir()
        ledger = new_ledger(home / name)
        put_runs(ledger, flow, [facts(number) for number in range(1, n_groups + 1)])
        keys = with_locks(ledger, list(group_ids(ledger, "run").values()), n_locks)
        asker = Asker(ledger)
        asker.start(keys)
        asker.finish(30)
        waiting.look_and_record(ledger, keys)
        before = count(ledger, tables.event)
        with given(ledger) as seen:
            looks = waiting.look_and_record(ledger, keys)
        assert {look.state for look in looks.values()} == {"waiting"}
        with given(ledger) as asked:
            assert asker.start(keys) == 0, "nothing is due"
        assert count(ledger, tables.event) == before
        numbers.append((len(seen), len(asked)))
        ledger.close()
    assert len(set(numbers)) == 1, numbers
    assert numbers[0] == (6, 4), (seen, asked)
