"""Until when a payload is to be published: told once when it is near, once when it has passed, and met."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import select, update

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.ledger import campaigns, groups, publication_deadlines, tables
from airflow_calib_provider.ledger.edited_specs import sync_tasks
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_group
from airflow_calib_provider.ledger.publication_deadlines import of_group, watch
from airflow_calib_provider.messages.preview import preview
from airflow_calib_provider.mirror.outbox import after
from airflow_calib_provider.mirror.points import PointMaker
from airflow_calib_provider.payloads import store
from airflow_calib_provider.spec.models import PublishBy, Workflow
from tests.ledger.making import done, facts, group_ids, new_ledger, put_runs, task, workflow
from tests.messages.histories import spec

HOUR = timedelta(hours=1)
END = facts(1).end
assert END is not None


def flow(by: PublishBy | None) -> Workflow:
    deliver = task("deliver", publish="scale", file="f", needs=["ecal.skim@run"])
    assert deliver.publish is not None
    publish = deliver.publish.model_copy(update={"by": by})
    return workflow("ecal", task("skim"), deliver.model_copy(update={"publish": publish}), text=str(by))


BY = PublishBy(at_most=36 * HOUR, since="run_end", warn_before=6 * HOUR)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    made = new_ledger(tmp_path)
    put_runs(made, flow(BY), [facts(1)])
    yield made
    made.close()


def states(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        event = tables.event
        query = select(event.c.to_state).where(event.c.entity == "publication_deadline").order_by(event.c.id)
        return list(connection.execute(query).scalars())


def publish(ledger: Ledger, folder: Path, text: str = "x") -> None:
    number = group_ids(ledger, "run")["run-r1"]
    done(ledger, number, "skim")
    (folder / "f").write_text(text)
    store.publish(
        ledger, tag="scale", file=folder / "f", group_id=number, task="deliver", iov=Iov(1, 1), provenance={}, now=END
    )


def told(ledger: Ledger) -> list[str]:
    return [one.title for one in preview(ledger, spec(topics=("deadline",)), datetime(2000, 1, 1, tzinfo=UTC))]


def test_near_and_passed_are_told_once_each(ledger: Ledger) -> None:
    assert watch(ledger, END) == 1
    assert watch(ledger, END + 29 * HOUR) == 0
    assert watch(ledger, END + 30 * HOUR) == 1
    assert watch(ledger, END + 31 * HOUR) == 0
    assert watch(ledger, END + 36 * HOUR) == 1
    assert watch(ledger, END + 99 * HOUR) == 0
    assert states(ledger) == ["counting", "counting", "near", "passed"]
    assert told(ledger) == ["The deadline is near: ecal.deliver run-r1", "The deadline has passed: ecal.deliver run-r1"]
    first, last = preview(ledger, spec(topics=("deadline",)), datetime(2000, 1, 1, tzinfo=UTC))
    assert first.why.endswith("1d12h from run end: 6h are left, which is near")
    assert "ago" in last.why


def test_two_who_look_at_once_tell_once(ledger: Ledger) -> None:
    threads = [Thread(target=watch, args=(ledger, END + 40 * HOUR)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert states(ledger) == ["counting", "counting", "passed"]


def test_a_publication_ends_it(ledger: Ledger, tmp_path: Path) -> None:
    watch(ledger, END)
    publish(ledger, tmp_path)
    assert states(ledger)[-1] == "met"
    assert watch(ledger, END + 99 * HOUR) == 0
    assert told(ledger) == []


def test_also_when_it_comes_late(ledger: Ledger, tmp_path: Path) -> None:
    watch(ledger, END)
    watch(ledger, END + 40 * HOUR)
    publish(ledger, tmp_path)
    publish(ledger, tmp_path, "other")
    assert states(ledger) == ["counting", "counting", "passed", "met"]


def test_an_amended_group_has_time_from_then_on(ledger: Ledger, tmp_path: Path) -> None:
    watch(ledger, END)
    publish(ledger, tmp_path)
    later = END + 100 * HOUR
    number = group_ids(ledger, "run")["run-r1"]
    with ledger.write() as connection:
        groups.set_task_states(connection, number, "new", None, later, task="deliver")
        publication_deadlines.again(connection, number, ["deliver"], later)
        assert of_group(connection, number)["deliver"].due == later + 36 * HOUR
    assert watch(ledger, later + 29 * HOUR) == 0
    assert watch(ledger, later + 37 * HOUR) == 1
    assert states(ledger)[-1] == "passed"


def test_what_is_skipped_or_dropped_is_lifted(ledger: Ledger) -> None:
    watch(ledger, END)
    with ledger.write() as connection:
        groups.set_task_states(connection, group_ids(ledger, "run")["run-r1"], "skipped", None, END, task="deliver")
    watch(ledger, END + 40 * HOUR)
    assert states(ledger)[-1] == "lifted"
    assert told(ledger) == []


@pytest.mark.parametrize("values", [{"late": True}, {"kind": "finite"}])
def test_what_is_of_the_past_has_none(ledger: Ledger, values: dict[str, Any]) -> None:
    table = tables.run_group if "late" in values else tables.campaign
    with ledger.write() as connection:
        connection.execute(update(table).values(**values))
    watch(ledger, END + 99 * HOUR)
    assert states(ledger) == ["counting", "lifted"]


def test_a_group_that_takes_runs_has_all_the_time(tmp_path: Path, ledger: Ledger) -> None:
    with ledger.write() as connection:
        connection.execute(update(tables.run_group).values(state="forming", closed_at=None))
    assert watch(ledger, END + 99 * HOUR) == 0
    with ledger.write() as connection:
        connection.execute(update(tables.run_group).values(state="closed", closed_at=END))
    assert watch(ledger, END) == 1


def test_a_finite_campaign_has_none(ledger: Ledger) -> None:
    with ledger.write() as connection:
        campaigns.create(connection, "redo", kind="finite", runs={"daq": [2]})
    before = states(ledger)
    put_runs(ledger, flow(BY), [facts(2)], "redo")
    assert states(ledger) == before


def test_the_mirror_has_it_beside_those_of_locks(ledger: Ledger, tmp_path: Path) -> None:
    watch(ledger, END)
    watch(ledger, END + 31 * HOUR)
    publish(ledger, tmp_path)
    with ledger.read() as connection:
        rows = [row for row in after(connection, 0, 1000) if row.entity == "publication_deadline"]
    points = [point for row in rows for point in PointMaker().points(row)]
    assert [(point.tags[3:], point.fields[1], point.fields[3]) for point in points] == [
        (("publication", state), int((END + 36 * HOUR).timestamp()), near)
        for state, near in (("waiting", False), ("waiting", True), ("met", False))
    ]


def test_an_edit_of_the_file_is_followed(ledger: Ledger) -> None:
    watch(ledger, END)
    number = group_ids(ledger, "run")["run-r1"]

    def edit(by: PublishBy | None) -> datetime | None:
        with ledger.write() as connection:
            sync_tasks(connection, "prompt", flow(by), END)
        watch(ledger, END)
        with ledger.read() as connection:
            return of_group(connection, number)["deliver"].due

    assert edit(PublishBy(at_most=48 * HOUR, since="run_end", warn_before=HOUR)) == END + 48 * HOUR
    edit(None)
    assert states(ledger)[-1] == "lifted"
    assert edit(BY) == END + 36 * HOUR
    assert states(ledger)[-1] == "counting"


def test_it_is_explained_with_the_time_that_is_left(ledger: Ledger, tmp_path: Path) -> None:
    def said(now: datetime) -> list[str]:
        with ledger.read() as connection:
            found = explain_group(connection, Scope("prompt", now=now), "run-r1")
        return [cause.text for cause in found.causes if cause.code == "publish_by"]

    assert said(END) == [], "it takes runs, as far as anybody has looked"
    watch(ledger, END)
    assert said(END + 6 * HOUR) == ["it is to be published by 2026-01-02 13:50 UTC, 1d12h from run end: 1d6h are left"]
    watch(ledger, END + 31 * HOUR)
    assert said(END + 31 * HOUR)[0].endswith(": 5h are left, which is near")
    assert said(END + 37 * HOUR)[0].startswith("it was to be published by 2026-01-02 13:50 UTC")
    publish(ledger, tmp_path)
    assert said(END + 37 * HOUR) == []
