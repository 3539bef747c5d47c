"""A set is published everywhere or nowhere, whatever dies or refuses, and nobody ever sees half of it (rule 71)."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, insert, select, update
from typer.testing import CliRunner

from airflow_calib_provider import api, crash
from airflow_calib_provider.cli.app import app
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import NotFound, NotPublished, OutsideError, PayloadStoreDown
from airflow_calib_provider.jobsets.publish import as_it_is, finish, stores_of
from airflow_calib_provider.ledger import publications, tables
from airflow_calib_provider.ledger.explain import Scope, explain_run
from airflow_calib_provider.ledger.starting import standing_of
from airflow_calib_provider.outside.connections import look_up_with
from airflow_calib_provider.payloads.approvals import ApprovalAnswer, ApprovalRequest, Rules, settle
from airflow_calib_provider.payloads.outgoing import writable
from airflow_calib_provider.payloads.publication import finish_all
from airflow_calib_provider.payloads.questions import option
from airflow_calib_provider.payloads.store import content_path
from airflow_calib_provider.spec.models import Approval
from airflow_calib_provider.spec.overrides import sorted_out
from tests import processes
from tests.payloads.outward import DATABASE, GIT, TAGS, Outward, Reader, connect, flow_of, publish

POINTS = sorted(point for point in crash.POINTS if point.startswith("publication."))
OF_REFUSALS = ("publication.after_refusal", "publication.after_return", "publication.after_back")


def clock() -> datetime:
    return datetime.now(UTC)


def test_a_set_is_in_all_stores_and_in_the_ledger(world):
    made = world.publish(world.groups[0], "a")
    assert (made.state, made.tag) == ("published", "Scale")
    assert world.states() == ["published"] * 2
    world.is_whole()
    world.publish(world.groups[1], "b")
    with world.ledger.read() as connection:
        begun = connection.execute(select(func.max(tables.event.c.id))).scalar_one()
    world.publish(world.groups[0], "a2")
    assert world.states() == ["superseded"] * 2 + ["published"] * 4
    world.is_whole()
    again = world.publish(world.groups[0], "a2")
    assert not again.new
    assert len(world.states()) == 6
    with world.ledger.read() as connection:
        of = tables.event.c
        query = select(of.to_state).where(of.entity == "group_task", of.group_name == "fill-r1", of.id > begun)
        told = list(connection.execute(query.order_by(of.id)).scalars())
    assert told == ["processing", "done"], "its task is done once, not once for each tag"


@pytest.mark.parametrize("point", [point for point in POINTS if point not in OF_REFUSALS])
def test_dying_at(world, point):
    """Whoever comes next makes it whole, and the tags are shut until then."""
    world.publish(world.groups[0], "a")
    marks = world.folder / "marks"
    marks.mkdir()
    died = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)}
    with Reader(world.url):
        arguments = world.arguments(world.groups[0], "b")
        assert processes.run(publish, *arguments, **died).returncode == -signal.SIGKILL
        if point != "publication.after_publish":
            assert world.states()[2:] == ["publishing"] * 2
        assert finish_all(world.ledger, clock) == []
    assert world.states() == ["superseded"] * 2 + ["published"] * 2
    world.is_whole()


@pytest.mark.parametrize("point", OF_REFUSALS)
def test_dying_while_it_is_taken_back(world, point):
    world.publish(world.groups[0], "a")
    _refuses_attaching(world)
    marks = world.folder / "marks"
    marks.mkdir()
    died = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)}
    with Reader(world.url):
        arguments = world.arguments(world.groups[0], "b")
        assert processes.run(publish, *arguments, **died).returncode == -signal.SIGKILL
        said = finish_all(world.ledger, clock)
    assert len(said) == (point != "publication.after_back")
    assert world.states() == ["published"] * 2 + ["candidate"] * 2
    world.is_whole()


def _refuses_attaching(world: Outward) -> None:
    """The database refuses the second tag, after the first was done there."""
    attach = world.server.attach

    def refuse(data):
        if world.server.lists[data["payload_list"]][1] == TAGS[1] and world.server.refusing:
            world.server.refusing -= 1
            raise type(world.server).refusal("Global Tag is frozen.")
        return attach(data)

    world.server.attach, world.server.refusing = refuse, 1


def test_a_refusal_in_the_middle_takes_back_what_was_done(world):
    world.publish(world.groups[0], "a")
    _refuses_attaching(world)
    with Reader(world.url), pytest.raises(NotPublished, match="Global Tag is frozen"):
        world.publish(world.groups[0], "b")
    assert world.states() == ["published"] * 2 + ["candidate"] * 2
    world.is_whole()
    assert world.publish(world.groups[0], "b").state == "published", "when it is mended"
    world.is_whole()


def test_a_store_that_is_away_is_waited_for_and_told(world):
    world.publish(world.groups[0], "a")
    (world.folder / "files").rename(world.folder / "gone")
    with pytest.raises(PayloadStoreDown, match="files is not there"):
        world.publish(world.groups[1], "b")
    assert world.states()[2:] == ["publishing"] * 2
    with world.ledger.read() as connection:
        task = tables.group_task
        row = connection.execute(select(task).where(task.c.group_id == world.groups[1])).one()
        causes = explain_run(connection, Scope("prompt", clock()), 3).causes
    assert (row.state, row.reason["code"]) == ("processing", "publishing")
    said = [render(cause.reason) for cause in causes if cause.reason["code"] == "publishing"]
    assert said
    assert "on its way to git:conditions/main and nopayloaddb:npdb/PROMPT; " in said[0]
    assert "files is not there" in said[0]
    (world.folder / "gone").rename(world.folder / "files")
    assert world.publish(world.groups[1], "b").state == "published"
    world.is_whole()


def test_what_is_changed_by_hand_is_told_and_nothing_is_done(world):
    world.publish(world.groups[0], "a")
    world.server.place("PROMPT", "Scale", "by-hand", 700, 800)
    (found,) = api.check_stores(world.ledger)
    assert (found.store, found.tag, found.said) == (DATABASE.store, "Scale", "[700, 799] by-hand is not ours")
    with pytest.raises(NotPublished, match=r"was changed there.*by-hand"):
        world.publish(world.groups[1], "b")
    assert world.states()[2:] == ["candidate"] * 2


def test_a_store_that_is_away_is_no_drift_of_the_others(world):
    world.publish(world.groups[0], "a")
    assert list(api.check_stores(world.ledger)) == []
    (world.folder / "conditions.git").rename(world.folder / "gone")
    found = list(api.check_stores(world.ledger, "Scale"))
    assert [(one.store, one.what, one.said.partition(":")[0]) for one in found] == [
        (GIT.store, "unchecked", "cannot be asked")
    ]


def test_where_a_publication_is_under_way_nothing_is_well(world, monkeypatch):
    """Also one that is the first of its tags."""
    monkeypatch.setenv("CALIB_LEDGER", world.url)
    (world.folder / "conditions.git").rename(world.folder / "gone")
    with pytest.raises(PayloadStoreDown):
        world.publish(world.groups[0], "a")
    found = list(api.check_stores(world.ledger))
    assert {(one.store, one.tag, one.what) for one in found} == {
        (target.store, tag, "unchecked") for target in (GIT, DATABASE) for tag in TAGS
    }
    assert all("a publication is under way: prompt/ecal/deliver/" in one.said for one in found)
    result = CliRunner().invoke(app, ["payload", "check"])
    assert result.exit_code == 1
    assert "unchecked: Scale in git:conditions/main: a publication is under way: prompt/" in result.stdout
    assert "as they were published" not in result.stdout
    assert list(api.check_stores(world.ledger, campaign="other")) == []


def test_a_content_in_git_that_is_changed_by_hand_is_told_and_nothing_goes_on(world):
    world.publish(world.groups[0], "a")
    (placed,) = writable(GIT.store).current("Scale")
    edit = [["clone", "--quiet", "conditions.git", "tree"], ["-C", "tree", "add", "."],
            ["-C", "tree", "commit", "--quiet", "-m", "by hand"], ["-C", "tree", "push", "--quiet"],
            ["-C", "tree", "revert", "--no-edit", "HEAD"], ["-C", "tree", "push", "--quiet"]]  # fmt: skip

    def git(*arguments: str) -> None:
        named = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", *named, *arguments], cwd=world.folder, check=True, capture_output=True)

    git(*edit[0])
    (world.folder / "tree" / placed.file).write_text("by hand")
    for one in edit[1:4]:
        git(*one)
    (found,) = api.check_stores(world.ledger)
    now = hashlib.sha256(b"by hand").hexdigest()[:12]
    assert (found.what, found.said) == ("drift", f"{placed.file} has the hash {now} now")
    with pytest.raises(NotPublished, match=rf"Scale was changed there: {placed.file} has the hash {now} now"):
        world.publish(world.groups[1], "b")
    for one in edit[4:]:
        git(*one)
    assert list(api.check_stores(world.ledger)) == []
    assert world.publish(world.groups[1], "b").state == "published"
    world.is_whole()


def test_rollback_puts_the_former_content_into_the_stores(world):
    world.publish(world.groups[0], "a")
    world.publish(world.groups[0], "b")
    row = api.payload_record(world.ledger, "Scale", run=1).payload
    look_up_with({}.get)
    for take_back in (api.rollback_payload, api.withdraw_payload):
        with pytest.raises(OutsideError, match="there is no connection 'conditions'"):
            take_back(world.ledger, row, reason="wrong", person="ada")
        assert "publishing" not in world.states(), "what could not be gone on with is not begun"
        assert api.payload_record(world.ledger, "Scale", run=1).payload == row
    connect(world.folder, world.server.url)
    made = api.rollback_payload(world.ledger, row, reason="wrong", person="ada")
    assert (made.state, made.revision) == ("published", 3)
    world.is_whole()
    assert writable(DATABASE.store).look_up("Scale", 1).hash == made.content_hash


def test_what_was_processed_is_protected(world):
    """By a task of the campaign that has a lock on the tag, and has begun."""
    world.publish(world.groups[0], "a")
    with world.ledger.write() as connection:
        lock = {"group_id": world.groups[0], "task": "deliver", "position": 7, "kind": "payload"}
        connection.execute(insert(tables.lock).values(**lock, parameters={"tag": "Errors"}))
    with pytest.raises(NotPublished, match="runs below 3 were processed already"):
        world.publish(world.groups[0], "b", protect="refuse")
    assert world.publish(world.groups[1], "c", protect="refuse").state == "published"
    world.is_whole()


def test_a_default_holds_behind_the_last_group(world):
    default = world.folder / "default.json"
    default.write_text("nothing known")
    world.publish(world.groups[0], "a", after="default", default_file=str(default))
    world.publish(world.groups[1], "b", after="default", default_file=str(default))
    store = writable(GIT.store)
    kept = [(one.first_run, one.last_run) for one in store.current("Scale")]
    assert kept == [(1, 2), (3, 4), (5, None)]
    assert store.current("Scale")[-1].hash == hashlib.sha256(b"nothing known").hexdigest()
    assert list(api.check_stores(world.ledger)) == []


def test_what_was_there_before_stays(world):
    world.server.place("PROMPT", "Scale", "old", 0, None)
    world.publish(world.groups[1], "b")
    world.publish(world.groups[0], "a")
    listing = world.server.of_list(world.server.list_of("PROMPT", "Scale"))
    found = sorted((one["major_iov"], one["major_iov_end"]) for one in listing)
    assert found == [(0, 1), (1, 3), (3, 5)]


def test_a_tag_has_one_writer(world):
    world.publish(world.groups[0], "a")
    with world.ledger.write() as connection:
        connection.execute(update(tables.conditions_tag).values(workflow="other"))
    with pytest.raises(NotPublished, match=r"other\.deliver in the campaign prompt writes"):
        world.publish(world.groups[1], "b")


def test_another_process_that_lives_is_not_overtaken(world):
    world.publish(world.groups[0], "a")
    holder = f"{socket.gethostname()[:60]}:{os.getppid()}:x"
    with world.ledger.write() as connection:
        held = {"holder": holder, "held_until": clock() + timedelta(minutes=5)}
        connection.execute(update(tables.conditions_tag).values(**held))
    with pytest.raises(PayloadStoreDown, match="another process publishes"):
        world.publish(world.groups[1], "b")
    with world.ledger.write() as connection:
        connection.execute(update(tables.conditions_tag).values(held_until=clock() - timedelta(minutes=5)))
    assert world.publish(world.groups[1], "b").state == "published"


def test_gaps_are_refused_where_that_is_asked_for(world):
    world.publish(world.groups[0], "a", refuse_gaps=True)
    with pytest.raises(NotPublished, match=r"there is a gap before it, Scale: \[3, 4\]"):
        world.publish(world.groups[2], "c", refuse_gaps=True)
    world.publish(world.groups[1], "b", refuse_gaps=True)
    assert world.publish(world.groups[2], "c", refuse_gaps=True).state == "published"


def test_the_set_of_another_campaign_stays_in_the_ledger(world, ledger):
    """Rule 54: the tags of a spec are those of prompt."""
    publication = flow_of(world.folder).tasks["deliver"].publish
    with ledger.read() as connection:
        prompt = standing_of(connection, world.groups[0], "deliver").campaign
    redo = replace(prompt, name="redo")
    assert len(stores_of("ecal", publication, "Scale", prompt, None)) == 2
    assert stores_of("ecal", publication, "Scale", redo, None) == []
    flow = flow_of(world.folder)
    given = {"stores.Scale": "Scale_redo", "stores.Errors": "Errors_redo"}
    found, mistakes = sorted_out(given, {"ecal": flow})
    assert (found, mistakes) == ({"ecal": given}, [])
    own = stores_of("ecal", publication, "Scale", replace(redo, overrides=found), None)
    assert [(one["store"], one["tag"]) for one in own] == [(GIT.store, "Scale_redo"), (DATABASE.store, "Scale_redo")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stores.Scale": "Errors", "stores.Errors": "E"}, "only `prompt` publishes"),
        ({"stores.Scale": "S"}, "there is no stores.Errors"),
        ({"stores.Scales": "S"}, "stores.Scale"),
        ({"stores.Scale": "a b", "stores.Errors": "E"}, "is no tag"),
    ],
    ids=str,
)
def test_tags_of_a_campaign_that_cannot_be_meant(tmp_path, given, said):
    (mistake,) = sorted_out(given, {"ecal": flow_of(tmp_path)})[1]
    assert said in mistake


def test_what_persons_approve_goes_to_the_stores_then(world):
    approval = Approval(users=("ada",))
    waits = world.publish(world.groups[0], "a", more=(), approve=approval)
    assert (waits.state, waits.reason["code"]) == ("candidate", "awaits_approval")
    assert writable(DATABASE.store).current("Scale") == []
    settled = settle(
        world.ledger,
        group_id=world.groups[0],
        task="deliver",
        tags=["Scale"],
        request=ApprovalRequest(waits.payload_id, waits.content_hash),
        answer=ApprovalAnswer((option("Approve", waits.content_hash),), "ada", "fine", clock()),
        rules=Rules(approval, ("ada",), set()),
        before=(),
        now=clock(),
    )
    assert settled.state == "publishing"
    assert world.states() == ["publishing"]
    made = as_it_is(world.ledger, [settled], finish(world.ledger, world.groups[0], "deliver"))
    assert made.state == "published"
    world.is_whole()


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=pytest.mark.long)])
def test_rounds_of_deaths_and_refusals(world, rounds):
    """Random groups, contents, deaths and faults of the database; in the end each store has what the ledger says."""
    seed = int(os.environ.get("CALIB_TEST_SEED", random.randrange(10**6)))
    chance = random.Random(seed)
    print(f"CALIB_TEST_SEED={seed}")
    with Reader(world.url):
        for number in range(rounds):
            marks = world.folder / f"marks{number}"
            marks.mkdir()
            died = {"CALIB_CRASH_AT": chance.choice([*POINTS, ""]), "CALIB_CRASH_FOLDER": str(marks)}
            if chance.random() < 0.5:
                what = chance.choice(["before", "after"])
                world.server.faults[world.server.count + chance.randrange(1, 20)] = (what, 0)
            order = chance.choice([(GIT, DATABASE), (DATABASE, GIT)])
            arguments = world.arguments(chance.choice(world.groups[:4]), f"{number % 7}", stores=order)
            processes.run(publish, *arguments, **died)
            if chance.random() < 0.5:
                finish_all(world.ledger, clock)
        world.server.faults.clear()
        for _ in range(3):
            finish_all(world.ledger, clock)
    with world.ledger.read() as connection:
        assert publications.on_their_way(connection) == []
    world.is_whole()
    fsck = ["git", "-C", str(world.folder / "conditions.git"), "fsck", "--strict"]
    assert subprocess.run(fsck, capture_output=True, check=False).returncode == 0


def test_a_check_of_a_tag_knows_what_it_is_called_in_stores(world):
    """Another campaign's tags have names of their own there; here a spec gives one."""
    world.publish(world.groups[0], "a", more=(), stores=(GIT.model_copy(update={"tag": "Scale_own"}),))
    world.publish(world.groups[1], "b", more=(), stores=(GIT.model_copy(update={"tag": "Scale_own"}),))
    kept = content_path(api.payload_record(world.ledger, "Scale", run=1).payload)
    kept.chmod(0o644)
    kept.write_text("by hand")
    (world.folder / "conditions.git").rename(world.folder / "away.git")
    for tag in ("Scale", "Scale_own"):
        assert [one.what for one in api.check_payloads(world.ledger, tag)] == ["changed"]
        assert [(one.what, one.tag) for one in api.check_stores(world.ledger, tag)] == [("unchecked", "Scale_own")]
    with pytest.raises(NotFound, match="no tag Scale_ow"):
        list(api.check_payloads(world.ledger, "Scale_ow"))
