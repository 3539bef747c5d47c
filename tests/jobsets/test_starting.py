"""What Airflow starts although it is not open: nothing is begun or published, and the reason is told (rule 21)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from airflow_calib_provider.domain.reasons import RELEASES, render
from airflow_calib_provider.errors import NotOpen, ProductError
from airflow_calib_provider.jobsets.begin import begin, record_failure
from airflow_calib_provider.jobsets.context import gather
from airflow_calib_provider.jobsets.folders import product_path
from airflow_calib_provider.jobsets.publish import publish_group
from airflow_calib_provider.ledger import generations, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.payloads.store import Published
from airflow_calib_provider.spec.models import Jobs, Workflow
from tests.ledger.making import RUN, T0, count, done, facts, fill, group_ids, new_ledger, put_runs, task, workflow
from tests.postgres.fixture import database  # noqa: F401  on both

FLOW = workflow(
    "ecal",
    task("skim", RUN),
    task("scale", fill(), needs=["ecal.skim@run"], products={"c": "c.json"}),
    task("final", fill(), needs=["ecal.scale@fill"], products={"c": "c.json"}),
    task(
        "deliver", fill(), needs=["ecal.final@fill"], publish="Scale", file="{{ tasks.final.products.c }}"
    ),
    task("direct", fill(), needs=["ecal.skim@run"], publish="Direct", file="/nowhere"),
    task("corrected", fill(), payloads=["Laser"]),
)  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Iterator[Ledger]:  # noqa: F811
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    made = new_ledger(tmp_path)
    # Fill 1 is closed by the run of fill 2, which is forming.
    put_runs(made, FLOW, [facts(1, 1), facts(2, 1), facts(3, 1), facts(4, 2)])
    yield made
    made.close()


def start(ledger: Ledger, name: str, group: str = "fill-r1", flow: Workflow = FLOW, max_tries: int = 8) -> Any:
    group_id = {**group_ids(ledger, "fill"), **group_ids(ledger, "run")}[group]
    return begin(ledger, flow, flow.tasks[name], group_id, max_tries=max_tries, dag_run_id=f"prompt__{group}", now=T0)


def publish(ledger: Ledger, name: str = "deliver") -> Published:
    return publish_group(ledger, FLOW, FLOW.tasks[name], group_ids(ledger, "fill")["fill-r1"], now=T0)


def finish(ledger: Ledger, name: str, group: str = "fill-r1") -> None:
    """What the jobs of a begun task and their watcher do."""
    generation_id = start(ledger, name, group).generation_id
    with ledger.write() as connection:
        row = generations.by_id(connection, generation_id)
        for label, file in row.products.items():
            path = product_path(row.folder, 0, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("1")
            where = {"generation_id": row.id, "step": 0, "job_index": 0, "name": label, "file": file}
            connection.execute(tables.product.insert(), where)
        generations.end(connection, row, "done", {"code": "done"}, T0)


def skim(ledger: Ledger, *runs: int) -> None:
    for number in runs:
        done(ledger, group_ids(ledger, "run")[f"run-r{number}"], "skim")


def provenance(ledger: Ledger) -> dict[str, Any]:
    with ledger.read() as connection:
        return dict(connection.execute(select(tables.payload.c.provenance)).scalar_one())


def test_a_lock_that_is_not_open_is_not_passed(ledger: Ledger) -> None:
    skim(ledger, 1, 2)
    with pytest.raises(
        NotOpen, match=r"2 of 3 runs done in ecal\.skim; missing 3 \(not started\).*calib skip"
    ) as caught:
        start(ledger, "scale")
    assert count(ledger, tables.generation, tables.generation.c.task == "scale") == 0
    record_failure(ledger, group_ids(ledger, "fill")["fill-r1"], "scale", caught.value, T0)
    with ledger.read() as connection:
        here = (tables.group_task.c.task == "scale", tables.group_task.c.state == "failed")
        reason = connection.execute(select(tables.group_task.c.reason).where(*here)).scalar_one()
    assert reason["code"] == "not_open"
    assert reason["reason"]["missing"] == [[3, "not started"]]
    assert "mark success" in render(reason)
    assert "calib skip" in RELEASES["not_open"]


def test_a_publication_is_not_made_without_the_missing_runs(ledger: Ledger) -> None:
    skim(ledger, 1, 3)
    with pytest.raises(NotOpen, match=r"missing 2 \(not started\)"):
        publish(ledger, "direct")
    assert count(ledger, tables.payload) == 0


def test_after_a_skip_on_purpose_it_goes_on_and_says_without_whom(ledger: Ledger) -> None:
    skim(ledger, 1, 2)
    with pytest.raises(NotOpen):
        start(ledger, "scale")
    with ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", [3], task="skim", reason="magnet off", person="ada", now=T0)
    finish(ledger, "scale")
    finish(ledger, "final")
    assert publish(ledger).new
    said = provenance(ledger)
    # The skip concerns a task three steps before: its run is in none of the products.
    assert (said["runs"], said["excluded_runs"]) == ([1, 2], [3])


def test_a_forming_group_is_not_begun(ledger: Ledger) -> None:
    with pytest.raises(NotOpen, match="the group is forming: 1 run"):
        start(ledger, "corrected", "fill-r4")
    skim(ledger, 4)
    with pytest.raises(NotOpen, match="the group is forming"):
        start(ledger, "scale", "fill-r4")
    assert count(ledger, tables.generation, tables.generation.c.task != "skim") == 0


def test_a_payload_lock_is_not_passed(ledger: Ledger) -> None:
    with pytest.raises(NotOpen, match=r"0 of 3 runs covered by payloads of Laser"):
        start(ledger, "corrected")


@pytest.mark.parametrize("state", ["new", "processing", "failed"])
def test_a_task_of_the_same_dag_that_is_not_done_is_not_passed(ledger: Ledger, state: str) -> None:
    skim(ledger, 1, 2, 3)
    if state != "new":
        generation_id = start(ledger, "scale").generation_id
        if state == "failed":
            with ledger.write() as connection:
                generations.end(connection, generations.by_id(connection, generation_id), "failed", {"code": "x"}, T0)
    with pytest.raises(NotOpen, match=f"scale is {state}"):
        start(ledger, "final")
    with pytest.raises(NotOpen, match="final is new"):
        publish(ledger)
    assert count(ledger, tables.payload) == 0


def test_a_dropped_group_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    flow = workflow("drops", task("scale", fill(100.0, short="drop")))
    put_runs(ledger, flow, [facts(1, 1), facts(4, 2)])
    group_id = group_ids(ledger, "fill", "drops")["fill-r1"]
    with ledger.read() as connection, pytest.raises(NotOpen, match="the group was dropped"):
        gather(connection, flow, flow.tasks["scale"], group_id)


def test_a_need_that_the_ledger_does_not_know_yet_is_asked_for_all_the_same(ledger: Ledger) -> None:
    """An edit of the spec that Airflow has read, and no injection yet."""
    edited = workflow("ecal", task("skim", RUN), task("corrected", fill(), needs=["ecal.skim@run"], payloads=["New"]))
    laser = workflow("ecal", task("skim", RUN), task("final", fill(), payloads=["New"]))
    with ledger.write() as connection:
        connection.execute(tables.lock.delete())
    skim(ledger, 1)
    with pytest.raises(NotOpen, match=r"1 of 3 runs done in ecal\.skim; missing 2 \(not done\), 3 \(not done\)"):
        start(ledger, "corrected", flow=edited)
    with pytest.raises(NotOpen, match="0 of 3 runs covered by payloads of New"):
        start(ledger, "final", flow=laser)


def test_such_a_need_is_asked_for_runs_that_were_added_to_a_group_that_was_done(ledger: Ledger) -> None:
    """What was made of the group before was made without them (rule 51)."""
    edited = workflow("ecal", task("skim", RUN), task("corrected", fill(), needs=["ecal.skim@run"], payloads=["New"]))
    member = tables.membership
    with ledger.write() as connection:
        connection.execute(tables.lock.delete())
        here = (member.c.grouping == "run", member.c.run == 2)
        connection.execute(update(member).where(*here).values(reason={"code": "added"}))
    for number in (1, 2, 3):
        done(ledger, group_ids(ledger, "run")[f"run-r{number}"], "skim")
    with pytest.raises(NotOpen, match=r"2 of 3 runs done in ecal\.skim; missing 2 \(not done\)"):
        start(ledger, "corrected", flow=edited)


def test_runs_that_a_needed_workflow_did_not_select_are_not_told_as_used(ledger: Ledger) -> None:
    other = workflow("other", task("check", RUN))
    put_runs(ledger, other, [facts(1, 1), facts(2, 1, selected=False), facts(3, 1), facts(4, 2)])
    flow = workflow(
        "user",
        task("scale", fill(), needs=["other.check@run"], products={"c": "c.json"}),
        task("deliver", fill(), needs=["user.scale@fill"], publish="User", file="{{ tasks.scale.products.c }}"),
    )
    put_runs(ledger, flow, [facts(1, 1), facts(2, 1), facts(3, 1), facts(4, 2)])
    for number in (1, 3):
        done(ledger, group_ids(ledger, "run", "other")[f"run-r{number}"], "check")
    group_id = group_ids(ledger, "fill", "user")["fill-r1"]
    begun = begin(ledger, flow, flow.tasks["scale"], group_id, max_tries=8, dag_run_id="x", now=T0)
    with ledger.write() as connection:
        row = generations.by_id(connection, begun.generation_id)
        path = product_path(row.folder, 0, "c.json")
        path.parent.mkdir(parents=True)
        path.write_text("1")
        where = {"generation_id": row.id, "step": 0, "job_index": 0, "name": "c", "file": "c.json"}
        connection.execute(tables.product.insert(), where)
        generations.end(connection, row, "done", {"code": "done"}, T0)
    publish_group(ledger, flow, flow.tasks["deliver"], group_id, now=T0)
    said = provenance(ledger)
    assert (said["runs"], said["not_selected_runs"]) == ([1, 3], {"other.check": [2]})


READING = workflow(
    "reads",
    task("make", RUN, products={"c": "c.json", "d": "d.json"}),
    task("use", RUN, needs=["reads.make@run"], jobs=Jobs(command=("cat",), inputs="{{ tasks.make.products.c }}")),
    task("cat", RUN, needs=["reads.make@run"], jobs=Jobs(command=("cat", "{{ tasks.make.products.c }}"))),
    task("after", RUN, needs=["reads.make@run"]),
    task("listed", RUN, jobs=Jobs(command=("cat",), inputs=("/data/not/looked/at", "root://site/x"))),
)  # fmt: skip


@pytest.mark.parametrize("change", ["deleted", "emptied", "folder"])
def test_a_deleted_product_is_named_before_jobs_are_submitted(ledger: Ledger, change: str) -> None:
    put_runs(ledger, READING, [facts(1, 1)])
    group_id = group_ids(ledger, "run", "reads")["run-r1"]

    def begun(name: str) -> Any:
        return begin(ledger, READING, READING.tasks[name], group_id, max_tries=8, dag_run_id="x", now=T0)

    made = begun("make").generation_id
    with ledger.write() as connection:
        row = generations.by_id(connection, made)
        for name in ("c", "d"):
            path = product_path(row.folder, 0, f"{name}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("1")
            where = {"generation_id": row.id, "step": 0, "job_index": 0, "name": name, "file": f"{name}.json"}
            connection.execute(tables.product.insert(), where)
        generations.end(connection, row, "done", {"code": "done"}, T0)
    path = product_path(row.folder, 0, "c.json")
    if change == "folder":
        shutil.rmtree(path.parent.parent)
    elif change == "deleted":
        path.unlink()
    else:
        path.write_text("")
    for name in ("use", "cat"):
        with pytest.raises(ProductError) as caught:
            begun(name)
        said = str(caught.value)
        assert f"{path}, made by job-00000 of reads.make of run-r1 (generation 1)" in said
        assert "calib retry run-r1 --task make --workflow reads --campaign prompt" in said
    # Who only comes after it, or reads what is not ours, is not concerned.
    assert begun("after").state == "running"
    assert begun("listed").state == "running"
