"""A run source that is as it was is not read again, and everything else that time or people bring still happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.ledger import campaigns, runs, skips, tables
from airflow_calib_provider.ledger.runs import record_by_hand
from airflow_calib_provider.runsources import csv_kind
from airflow_calib_provider.runsources.base import read_source
from tests.injection.test_inject import ECAL, LATER, World
from tests.ledger.making import SOURCE, T0, count, fill, new_ledger, task, total, workflow

HOUR = timedelta(hours=1)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read."""
    found: list[str] = []
    real = csv_kind.CsvKind.read_file

    def noted(self: Any, path: Path, source: Any) -> Any:
        found.append(path.name)
        return real(self, path, source)

    monkeypatch.setattr(csv_kind.CsvKind, "read_file", noted)
    return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(new_ledger(tmp_path), tmp_path)
    yield made
    made.ledger.close()


@contextmanager
def statements(world: World) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("PRAGMA"):
            seen.append(statement)

    event.listen(world.ledger.engine, "before_cursor_execute", note)
    yield seen
    event.remove(world.ledger.engine, "before_cursor_execute", note)


def test_it_is_read_once_and_costs_as_little_with_many_runs(tmp_path: Path, read: list[str]) -> None:
    numbers = []
    for name, n_runs in [("few", 130), ("many", 260)]:
        (tmp_path / name).mkdir()
        world = World(new_ledger(tmp_path / name), tmp_path / name)
        world.runs(*range(1, n_runs))
        for _ in range(2):  # the second one notes which of the new groups are ready
            world.inject(ECAL)
        with statements(world) as seen:
            report = world.inject(ECAL)
        assert (report.new_runs, report.assigned, report.errors) == (0, 0, [])
        assert [one for one in seen if one.startswith(("INSERT", "UPDATE", "DELETE"))] == []
        numbers.append(len(seen))
        world.ledger.close()
    assert read == ["runs.csv"] * 2
    assert len(set(numbers)) == 1, numbers


def test_a_source_without_news_is_not_read_again_either(world: World, read: list[str]) -> None:
    world.runs(*range(1, 4))
    world.inject(ECAL)
    with world.ledger.write() as connection:  # as an upgrade of the ledger leaves it
        connection.execute(tables.run_source.delete())
        connection.execute(tables.grouping.update().values(source_serial=None))
    for _ in range(3):
        world.inject(ECAL)
    assert len(read) == 2


def test_a_change_is_read_however_small_it_is(world: World, read: list[str]) -> None:
    world.runs({"number": 1, "lumi_pb": 1.5})
    world.inject(ECAL)
    file = world.folder / "runs.csv"
    before = file.stat()
    content = file.read_text()
    file.write_text(content.replace("1.5", "2.5"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert world.inject(ECAL).changed_runs == 1
    assert len(read) == 2


def test_a_file_that_takes_its_place_is_read(world: World, read: list[str]) -> None:
    world.runs(1, 2)
    world.inject(ECAL)
    other = world.folder / "other.csv"
    other.write_text((world.folder / "runs.csv").read_text())
    other.replace(world.folder / "runs.csv")
    world.inject(ECAL)
    assert len(read) == 2
    (world.folder / "runs.csv").unlink()
    assert world.inject(ECAL).errors
    world.runs(1, 2)
    world.inject(ECAL)
    assert len(read) == 4


def test_a_source_that_is_declared_otherwise_is_read(world: World, read: list[str]) -> None:
    world.runs(1, 2)
    world.inject(ECAL)
    fields = {name: kind for name, kind in SOURCE.fields.items() if name != "lumi_pb"}
    narrow = SOURCE.model_copy(update={"fields": fields})
    flow = workflow("ecal", task("skim"))
    assert inject(world.ledger, {"ecal": flow}, {"daq": narrow}, world.folder, now=LATER).changed_runs == 2
    assert len(read) == 2


def test_what_the_clock_brings_still_happens(world: World, read: list[str]) -> None:
    flow = workflow("ecal", task("scale", fill(max_wait=timedelta(hours=4))), settle=timedelta(hours=1))
    world.runs({"number": 4, "fill": 1}, {"number": 5, "fill": 1})
    end = T0 + timedelta(hours=5, minutes=50)
    world.inject(flow, now=end + timedelta(minutes=30))
    assert list(world.members("fill")) == [4], "run 5 ended less than settle ago"
    world.inject(flow, now=end + timedelta(hours=3))
    assert list(world.members("fill")) == [4, 5]
    assert count(world.ledger, tables.run_group, tables.run_group.c.state == "forming") == 1
    assert world.inject(flow, now=end + timedelta(hours=5)).groups_closed == 1
    assert len(read) == 1


def test_a_run_that_is_incomplete_for_too_long_is_passed(world: World, read: list[str]) -> None:
    flow = workflow("ecal", task("skim"), incomplete_after=timedelta(hours=24))
    world.runs(1, {"number": 2, "completed": "false"}, 3)
    world.inject(flow, now=T0 + timedelta(hours=10))
    assert list(world.members()) == [1]
    world.inject(flow, now=T0 + timedelta(hours=30))
    assert world.members() == {1: "run-r1", 2: "refused incomplete_too_long", 3: "run-r3"}
    assert len(read) == 1


@pytest.mark.parametrize("by", ["a person", "incomplete_after", "settle"])
def test_a_late_run_that_held_the_horizon_is_decided_when_it_is_passed(by: str, world: World, read: list[str]) -> None:
    """Although the source has said nothing new since then."""
    options = {} if by == "a person" else {by: timedelta(hours=6)}
    flow = workflow("ecal", task("skim"), **options)
    world.runs(3, 4, 5)
    world.inject(flow, now=T0 + timedelta(hours=12))
    late = {"number": 2, "completed": "true" if by == "settle" else "false", "start": (T0 + 10 * HOUR).isoformat()}
    world.runs({**late, "end": (T0 + 11 * HOUR).isoformat() if by == "settle" else None}, 3, 4, 5)
    for hours in (13, 14):
        world.inject(flow, now=T0 + hours * HOUR)
        assert list(world.members()) == [3, 4, 5], "it is awaited"
    if by == "a person":
        with world.ledger.write() as connection:
            skips.add(connection, "prompt", "ecal", [2], reason="stuck", person="ada", now=world.now)
    world.inject(flow, now=T0 + 18 * HOUR)
    said = {"a person": "refused run_skipped", "incomplete_after": "refused incomplete_too_long", "settle": "late late"}
    assert world.members()[2] == said[by]
    assert len(read) == 2


def test_what_people_do_still_happens(world: World, read: list[str]) -> None:
    world.runs(1, 2, {"number": 3, "completed": "false"}, 4)
    world.inject(ECAL)
    assert list(world.members()) == [1, 2]
    with world.ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", [3], reason="stuck", person="ada", now=world.now)
    world.inject(ECAL)
    assert list(world.members()) == [1, 2, 3, 4], "a skip moves the horizon"
    edited = workflow("ecal", *ECAL.tasks.values(), task("sums", total(30)))
    world.inject(edited)
    assert world.members("sum"), "an edit brings a grouping"
    world.inject(edited, workflow("hcal", task("skim")))
    assert list(world.members(flow="hcal")) == [1, 2], "a new workflow, for which nothing is skipped"
    with world.ledger.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": [1, 2]})
    world.inject(edited)
    assert list(world.members(campaign="again")) == [1, 2], "a new campaign"
    assert len(read) == 1


def test_what_is_recorded_by_hand_is_assigned_and_the_source_is_asked_again(world: World, read: list[str]) -> None:
    world.runs(1, 2, 5)
    world.inject(ECAL)
    own = world.folder / "hand.csv"
    own.write_text((world.folder / "runs.csv").read_text().replace("\n5,", "\n3,"))
    named = SOURCE.model_copy(update={"options": {"path": str(own)}})
    record_by_hand(world.ledger, "daq", read_source(named, base_folder=world.folder), world.now)
    world.inject(ECAL)
    assert world.members()[3] == "late late"
    world.inject(ECAL)
    assert read == ["runs.csv", "hand.csv", "runs.csv"]


def test_after_a_death_between_two_parts_it_is_read_again(
    world: World, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "AT_ONCE", 4)
    real, parts = runs.record_runs, []

    def dies(*arguments: Any, **options: Any) -> Any:
        parts.append(1)
        if len(parts) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(runs, "record_runs", dies)
    world.runs(*range(1, 20))
    with pytest.raises(KeyboardInterrupt):
        world.inject(ECAL)
    assert count(world.ledger, tables.run) == 8
    assert world.inject(ECAL).errors == []
    assert list(world.members()) == list(range(1, 20))
    world.inject(ECAL)
    assert len(read) == 2


def test_a_listing_that_shrinks_is_noted_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "AT_ONCE", 4)
    world.runs(*range(1, 20))
    world.inject(ECAL)
    world.runs(1, 2)
    assert world.inject(ECAL).changed_runs == 17
    assert count(world.ledger, tables.run, tables.run.c.listed.is_(False)) == 17
    world.runs(*range(1, 20))
    assert world.inject(ECAL).changed_runs == 17
    assert world.inject(ECAL).changed_runs == 0


def test_every_run_is_hashed_and_read_once_for_all_that_take_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    real = runs.content_hash

    def noted(record: Any) -> str:
        hashed.append(record.number)
        return real(record)

    monkeypatch.setattr(runs, "content_hash", noted)
    with world.ledger.write() as connection:
        campaigns.ensure_prompt(connection)
        campaigns.create(connection, "again", kind="finite", runs={"daq": range(1, 10)})
    world.runs(*range(1, 10))
    with statements(world) as seen:
        world.inject(ECAL, workflow("hcal", task("skim"), task("sums", total(30))))
    assert count(world.ledger, tables.membership) == 2 * 4 * 9
    assert hashed == list(range(1, 10))
    assert len([statement for statement in seen if "run.recorded_at" in statement]) == 1
