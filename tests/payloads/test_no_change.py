"""Content that the payload before a group has, too: it is skipped, or extends that one (rule 71)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider import api
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.jobsets import publish as publishing
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Scope, explain_run
from airflow_calib_provider.ledger.starting import require_open
from airflow_calib_provider.payloads.approvals import Rules, settle
from airflow_calib_provider.payloads.outgoing import writable
from airflow_calib_provider.spec.models import Approval
from tests.outside.nopayloaddb import nopayloaddb
from tests.payloads.outward import DATABASE, GIT, Outward


@pytest.fixture
def world(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outward]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    with nopayloaddb() as server:
        yield Outward(tmp_path, ledger, server)


def task_of(world: Outward, group: int) -> tuple[str, str]:
    """State, and what is said."""
    of = tables.group_task
    with world.ledger.read() as connection:
        row = connection.execute(select(of).where(of.c.group_id == group, of.c.task == "deliver")).one()
    return row.state, render(row.reason)


def listing(world: Outward, store: str) -> list[tuple[int, int | None]]:
    return [(one.first_run, one.last_run) for one in writable(store).current("Scale")]


def test_what_has_not_changed_is_published_as_any_other_by_default(world):
    world.publish(world.groups[0], "a")
    assert world.publish(world.groups[1], "a").state == "published"
    assert world.states() == ["published"] * 4
    assert "extends" not in api.payload_record(world.ledger, "Scale", run=3).payload.provenance
    world.is_whole()


def test_what_has_not_changed_is_skipped(world):
    """Nothing is published, and what needs the task goes on."""
    world.publish(world.groups[0], "a")
    for _ in range(2):
        made = world.publish(world.groups[1], "a", no_change="skip")
        assert (made.state, made.new, made.revision) == ("unchanged", False, 1)
    assert world.states() == ["published"] * 2
    said = "published nothing for runs 3–4: the content of Scale, Errors is that of revision 1 of fill-r1"
    assert task_of(world, world.groups[1]) == ("done", said)
    assert listing(world, GIT.store) == listing(world, DATABASE.store) == [(1, 2)]
    with world.ledger.read() as connection:
        require_open(connection, world.groups[1], "deliver", ["deliver"], datetime.now(UTC))
        causes = explain_run(connection, Scope("prompt", datetime.now(UTC)), 3).causes
    assert said in [cause.text for cause in causes]
    world.is_whole()


def test_a_set_is_skipped_only_if_none_of_it_has_changed(world):
    world.publish(world.groups[0], "a", stores=())
    other = world.folder / "products" / "other"
    other.write_text("b")
    made = world.publish(world.groups[1], "a", stores=(), no_change="skip", more=(("Errors", str(other)),))
    assert made.state == "published"
    assert world.states() == ["published"] * 4


def test_what_has_changed_is_published_and_a_correction_is_not_skipped(world):
    world.publish(world.groups[0], "a", stores=(), no_change="skip")
    world.publish(world.groups[1], "b", stores=(), no_change="skip")
    assert world.states() == ["published"] * 4
    assert world.publish(world.groups[1], "a", stores=(), no_change="skip").revision == 2, (
        "revision 1 would go on being served"
    )
    assert world.states() == ["published"] * 2 + ["superseded"] * 2 + ["published"] * 2


def test_what_was_skipped_is_published_when_it_has_changed(world):
    world.publish(world.groups[0], "a", stores=(), no_change="skip")
    world.publish(world.groups[1], "a", stores=(), no_change="skip")
    assert world.publish(world.groups[1], "b", stores=(), no_change="skip").state == "published"
    assert task_of(world, world.groups[1])[1].startswith("published ")


def test_a_candidate_without_change_expires_and_nobody_is_asked(world):
    asks = {"more": (), "approve": Approval(users=("ada",))}
    world.publish(world.groups[0], "a", stores=(), more=())
    assert world.publish(world.groups[1], "b", stores=(), **asks).state == "candidate"
    made = world.publish(world.groups[1], "a", stores=(), no_change="skip", **asks)
    assert (made.state, made.payload_id) == ("unchanged", 0)
    assert world.states() == ["published", "expired"]
    settled = settle(
        world.ledger,
        group_id=world.groups[1],
        task="deliver",
        tags=["Scale"],
        request=None,
        answer=None,
        rules=Rules(Approval(users=("ada",)), ("ada",), set()),
        before=(),
        now=datetime.now(UTC),
    )
    assert settled.state == "unchanged"


def test_an_extension_is_an_interval_of_its_own_of_the_same_file(world):
    world.publish(world.groups[0], "a")
    files = sorted((world.folder / "files").rglob("*"))
    assert world.publish(world.groups[1], "a", no_change="extend").state == "published"
    assert sorted((world.folder / "files").rglob("*")) == files
    assert listing(world, GIT.store) == listing(world, DATABASE.store) == [(1, 2), (3, 4)]
    made = api.payload_record(world.ledger, "Scale", run=3).payload
    told = {"campaign": "prompt", "group": "fill-r1", "revision": 1, "first_run": 1, "last_run": 2}
    assert made.provenance["extends"] == told
    assert task_of(world, world.groups[1])[1].endswith("revision 1 for runs 3–4, which extends fill-r1")
    world.publish(world.groups[2], "c", no_change="extend")
    assert "extends" not in api.payload_record(world.ledger, "Scale", run=5).payload.provenance
    world.is_whole()


@pytest.mark.parametrize(("stated", "told"), [(None, True), ("publish", False)])
def test_an_iteration_without_change_extends_unless_the_spec_says_otherwise(world, monkeypatch, stated, told):
    world.publish(world.groups[0], "a", stores=())
    made_by = [{"task": "scale", "iteration": {"code": "iteration_no_change"}}]
    provenance = publishing._provenance
    monkeypatch.setattr(publishing, "_provenance", lambda *about: {**provenance(*about), "made_by": made_by})
    assert world.publish(world.groups[1], "a", stores=(), no_change=stated).state == "published"
    assert ("extends" in api.payload_record(world.ledger, "Scale", run=3).payload.provenance) is told
