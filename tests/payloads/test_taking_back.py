"""Stores that somebody changes by hand while a set is on its way: nothing stays shut, and no store keeps half of it."""

from __future__ import annotations

import signal
from datetime import UTC, datetime

import pytest

from airflow_calib_provider import api
from airflow_calib_provider.errors import NotPublished, PayloadStoreDown
from airflow_calib_provider.ledger import publications
from airflow_calib_provider.payloads.outgoing import writable
from airflow_calib_provider.payloads.publication import finish_all
from airflow_calib_provider.spec.models import OutsideTarget
from tests import processes
from tests.payloads.outward import DATABASE, GIT, TAGS, Outward, publish


@pytest.fixture
def database() -> str:
    """One will do: the statements are those of the other modules."""
    return "sqlite"


def clock() -> datetime:
    return datetime.now(UTC)


def change(world: Outward, first: int, behind: int) -> None:
    """Somebody puts a payload of their own into the database, which cuts what is there."""
    made = world.server._new("by-hand", "", first, 0, behind, 0)
    with world.server.guard:
        type(world.server).attach(
            world.server, {"piov_id": made["id"], "payload_list": world.server.list_of("PROMPT", "Scale")}
        )


def hashes(store: OutsideTarget) -> list[set[str]]:
    """Of what holds there, of each tag."""
    return [{one.hash for one in writable(store.store).current(tag)} for tag in TAGS]


@pytest.mark.parametrize("stores", [(GIT, DATABASE), (DATABASE, GIT), (DATABASE,)], ids=["last", "first", "only"])
def test_what_is_changed_between_plan_and_apply_ends_the_set(world, stores):
    """What others have got is taken back, and what was put there by hand is told and stays; then all can go on."""
    world.publish(world.groups[0], "a", stores=stores)
    had = hashes(GIT) if GIT in stores else None
    marks = world.folder / "marks"
    marks.mkdir()
    died = {"CALIB_CRASH_AT": "publication.after_plan", "CALIB_CRASH_FOLDER": str(marks)}
    arguments = world.arguments(world.groups[0], "b", stores=stores)
    assert processes.run(publish, *arguments, **died).returncode == -signal.SIGKILL
    change(world, 1, 3)
    (said,) = finish_all(world.ledger, clock)
    assert "Scale was changed there while it was published: it has [1, 2] by-hand" in said
    assert world.states() == ["published"] * 2 + ["candidate"] * 2
    assert had is None or hashes(GIT) == had
    told = [one.said for one in api.check_stores(world.ledger)]
    assert [one.rpartition(" ")[2] for one in told] == ["more", "ours"], told
    with pytest.raises(NotPublished, match=r"was changed there.*by-hand"):
        world.publish(world.groups[0], "b", stores=stores)
    # The tags are nobody's meanwhile: other groups are told of the change, too, and not to wait.
    with pytest.raises(NotPublished, match=r"was changed there.*by-hand"):
        world.publish(world.groups[1], "c", stores=stores)


def test_a_store_that_cannot_be_put_back_keeps_no_other_from_it(world):
    """Somebody changes the last one beside what it has got, as it refuses the rest."""
    world.publish(world.groups[0], "a")
    had, attach = hashes(GIT), world.server.attach

    def refuse(data):
        if world.server.lists[data["payload_list"]][1] == TAGS[0]:
            return attach(data)
        if world.server.refusing == 0:
            change(world, 2, 3)
        world.server.refusing += 1
        raise type(world.server).refusal("Global Tag is frozen.")

    world.server.attach = refuse
    with pytest.raises(PayloadStoreDown, match="by-hand"):
        world.publish(world.groups[0], "b")
    assert hashes(GIT) == had
    assert world.states() == ["published"] * 2 + ["publishing"] * 2
    with world.ledger.read() as connection:
        assert len(publications.on_their_way(connection)) == 1, "the database has some of it still"
    world.server.intervals = [one for one in world.server.intervals if one["payload_url"] != "by-hand"]
    (said,) = finish_all(world.ledger, clock)
    assert "Global Tag is frozen" in said
    assert world.states() == ["published"] * 2 + ["candidate"] * 2
    world.is_whole()
