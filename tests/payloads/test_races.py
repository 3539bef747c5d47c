"""Two at once, or one thing between two others: nothing goes out that was not decided, and no tag stays shut."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from airflow_calib_provider import api
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.errors import CalibError, NotFound, PayloadStoreDown
from airflow_calib_provider.ledger import publications, tables
from airflow_calib_provider.payloads import publication, store
from airflow_calib_provider.payloads.approvals import ApprovalAnswer, ApprovalRequest, Rules, settle
from airflow_calib_provider.payloads.corrections import rollback
from airflow_calib_provider.payloads.outgoing import writable
from airflow_calib_provider.payloads.publication import finish_all
from airflow_calib_provider.payloads.questions import option
from airflow_calib_provider.spec.models import Approval
from tests import processes
from tests.payloads.outward import DATABASE, GIT, Outward, publish


@pytest.fixture
def database() -> str:
    """One will do: the statements are those of the other modules."""
    return "sqlite"


def clock() -> datetime:
    return datetime.now(UTC)


def dies(world: Outward, point: str, text: str = "a") -> str:
    """A set that is on its way, whose process is gone."""
    marks = world.folder / "marks"
    marks.mkdir()
    died = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)}
    arguments = world.arguments(world.groups[0], text)
    assert processes.run(publish, *arguments, **died).returncode == -signal.SIGKILL
    with world.ledger.read() as connection:
        (key,) = publications.on_their_way(connection)
    return key


@pytest.mark.parametrize("point", ["publication.after_put", "publication.after_plan", "publication.before_publish"])
def test_a_set_that_another_has_finished_meanwhile_is_not_begun_again(world, monkeypatch, point):
    """Between the look at it and the hold on its tags."""
    key = dies(world, point)
    hold = publication.PublishedSet.hold

    def after_another(self):
        monkeypatch.setattr(publication.PublishedSet, "hold", hold)
        assert finish_all(world.ledger, clock) == []
        hold(self)

    monkeypatch.setattr(publication.PublishedSet, "hold", after_another)
    made = publication.carry_out(world.ledger, key, clock)
    assert [row.state for row in made] == ["published"] * 2
    world.is_whole()
    world.publish(world.groups[1], "b")
    world.is_whole()


def test_who_was_overtaken_does_not_let_go_what_another_holds(world):
    key = dies(world, "publication.after_put")
    late = publication.PublishedSet(world.ledger, key, clock)
    late.hold()
    with world.ledger.write() as connection:
        held = update(tables.conditions_tag).values(holder="elsewhere:1:x", held_until=clock() + timedelta(minutes=9))
        connection.execute(held)
    late.leave()
    with pytest.raises(PayloadStoreDown, match="another process publishes"):
        publication.carry_out(world.ledger, key, clock)


def test_what_is_on_its_way_is_not_published_past_its_stores(world):
    """By a person who repeats `calib payload publish`."""
    dies(world, "publication.after_put")
    with pytest.raises((NotFound, PayloadStoreDown)):
        store.publish_candidates(world.ledger, world.groups[0], person="ada", now=clock())
    assert world.states() == ["publishing"] * 2
    assert finish_all(world.ledger, clock) == []
    world.is_whole()


def test_what_is_on_its_way_is_not_ended_by_other_content(world):
    """Made between the look at what is on its way and the publication."""
    dies(world, "publication.after_plan")
    file = world.folder / "products" / "Scale"
    file.write_text("other")
    about = {"tag": "Scale", "file": file, "group_id": world.groups[0], "task": "deliver", "iov": Iov(1, 2)}
    with pytest.raises(PayloadStoreDown, match="on its way"):
        store.publish(world.ledger, **about, provenance={}, now=clock(), then=lambda _, __, made: made)
    assert world.states() == ["publishing"] * 2
    assert finish_all(world.ledger, clock) == []
    world.is_whole()


def test_an_answer_about_what_is_on_its_way_changes_nothing(world):
    dies(world, "publication.after_plan")
    with world.ledger.read() as connection:
        row = connection.execute(select(tables.payload).where(tables.payload.c.tag == "Scale")).one()
    approval = Approval(users=("ada",))
    for chosen in ("Reject", "Approve"):
        made = settle(
            world.ledger,
            group_id=world.groups[0],
            task="deliver",
            tags=["Scale"],
            request=ApprovalRequest(row.id, row.content_hash),
            answer=ApprovalAnswer((option(chosen, row.content_hash),), "ada", "", clock()),
            rules=Rules(approval, ("ada",), set()),
            before=(),
            now=clock(),
        )
        assert made.state == "publishing"
    assert world.states() == ["publishing"] * 2
    assert finish_all(world.ledger, clock) == []
    world.is_whole()


def test_one_set_that_cannot_be_taken_further_does_not_stop_the_others(world, monkeypatch):
    dies(world, "publication.after_put")
    good = publication.carry_out

    def broken(ledger, key, at):
        if key == "odd":
            raise CalibError("something else")
        return good(ledger, key, at)

    monkeypatch.setattr(publication, "carry_out", broken)
    found = publications.on_their_way
    monkeypatch.setattr(publications, "on_their_way", lambda connection: ["odd", *found(connection)])
    assert finish_all(world.ledger, clock) == ["odd: something else"]
    monkeypatch.undo()
    assert world.states() == ["published"] * 2


def test_a_set_of_late_runs_is_published_as_one(world):
    with world.ledger.write() as connection:
        connection.execute(update(tables.run_group).values(late=True))
    assert world.publish(world.groups[0], "a").state == "candidate"
    store.publish_candidates(world.ledger, world.groups[0], person="ada", now=clock())
    with world.ledger.read() as connection:
        assert len(publications.on_their_way(connection)) == 1
    assert finish_all(world.ledger, clock) == []
    assert world.states() == ["published"] * 2
    world.is_whole()


def test_what_late_runs_have_in_stores_goes_to_the_group_that_takes_them(world):
    """With its next edition they have what that has made; until then they have what they had."""
    target, late = world.groups[:2]
    with world.ledger.write() as connection:
        connection.execute(update(tables.run_group).where(tables.run_group.c.id == late).values(late=True))
        names = dict(connection.execute(select(tables.run_group.c.id, tables.run_group.c.name)).all())
    world.publish(target, "a")
    world.publish(late, "b")
    store.publish_candidates(world.ledger, late, person="ada", now=clock())
    with pytest.raises(CalibError, match="runs: nothing was changed"):
        api.amend_group(world.ledger, names[target], add=[3, 4], reason="late", person="ada")
    assert finish_all(world.ledger, clock) == []
    api.amend_group(world.ledger, names[target], add=[3, 4], reason="late", person="ada")
    for one in (GIT, DATABASE):
        assert len(writable(one.store).current("Scale")) == 2, "until the next edition is published"
    assert world.publish(target, "c").iov == Iov(1, 4)
    assert world.states() == ["superseded"] * 4 + ["published"] * 2
    world.is_whole()


def test_a_rollback_ends_what_waited_for_an_approval(world):
    """It is not the newest any more: nobody could approve it, and nobody is to be reminded of it."""
    plain = {"more": (), "stores": ()}
    for text in ("a", "b"):
        world.publish(world.groups[0], text, **plain)
    world.publish(world.groups[0], "c", **plain, approve=Approval(users=("ada",)))
    with world.ledger.read() as connection:
        published = connection.execute(select(tables.payload.c.id).where(tables.payload.c.state == "published"))
        number = published.scalar_one()
    (made, *_) = rollback(world.ledger, number, person="ada", reason="wrong", now=clock())
    assert (made.revision, made.state) == (4, "published")
    assert world.states() == ["superseded", "superseded", "expired", "published"]


def test_what_was_proposed_before_there_were_stores_goes_there_too(world):
    """With the same content as before, and another one of the set that has changed since."""
    with world.ledger.write() as connection:
        connection.execute(update(tables.run_group).values(late=True))
    world.publish(world.groups[0], "a", stores=())
    world.publish(world.groups[0], {"Scale": "a", "Errors": "b"})
    assert world.states() == ["expired"] * 2 + ["candidate"] * 2
    store.publish_candidates(world.ledger, world.groups[0], person="ada", now=clock())
    assert finish_all(world.ledger, clock) == []
    assert world.states() == ["expired"] * 2 + ["published"] * 2
    world.is_whole()
