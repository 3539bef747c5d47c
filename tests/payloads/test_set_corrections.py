"""Taking back a set, here and in outside stores: as a whole, or not at all (rules 70, 71)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert
from typer.testing import CliRunner

from airflow_calib_provider import api, crash
from airflow_calib_provider.cli.app import app
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import NotFound, NotWithdrawn, PayloadError, PayloadStoreDown
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Payload
from airflow_calib_provider.outside import connections
from airflow_calib_provider.payloads import corrections
from airflow_calib_provider.payloads.corrections import Consumer
from airflow_calib_provider.payloads.outgoing import writable
from airflow_calib_provider.payloads.publication import finish_all
from tests import processes
from tests.payloads.outward import DATABASE, GIT, TAGS, Outward, Reader, connect


@pytest.fixture
def database() -> str:
    """One will do: the statements are those of the other modules."""
    return "sqlite"


def clock() -> datetime:
    return datetime.now(UTC)


def newest(world: Outward, tag: str = "Scale") -> Payload:
    return api.payload_record(world.ledger, tag, run=1).payload


@pytest.mark.parametrize("stores", [(GIT, DATABASE), ()], ids=["outside", "embedded"])
def test_a_set_is_rolled_back_as_a_whole(world, stores):
    """Whichever of its tags is named, all that held with it comes back; what is as it was stays as it is."""
    options = {"stores": stores}
    world.publish(world.groups[0], "a", **options)
    world.publish(world.groups[0], "b", **options)
    made = api.rollback_payload(world.ledger, newest(world, "Errors"), reason="wrong", person="ada")
    told = [(one.tag, one.revision, one.state) for one in (made, *made.rest)]
    assert told == [("Errors", 3, "published"), ("Scale", 3, "published")]
    assert world.states() == ["superseded"] * 4 + ["published"] * 2
    assert world.holds() == ["a of Scale", "a of Errors"]
    # Then only one of them is made anew.
    world.publish(world.groups[0], {"Scale": "c", "Errors": "a"}, **options)
    with pytest.raises(NotFound) as refused:
        api.rollback_payload(world.ledger, newest(world, "Errors"), reason="wrong", person="ada")
    assert "`calib payload rollback Scale 1` takes all back" in str(refused.value.hint)
    made = api.rollback_payload(world.ledger, newest(world), reason="wrong", person="ada")
    assert (made.tag, made.rest) == ("Scale", ())
    assert world.holds() == ["a of Scale", "a of Errors"]
    if stores:
        world.is_whole()


def test_a_first_payload_that_is_wrong_has_two_ways_out(world):
    """Nothing is before it: what is made anew takes its place, or nothing."""
    world.publish(world.groups[0], "a")
    with pytest.raises(NotFound) as refused:
        api.rollback_payload(world.ledger, newest(world), reason="wrong", person="ada")
    for way in (
        "`calib payload withdraw` leaves nothing",
        "`calib retry fill-r1 --task deliver`: that takes its place",
    ):
        assert way in str(refused.value.hint)
    world.publish(world.groups[0], "right")
    assert world.states() == ["superseded"] * 2 + ["published"] * 2
    world.is_whole()
    withdrawn(world)
    assert world.states()[2:] == ["withdrawn"] * 2
    assert listed(world) == {GIT.store: [], DATABASE.store: []}
    world.is_whole()


def withdrawn(world: Outward, tag: str = "Scale", run: int = 1, **more: str) -> Payload:
    row = api.payload_record(world.ledger, tag, run=run).payload
    return api.withdraw_payload(world.ledger, row, **{"reason": "wrong", "person": "ada", **more})


Intervals = list[tuple[int, int | None]]


def both(placed: Intervals) -> dict[str, Intervals]:
    return {GIT.store: placed, DATABASE.store: placed}


def listed(world: Outward, tag: str = "Scale") -> dict[str, Intervals]:
    """The intervals that each store has."""
    stores = {store: writable(store) for store in (GIT.store, DATABASE.store)}
    return {name: [(one.first_run, one.last_run) for one in store.current(tag)] for name, store in stores.items()}


def test_a_set_is_withdrawn_from_all_stores_and_the_others_stay(world, monkeypatch):
    for number, text in enumerate("abc"):
        world.publish(world.groups[number], text)
    monkeypatch.setenv("CALIB_LEDGER", world.url)
    monkeypatch.setattr(connections, "look_up_with", lambda _: None)  # they are known
    call = ["payload", "withdraw", "Errors", "3", "--reason", "wrong alignment"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    told = "withdrawn: Errors revision 1 for runs 3–4; nobody has used it\n"
    assert done.output == told + told.replace("Errors", "Scale")
    assert listed(world) == listed(world, "Errors") == both([(1, 2), (5, 6)])
    world.is_whole()
    assert CliRunner().invoke(app, call).output.startswith("was withdrawn already: Errors revision 1")
    decided = api.payload_record(world.ledger, "Scale", run=3).decisions
    assert [(one.kind, one.comment) for one in decided] == [("withdrawal", "wrong alignment")]
    subject = subprocess.run(
        ["git", "-C", str(world.folder / "conditions.git"), "log", "-1", "--format=%B", "main"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "- Scale [3, 4]" in subject
    # It comes back only by a person who names it, in the stores, too.
    with pytest.raises(PayloadError, match="was withdrawn by"):
        world.publish(world.groups[1], "b")
    api.rollback_payload(world.ledger, withdrawn(world, run=3), reason="no", person="ada", revision=1)
    assert listed(world, "Errors") == both([(1, 2), (3, 4), (5, 6)])
    world.is_whole()


def test_what_was_used_needs_a_yes_whichever_of_the_set_it_was(world, monkeypatch):
    monkeypatch.setenv("CALIB_LEDGER", world.url)
    world.publish(world.groups[0], "a", stores=())
    used = Consumer("prompt", "user", "fit", "fill-r1", 1)
    monkeypatch.setattr(corrections, "consumers", lambda _, row: [used] if row.tag == "Errors" else [])
    call = ["payload", "withdraw", "Scale", "1", "--reason", "wrong"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 2
    assert "1 tasks have used revision 1 of Scale, or of Errors in its set" in done.output
    assert world.states() == ["published"] * 2
    assert CliRunner().invoke(app, [*call, "--yes"]).exit_code == 0
    assert world.states() == ["withdrawn"] * 2


def take_back(url: str, folder: Path, server: str) -> None:
    """What the command does, in any process."""
    connect(folder, server)
    ledger = Ledger(url)
    try:
        row = api.payload_record(ledger, "Scale", run=1).payload
        api.withdraw_payload(ledger, row, reason="wrong", person="ada")
    finally:
        ledger.close()


OF_REFUSALS = ("publication.after_refusal", "publication.after_return", "publication.after_back")
POINTS = sorted(point for point in crash.POINTS if point.startswith("publication."))


def dies(world: Outward, point: str) -> None:
    marks = world.folder / "marks"
    marks.mkdir()
    died = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)}
    done = processes.run(take_back, world.url, world.folder, world.server.url, **died)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", [point for point in POINTS if point not in OF_REFUSALS])
def test_dying_while_it_is_withdrawn(world, point):
    """Whoever comes next finishes it; until then it holds, with all of its set, and nothing takes its place."""
    for number, text in enumerate("ab"):
        world.publish(world.groups[number], text)
    with Reader(world.url):
        dies(world, point)
        if point != "publication.after_publish":
            assert world.states() == ["published"] * 4
            row = newest(world)
            assert render(row.reason).startswith("is being taken back from git:conditions/main and nopayloaddb")
            with pytest.raises(PayloadStoreDown, match="is being taken back from its stores"):
                api.rollback_payload(world.ledger, row, reason="x", person="bob")
        assert finish_all(world.ledger, clock) == []
    assert world.states() == ["withdrawn"] * 2 + ["published"] * 2
    assert listed(world) == both([(3, 4)])
    world.is_whole()


def refuses_deleting(world: Outward) -> None:
    """The database refuses to delete of the second tag, after the first was done there."""
    delete = world.server.delete

    def refuse(global_tag, kind, numbers):
        if kind == TAGS[1] and world.server.refusing:
            world.server.refusing -= 1
            raise type(world.server).refusal("Global Tag is frozen.")
        return delete(global_tag, kind, numbers)

    world.server.delete, world.server.refusing = refuse, 1


@pytest.mark.parametrize("point", ["", *OF_REFUSALS])
def test_a_store_that_does_not_give_it_back_changes_nothing(world, point):
    """Those that have are given it again, and the next withdrawal is another one."""
    world.publish(world.groups[0], "a")
    refuses_deleting(world)
    with Reader(world.url):
        if point:
            dies(world, point)
            assert len(finish_all(world.ledger, clock)) == (point != "publication.after_back")
        else:
            with pytest.raises(NotWithdrawn, match=r"Scale, Errors was not withdrawn: .*Global Tag is frozen"):
                withdrawn(world)
    assert world.states() == ["published"] * 2
    assert newest(world).reason["code"] == "withdrawal_refused"
    world.is_whole()
    assert not world.publish(world.groups[0], "a").new, "its task is not told of it"
    withdrawn(world)
    assert world.states() == ["withdrawn"] * 2
    world.is_whole()


def test_a_store_that_is_away_is_waited_for_and_nothing_comes_between(world):
    world.publish(world.groups[0], "a")
    (world.folder / "conditions.git").rename(world.folder / "gone")
    with pytest.raises(PayloadStoreDown):
        withdrawn(world)
    said = render(newest(world).reason)
    assert "as ada wants it; " in said
    assert "there is no repository" in said
    with pytest.raises(PayloadStoreDown):
        world.publish(world.groups[0], "b")
    with pytest.raises(PayloadStoreDown):
        withdrawn(world)
    (world.folder / "gone").rename(world.folder / "conditions.git")
    assert world.publish(world.groups[0], "b").state == "published"
    assert world.states() == ["withdrawn"] * 2 + ["published"] * 2
    world.is_whole()


def test_a_frozen_global_tag_is_told_before_anything_is_done(world):
    world.publish(world.groups[0], "a")
    world.server.states["PROMPT"] = "frozen"
    with pytest.raises(NotWithdrawn, match="the global tag PROMPT is frozen"):
        withdrawn(world)
    assert listed(world) == both([(1, 2)])
    assert world.states() == ["published"] * 2


@pytest.mark.parametrize(("protect", "begun", "left"), [("refuse", 1, None), ("move", 1, None), ("move", 0, [])])
def test_what_was_processed_is_not_taken_away(world, protect, begun, left):
    world.publish(world.groups[0], "a", protect=protect)
    if begun:
        with world.ledger.write() as connection:
            lock = {"group_id": world.groups[0], "task": "deliver", "position": 7, "kind": "payload"}
            connection.execute(insert(tables.lock).values(**lock, parameters={"tag": "Errors"}))
        with pytest.raises(NotWithdrawn, match="would change from run 1 on, and runs below 3 were processed already"):
            withdrawn(world)
        assert world.states() == ["published"] * 2
    else:
        withdrawn(world)
        assert listed(world) == both(left)
    world.is_whole()


def test_what_is_held_behind_a_group_holds_again(world):
    for number, text in enumerate("abc"):
        world.publish(world.groups[number], text, after="hold")
    withdrawn(world, run=3)
    assert listed(world) == both([(1, 4), (5, None)])
    withdrawn(world, run=5)
    assert listed(world) == both([(1, None)])
    assert list(api.check_stores(world.ledger)) == []
    world.publish(world.groups[1], "b2", after="hold")
    assert listed(world) == both([(1, 2), (3, None)])


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=pytest.mark.long)])
def test_rounds_of_deaths_while_it_is_published_and_withdrawn(world, rounds):
    """In the end each store has what the ledger says, and nobody ever saw half of it."""
    seed = int(os.environ.get("CALIB_TEST_SEED", random.randrange(10**6)))
    chance = random.Random(seed)
    print(f"CALIB_TEST_SEED={seed}")
    with Reader(world.url):
        for number in range(rounds):
            world.publish(world.groups[0], f"{number}")
            world.publish(world.groups[1], f"{number}")
            marks = world.folder / f"marks{number}"
            marks.mkdir()
            died = {"CALIB_CRASH_AT": chance.choice([*POINTS, ""]), "CALIB_CRASH_FOLDER": str(marks)}
            if chance.random() < 0.5:
                what = chance.choice(["before", "after"])
                world.server.faults[world.server.count + chance.randrange(1, 20)] = (what, 0)
            processes.run(take_back, world.url, world.folder, world.server.url, **died)
            world.server.faults.clear()
            for _ in range(2):
                finish_all(world.ledger, clock)
            world.is_whole()
