"""What is not published in time is replaced by the payload before its group, until it is there (rule 71)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider import api
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.ledger import publication_deadlines, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_run
from airflow_calib_provider.ledger.groups import group_by_id
from airflow_calib_provider.ledger.transitions import Subject
from airflow_calib_provider.messages.preview import preview
from airflow_calib_provider.payloads.approvals import ApprovalAnswer, ApprovalRequest, Rules, settle
from airflow_calib_provider.payloads.fallback import fall_back
from airflow_calib_provider.payloads.outgoing import writable
from airflow_calib_provider.payloads.publication import finish_all
from airflow_calib_provider.payloads.questions import option
from airflow_calib_provider.spec.models import Approval, PublishBy
from tests import processes
from tests.messages.histories import spec
from tests.outside.nopayloaddb import nopayloaddb
from tests.payloads.outward import DATABASE, GIT, Outward, connect, flow_of

BY = PublishBy(at_most=timedelta(hours=36), since="group_closed", warn_before=timedelta(hours=6), then="fallback")
LATE = timedelta(days=3)


def clock() -> datetime:
    return datetime.now(UTC) + LATE


@pytest.fixture
def world(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outward]:
    """The second group is late."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    with nopayloaddb() as server:
        made = Outward(tmp_path, ledger, server)
        task = flow_of(tmp_path, by=BY).tasks["deliver"]
        with ledger.write() as connection:
            group = group_by_id(connection, made.groups[1])
            about = Subject(group.campaign, group.workflow, None, group.name)
            publication_deadlines.declare(connection, [(group.id, about, [task])])
        yield made


def passes(world: Outward) -> list[str]:
    """What `calib_inject` does when the deadline has passed."""
    for _ in range(2):  # it begins to count, and then it has passed
        publication_deadlines.watch(world.ledger, clock())
    return fall_back(world.ledger, clock)


def late(url: str, folder: Path, server: str) -> None:
    """The same, in any process."""
    connect(folder, server)
    ledger = Ledger(url)
    fall_back(ledger, clock)
    ledger.close()


def states_of(world: Outward) -> list[tuple[int, str]]:
    """Revision and state of what the second group has under the first tag."""
    of = tables.payload
    with world.ledger.read() as connection:
        query = select(of.c.revision, of.c.state).where(of.c.group_id == world.groups[1], of.c.tag == "Scale")
        return [tuple(row) for row in connection.execute(query.order_by(of.c.revision))]


def task_state(world: Outward) -> str | None:
    of = tables.group_task
    with world.ledger.read() as connection:
        query = select(of.c.state).where(of.c.group_id == world.groups[1], of.c.task == "deliver")
        return connection.execute(query).scalar()


def deadline_state(world: Outward) -> str:
    with world.ledger.read() as connection:
        return publication_deadlines.of_group(connection, world.groups[1])["deliver"].state


def test_nothing_falls_back_before_its_deadline_nor_what_is_published(world):
    world.publish(world.groups[0], "a")
    publication_deadlines.watch(world.ledger, datetime.now(UTC))
    assert fall_back(world.ledger, clock) == []
    assert states_of(world) == []
    world.publish(world.groups[1], "b")
    assert passes(world) == []
    assert states_of(world) == [(1, "published")]


def test_the_payload_before_holds_until_its_own_is_published(world):
    """In all stores; its task goes on meanwhile, and so does what is told of its deadline."""
    world.publish(world.groups[0], "a")
    before = task_state(world)
    for _ in range(2):
        assert passes(world) == []
    assert states_of(world) == [(1, "published")]
    world.is_whole()
    for store in (GIT.store, DATABASE.store):
        assert [(one.first_run, one.last_run) for one in writable(store).current("Scale")] == [(1, 2), (3, 4)]
        assert writable(store).look_up("Scale", 3).hash == writable(store).look_up("Scale", 1).hash
    made = api.payload_record(world.ledger, "Scale", run=3).payload
    told = made.provenance["fallback_of"]
    messages = preview(world.ledger, spec(at_most=100), datetime.now(UTC) - timedelta(hours=1))
    (said,) = [one for one in messages if one.title.startswith("Published in its place: ")]
    assert said.title == "Published in its place: Scale and Errors revision 1 for runs 3–4"
    assert said.why.startswith("the content of the group before holds for these runs for now: it was to be published")
    assert (told["group"], told["revision"], told["first_run"], told["last_run"]) == ("fill-r1", 1, 1, 2)
    assert told["why"].startswith("it was to be published by 20")
    assert (task_state(world), deadline_state(world)) == (before, "passed")
    with world.ledger.read() as connection:
        causes = explain_run(connection, Scope("prompt", clock()), 3).causes
    assert any("then the payload before the group takes its place" in render(cause.reason) for cause in causes)
    assert world.publish(world.groups[1], "b").state == "published"
    assert states_of(world) == [(1, "superseded"), (2, "published")]
    assert (task_state(world), deadline_state(world)) == ("done", "met")
    world.is_whole()
    assert passes(world) == []


def test_its_own_with_the_same_content_takes_the_place_too(world):
    """The fallback is nobody's result."""
    world.publish(world.groups[0], "a", stores=())
    passes(world)
    assert world.publish(world.groups[1], "a", stores=(), no_change="skip").new
    assert states_of(world) == [(1, "superseded"), (2, "published")]
    assert "fallback_of" not in api.payload_record(world.ledger, "Scale", run=3).payload.provenance


def test_a_candidate_that_persons_approve_later_takes_the_place(world):
    asks = {"stores": (), "more": (), "approve": Approval(users=("ada",))}
    world.publish(world.groups[0], "a", stores=(), more=())
    waits = world.publish(world.groups[1], "b", **asks)
    passes(world)
    assert states_of(world) == [(1, "candidate"), (2, "published")]
    settled = settle(
        world.ledger,
        group_id=world.groups[1],
        task="deliver",
        tags=["Scale"],
        request=ApprovalRequest(waits.payload_id, waits.content_hash),
        answer=ApprovalAnswer((option("Approve", waits.content_hash),), "ada", "fine", clock()),
        rules=Rules(asks["approve"], ("ada",), set()),
        before=(),
        now=clock(),
    )
    assert settled.state == "published"
    assert states_of(world) == [(1, "published"), (2, "superseded")]


def test_without_a_payload_before_it_says_so(world):
    (said,) = passes(world)
    assert said == "deliver of fill-r3 has no fallback yet: nothing is published before it"


def test_a_store_that_refuses_it_is_told_and_its_task_is_not(world):
    world.publish(world.groups[0], "a")
    world.server.place("PROMPT", "Scale", "by-hand", 700, 800)
    before = task_state(world)
    (said,) = passes(world)
    assert "a store has refused it" in said
    assert states_of(world) == [(1, "expired")]
    assert task_state(world) == before
    assert passes(world) == []


@pytest.mark.parametrize("point", ["fallback.before_commit", "fallback.after_commit", "publication.after_receipt"])
def test_dying_at(world, point):
    """Whoever comes next makes one of it."""
    world.publish(world.groups[0], "a")
    for _ in range(2):
        publication_deadlines.watch(world.ledger, clock())
    marks = world.folder / "marks"
    marks.mkdir()
    died = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)}
    arguments = (world.url, world.folder, world.server.url)
    assert processes.run(late, *arguments, **died).returncode == -signal.SIGKILL
    assert fall_back(world.ledger, clock) == []
    assert finish_all(world.ledger, clock) == []
    assert states_of(world) == [(1, "published")]
    world.is_whole()


def test_a_set_of_which_one_tag_has_no_store_holds_as_a_whole(world):
    """Its first tag is from before there were stores, and was the same since."""
    world.publish(world.groups[0], "a", stores=())
    world.publish(world.groups[0], {"Scale": "a", "Errors": "b"})
    assert passes(world) == []
    assert states_of(world) == [(1, "published")]
    assert world.holds(3) == ["a of Scale", "b of Errors"]
    assert writable(GIT.store).look_up("Errors", 3) is not None
    assert passes(world) == []


def test_a_set_of_which_one_tag_has_no_store_is_refused_as_a_whole(world):
    world.publish(world.groups[0], "a", stores=())
    world.publish(world.groups[0], {"Scale": "a", "Errors": "b"})
    world.server.place("PROMPT", "Errors", "by-hand", 700, 800)
    assert len(passes(world)) == 1
    assert states_of(world) == [(1, "expired")]
