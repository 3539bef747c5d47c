"""Taking back a set, here and in outside stores: as a whole, or not at all (rules 70, 71)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider import api
from airflow_calib_provider.errors import NotFound, PayloadError
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Payload
from tests.outside.nopayloaddb import nopayloaddb
from tests.payloads.outward import DATABASE, GIT, Outward


@pytest.fixture
def database() -> str:
    """One will do: the statements are those of the other modules."""
    return "sqlite"


@pytest.fixture
def world(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outward]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    with nopayloaddb() as server:
        yield Outward(tmp_path, ledger, server)


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


def test_a_first_payload_that_is_wrong_has_a_way_out(world):
    """Nothing is before it: what is made anew takes its place, in all stores."""
    world.publish(world.groups[0], "a")
    way = "`calib retry fill-r1 --task deliver`: that takes its place"
    with pytest.raises(PayloadError) as withdrawn:
        api.withdraw_payload(world.ledger, newest(world), reason="wrong", person="ada")
    with pytest.raises(NotFound) as rolled_back:
        api.rollback_payload(world.ledger, newest(world), reason="wrong", person="ada")
    assert way in str(withdrawn.value.hint)
    assert way in str(rolled_back.value.hint)
    world.publish(world.groups[0], "right")
    assert world.states() == ["superseded"] * 2 + ["published"] * 2
    world.is_whole()
