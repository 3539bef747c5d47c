"""A closed group gets its next edition, by a person and in no other way (rule 51)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from airflow_calib_provider import api
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import CalibError, IllegalTransition, NotOpen, PayloadError
from airflow_calib_provider.injection import amending, amendments
from airflow_calib_provider.injection.amending import Amended
from airflow_calib_provider.jobsets.publish import _amendments
from airflow_calib_provider.ledger import campaigns, editions, exclusions, groups, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.locks.base import Look
from airflow_calib_provider.ledger.waiting import FORMING, look
from airflow_calib_provider.payloads.store import publish
from tests.injection.test_inject import World
from tests.ledger.making import RUN, count, done, fill, group_ids, set_state, task, total, workflow
from tests.payloads.test_candidates import ECAL, MU, Late

WHY = {"reason": "its file came late", "person": "ada"}


class Amending(Late):
    """As it is when runs 2, 4 and 5 have come late: 2 of fill 0, 4 and 5 of fill 1."""

    def amend(self, name: str, **options: Any) -> Amended:
        return api.amend_group(self.ledger, name, **{**WHY, **options})

    def opened(self, name: str) -> None:
        """Airflow has its DAG run."""
        row = self.row(name)
        of = {"run_after": self.now, "note": "", "wanted_at": self.now, "not_before": self.now, "refusals": 0}
        key = {"group_id": row.id, "dag_id": "ecal__fill", "run_id": f"prompt__{name}", "state": "opened"}
        with self.ledger.write() as connection:
            connection.execute(tables.dag_run_request.delete().where(tables.dag_run_request.c.group_id == row.id))
            connection.execute(tables.dag_run_request.insert().values(**key, **of))

    def row(self, name: str) -> Any:
        with self.ledger.read() as connection:
            return groups.group_by_id(connection, self.id(name))

    def events(self) -> int:
        return count(self.ledger, tables.event)

    def to_clear(self) -> list[tuple[str, int]]:
        with self.ledger.read() as connection:
            return [(row.group_name, row.n) for row in editions.to_clear(connection)]


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Amending:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    made = Amending(ledger, tmp_path)
    made.opened("fill-r1")
    return made


def test_the_next_edition(world: Amending) -> None:
    world.make("fill-r2", "late", Iov(2, 2))
    before = world.row("fill-r1")
    done_ = world.amend("fill-r1", add=[2])
    assert (done_.edition, done_.runs, done_.added, done_.stale) == (2, [1, 2, 3], [2], ["scale", "deliver"])
    assert (done_.absorbed, done_.lessened) == (["fill-r2"], [])
    row = world.row("fill-r1")
    assert (row.name, row.first_run, row.span, row.state, row.edition) == ("fill-r1", 1, (1, 3), "closed", 2)
    assert (row.amounts, row.fills, row.close_reason) == ({}, [0], before.close_reason)
    # What was done is to be done again; what had not begun is as it was.
    assert world.tasks("fill")["fill-r1"] == {"scale": "new", "deliver": "new", "after": "new"}
    assert world.to_clear() == [("fill-r1", 2)]
    # Until then all holds that held.
    assert world.of("payload", "fill-r1") == ["published"]
    assert world.of("generation", "fill-r1") == ["done"]
    # The group of late runs has none left, and what it has made is over.
    assert world.members("fill")[2] == "fill-r1"
    assert world.row("fill-r2").state == "dropped"
    assert world.of("payload", "fill-r2") == ["expired"]
    with world.ledger.read() as connection:
        (said,) = connection.execute(select(tables.group_edition)).all()
        assert _amendments(connection, row.id)["edition"] == 2
    assert (said.n, said.runs, said.added, said.removed, said.person, said.reason) == (
        2, [1, 2, 3], [2], [], "ada", "its file came late"
    )  # fmt: skip


def test_what_an_edition_waits_for_it_has_not_waited_for_before(world: Amending) -> None:
    """The deadline of a wait that began, and ended, weeks ago would let it go on without at once."""
    limits = {"at_most": 3600, "from": "waiting", "then": "go_on"}
    row = {"parameters": {"tag": "Laser"}, "kind": "payload", "position": 7, "deadline": world.now, "limits": limits}
    group, lock = world.id("fill-r1"), tables.lock
    with world.ledger.write() as connection:
        connection.execute(insert(lock).values(group_id=group, task="scale", **row))
    world.amend("fill-r1", add=[2])
    with world.ledger.read() as connection:
        query = select(lock.c.deadline).where(lock.c.group_id == group, lock.c.position == 7)
        assert connection.execute(query).scalar_one() is None


def test_what_is_made_of_it_is_the_next_generation_and_revision(world: Amending) -> None:
    world.amend("fill-r1", add=[2])
    done(world.ledger, world.id("fill-r1"), "scale")
    made = world.make("fill-r1", "of three runs", Iov(1, 3))
    assert (made.revision, made.state) == (2, "published")
    assert world.of("payload", "fill-r1") == ["superseded", "published"]
    assert world.of("generation", "fill-r1") == ["done", "done"]
    assert world.look(2, "needing").state == world.look(2, "locked").state == "open"


def test_a_run_is_removed_and_brought_back(world: Amending) -> None:
    done_ = world.amend("fill-r1", remove=[1])
    row = world.row("fill-r1")
    assert (row.name, row.first_run, row.span, done_.removed) == ("fill-r1", 1, (3, 3), [1])
    assert world.members("fill")[1] == "removed removed"
    # It is in no group, and nothing puts it into one.
    world.inject(ECAL, MU)
    assert world.members("fill")[1] == "removed removed"
    world.amend("fill-r1", add=[1])
    row = world.row("fill-r1")
    assert (row.edition, row.span, world.members("fill")[1]) == (3, (1, 3), "fill-r1")
    # Only the newest edition is to be asked for.
    assert world.to_clear() == [("fill-r1", 3)]


def test_some_runs_of_a_group_of_late_runs(world: Amending) -> None:
    world.make("fill-r4", "late", Iov(4, 5))
    world.opened("fill-r4")
    done_ = world.amend("fill-r1", add=[4])
    assert (done_.lessened, done_.absorbed) == (["fill-r4"], [])
    late = world.row("fill-r4")
    assert (late.state, late.late, late.edition, late.span, late.first_run) == ("closed", True, 2, (5, 5), 4)
    assert sorted(world.to_clear()) == [("fill-r1", 2), ("fill-r4", 2)]
    # Its candidate is there until the next one takes its place. It is of runs that are elsewhere.
    assert world.of("payload", "fill-r4") == ["candidate"]
    with pytest.raises(PayloadError, match="the candidate of Scale is of edition 1 of fill-r4, which has edition 2"):
        world.publish("fill-r4")
    done(world.ledger, world.id("fill-r4"), "scale")
    world.make("fill-r4", "run 5", Iov(5, 5))
    assert world.of("payload", "fill-r4") == ["expired", "candidate"]


def test_a_group_that_loses_a_run_that_it_went_on_without_does_not_count_it_any_more(world: Amending) -> None:
    at = {"group_id": world.id("fill-r4"), "task": "scale", "reason": {"code": "failed_run"}, "at": world.now}
    with world.ledger.write() as connection:
        connection.execute(tables.excluded_run.insert(), [{**at, "run": run} for run in (4, 5)])
    world.amend("fill-r1", add=[4])
    with world.ledger.read() as connection:
        assert [row.run for row in exclusions.recorded_in(connection, at["group_id"])] == [5]


def test_runs_that_are_late_and_in_no_group(ledger: Ledger, tmp_path: Path) -> None:
    flow = workflow("ecal", task("scale", total(50)))
    world = World(ledger, tmp_path)
    world.runs(1, 3, 4, 9)
    world.inject(flow)
    world.runs(1, 2, 3, 4, 9)
    world.inject(flow)
    api.amend_group(ledger, "sum-r1", add=[2], **WHY)
    with ledger.read() as connection:
        row = groups.find_group(connection, "prompt", "ecal", "sum-r1")
    assert (row.amounts, row.span, row.fills) == ({"lumi_pb": 80.0}, (1, 4), [0, 1])


def test_late_runs_that_were_too_few_for_a_group_of_their_own(ledger: Ledger, tmp_path: Path) -> None:
    """They were dropped as short, which says nothing of the group that they are missing in."""
    flow = workflow("ecal", task("scale", total(50, tail="drop", late_runs="new_group")))
    world = World(ledger, tmp_path)
    world.runs(1, 3, 4, 9)
    world.inject(flow)
    world.runs(1, 2, 3, 4, 9)
    world.inject(flow)
    assert world.members("sum")[2] == "dropped dropped"
    found = api.amend_group(ledger, "sum-r1", add=[2], **WHY)
    assert (found.runs, found.absorbed, found.lessened) == ([1, 2, 3, 4], [], [])
    assert world.members("sum")[2] == "sum-r1"
    world.inject(flow)
    assert world.members("sum")[2] == "sum-r1"


MISTAKES: list[tuple[Callable[[Amending], object], str, str]] = [
    (lambda at: at.amend("fill-r1"), "no run is to be added, and none removed", "--add or --remove"),
    (lambda at: at.amend("fill-r1", add=[2], reason=" "), "an amendment needs a reason", "provenance"),
    (lambda at: at.amend("fill-r1", add=[2], reason="a\0b"), "no database keeps", "plain text"),
    (lambda at: at.amend("fill-r1", add=[2], remove=[2]), "added and removed at once: 2", "once"),
    (lambda at: at.amend("fill-r1", add=[99]), "the ledger has no run 99", "calib runs list"),
    (lambda at: at.amend("fill-r1", add=[3]), "run 3 is in fill-r1 already", "leave it out"),
    (lambda at: at.amend("fill-r1", add=[8]), "run 8 is not late: it is in fill-r8", "amend fill-r8 --remove 8"),
    (lambda at: at.amend("fill-r1", add=[12]), "run 12 is not late: it is in fill-r12", "--remove 12"),
    (lambda at: at.amend("fill-r1", remove=[8]), "run 8 is not in fill-r1, but in fill-r8", "calib runs list"),
    (lambda at: at.amend("fill-r1", remove=[99]), "the ledger has no run 99", "calib runs list"),
    (lambda at: at.amend("fill-r1", remove=[1, 3]), "that leaves no run in fill-r1", "calib skip fill-r1"),
    (lambda at: at.amend("fill-r12", remove=[12]), "fill-r12 still takes runs", "closed"),
    (lambda at: at.amend("fill-r9", add=[2]), "no group fill-r9", "calib groups"),
    (lambda at: at.amend("run-r2", add=[4], workflow="mu"), "run-r2 is of single runs", "late_runs: new_group"),
    (lambda at: at.amend("fill-r1", add=range(3000)), "more than 2,000 runs", "campaign of its own"),
    (lambda at: at.amend("fill-r1", campaign="none", add=[2]), "no campaign none", ""),
]  # fmt: skip


@pytest.mark.parametrize(("act", "message", "hint"), MISTAKES, ids=[f"{n}-{one[1]}" for n, one in enumerate(MISTAKES)])
def test_mistakes(world: Amending, act: Callable[[Amending], object], message: str, hint: str) -> None:
    events = world.events()
    with pytest.raises(CalibError) as raised:
        act(world)
    assert message in raised.value.message
    assert hint in raised.value.hint
    assert world.events() == events


def test_all_mistakes_are_told_at_once(world: Amending) -> None:
    with pytest.raises(CalibError, match="3 mistakes in the amendment") as raised:
        world.amend("fill-r1", add=[3, 8], remove=[5])
    assert [part in str(raised.value) for part in ("run 3 is", "run 8 is", "run 5 is")] == [True] * 3


def test_runs_of_more_groups_than_are_written_at_once(world: Amending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amendments, "MOST_GROUPS", 1)
    with pytest.raises(CalibError, match="are in 2 groups, and an amendment takes them from 1") as raised:
        world.amend("fill-r1", add=[2, 4])
    assert raised.value.hint == "add them in parts"
    assert world.amend("fill-r1", add=[4, 5]).absorbed == ["fill-r4"]


def test_while_a_task_runs(world: Amending) -> None:
    set_state(world.ledger, world.id("fill-r1"), "scale", "processing")
    with pytest.raises(CalibError, match="scale of fill-r1 runs: nothing was changed") as raised:
        world.amend("fill-r1", add=[2])
    assert "wait for its end" in raised.value.hint


def test_while_a_task_of_the_group_of_late_runs_runs(world: Amending) -> None:
    set_state(world.ledger, world.id("fill-r2"), "scale", "processing")
    with pytest.raises(CalibError, match="scale of fill-r2 runs"):
        world.amend("fill-r1", add=[2])


def then(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """What somebody else does between the reading of an amendment and its writing."""
    made_before = amending.others_made_before
    acted: list[bool] = []

    def and_then(connection: Any, change: Any) -> list[str]:
        found = made_before(connection, change)
        if not acted:
            acted.append(True)
            act()
        return found

    monkeypatch.setattr(amending, "others_made_before", and_then)


def test_a_task_that_begins_meanwhile(world: Amending, monkeypatch: pytest.MonkeyPatch) -> None:
    """After all was read, and before it is written."""
    then(monkeypatch, lambda: set_state(world.ledger, world.id("fill-r1"), "scale", "processing"))
    with pytest.raises(CalibError, match="scale of fill-r1 runs: nothing was changed"):
        world.amend("fill-r1", add=[2])
    assert world.row("fill-r1").edition == 1


def test_two_at_once(world: Amending, monkeypatch: pytest.MonkeyPatch) -> None:
    then(monkeypatch, lambda: world.amend("fill-r1", add=[4]))
    with pytest.raises(IllegalTransition, match="changed by somebody else meanwhile"):
        world.amend("fill-r1", add=[2])
    assert (world.row("fill-r1").edition, world.members("fill")[2]) == (2, "fill-r2")


def test_what_began_with_the_edition_before_is_not_created(world: Amending) -> None:
    """The jobs of a generation, and a file that is published, are of the edition by which they were made."""
    file = world.folder / "constants.json"
    file.write_text("of two runs")
    world.amend("fill-r1", add=[2])
    done(world.ledger, world.id("fill-r1"), "scale")
    with pytest.raises(IllegalTransition, match="the group was amended while Scale was published"):
        publish(
            world.ledger, tag="Scale", file=file, group_id=world.id("fill-r1"), task="deliver", iov=Iov(1, 3),
            provenance={}, now=world.now, edition=1,
        )  # fmt: skip
    assert world.of("payload", "fill-r1") == ["published"]


def test_its_interval_must_not_reach_into_another_one(world: Amending) -> None:
    done(world.ledger, world.id("fill-r8"), "scale")
    world.make("fill-r8", "usual", Iov(8, 8))
    world.runs(1, 2, 3, 4, 5, 8, 9, 12)
    world.inject(ECAL, MU)
    with pytest.raises(CalibError, match=r"\[1, 9\] of Scale overlaps \[8, 8\], published for fill-r8"):
        world.amend("fill-r1", add=[9])
    assert world.row("fill-r1").edition == 1


def test_a_payload_that_is_published_meanwhile(world: Amending, monkeypatch: pytest.MonkeyPatch) -> None:
    """After all was read: else the group could never publish its edition."""
    done(world.ledger, world.id("fill-r8"), "scale")
    world.runs(1, 2, 3, 4, 5, 8, 9, 12)
    world.inject(ECAL, MU)
    then(monkeypatch, lambda: world.make("fill-r8", "usual", Iov(8, 8)))
    with pytest.raises(CalibError, match=r"\[1, 9\] of Scale overlaps \[8, 8\], published for fill-r8"):
        world.amend("fill-r1", add=[9])
    assert world.row("fill-r1").edition == 1


def test_a_dag_run_that_is_there_without_the_ledger_knowing(world: Amending) -> None:
    """Who opened it died before saying so: it is cleared as soon as it is known."""
    state = update(tables.dag_run_request).where(tables.dag_run_request.c.group_id == world.id("fill-r1"))
    with world.ledger.write() as connection:
        connection.execute(state.values(state="claimed"))
    world.amend("fill-r1", add=[2])
    assert world.to_clear() == []
    with world.ledger.write() as connection:
        connection.execute(state.values(state="opened"))
    assert world.to_clear() == [("fill-r1", 2)]


def test_what_a_group_of_late_runs_has_published_ends_with_it(world: Amending) -> None:
    world.make("fill-r4", "late", Iov(4, 5))
    world.publish("fill-r4")
    world.amend("fill-r1", add=[4, 5])
    assert world.of("payload", "fill-r4") == ["superseded"]
    done(world.ledger, world.id("fill-r1"), "scale")
    assert world.make("fill-r1", "of all", Iov(1, 5)).state == "published"


def test_a_coarser_task_keeps_what_it_has_and_is_named(ledger: Ledger, tmp_path: Path) -> None:
    late = fill(late_runs="new_group")
    flow = workflow(
        "ecal", task("scale", late), task("sum", total(70, late_runs="new_group"), needs=["ecal.scale@fill"])
    )
    world = World(ledger, tmp_path)
    world.runs(1, 3, 4, 5, 8)
    world.inject(flow)
    for group_id in group_ids(ledger, "fill").values():
        done(ledger, group_id, "scale")
    done(ledger, group_ids(ledger, "sum")["sum-r1"], "sum")
    world.runs(1, 2, 3, 4, 5, 8)
    world.inject(flow)
    found = api.amend_group(ledger, "fill-r1", add=[2], **WHY)
    assert found.made_before == ["sum-r1 of ecal: sum"]
    # What was made of a group of late runs that is no more is named, too.
    world.runs(1, 2, 3, 4, 5, 6, 8)
    world.inject(flow)
    done(ledger, group_ids(ledger, "fill")["fill-r6"], "scale")
    done(ledger, group_ids(ledger, "sum")["sum-r6"], "sum")
    found = api.amend_group(ledger, "fill-r4", add=[6], **WHY)
    assert found.made_before == ["sum-r1 of ecal: sum", "sum-r6 of ecal: sum"]
    assert world.tasks("sum")["sum-r1"] == {"sum": "done"}
    # Its own run 2 is late there, too. What was made of the group before was made without it, and is not enough.
    assert world.members("sum")[2] == "sum-r2"
    key = (group_ids(ledger, "sum")["sum-r2"], "sum")
    with ledger.read() as connection:
        assert render(look(connection, [key])[key].reason) == (
            "0 of 1 runs done in ecal.scale; missing 2 (not started)"
        )
    done(ledger, group_ids(ledger, "fill")["fill-r1"], "scale")
    with ledger.read() as connection:
        assert look(connection, [key])[key].state == "open"


def test_what_follows_in_the_group_waits_until_its_edition_is_made(world: Amending) -> None:
    """Else the product of two runs would be published for three."""
    world.amend("fill-r1", add=[2])
    with pytest.raises(NotOpen, match="scale is new"):
        world.make("fill-r1", "of two runs", Iov(1, 3))
    assert world.of("payload", "fill-r1") == ["published"]
    done(world.ledger, world.id("fill-r1"), "scale")
    assert world.make("fill-r1", "of three runs", Iov(1, 3)).revision == 2


def test_a_group_that_has_not_begun(world: Amending) -> None:
    done_ = world.amend("fill-r8", add=[4])
    assert (done_.stale, world.to_clear(), world.row("fill-r8").span) == ([], [], (4, 8))


def test_a_group_whose_runs_were_all_skipped(world: Amending) -> None:
    with world.ledger.write() as connection:
        skips.add(connection, "prompt", "ecal", [8], reason="noise", person="ada", now=world.now)
        connection.execute(update(tables.run_group).where(tables.run_group.c.name == "fill-r8").values(opening=None))
    assert set(world.tasks("fill")["fill-r8"].values()) == {"skipped"}
    world.amend("fill-r8", add=[4])
    assert set(world.tasks("fill")["fill-r8"].values()) == {"new"}
    assert world.row("fill-r8").opening == "asked"
    world.amend("fill-r8", remove=[4])
    assert set(world.tasks("fill")["fill-r8"].values()) == {"skipped"}


def test_an_absorbed_group_cannot_be_amended_and_its_sensors_end(world: Amending) -> None:
    world.amend("fill-r1", add=[2])
    with pytest.raises(CalibError, match="fill-r2 cannot be amended: its runs are in fill-r1"):
        world.amend("fill-r2", add=[4])
    key = (world.id("fill-r2"), FORMING)
    with world.ledger.read() as connection:
        found = look(connection, [key])[key]
    assert found == Look("never", {"code": "absorbed", "into": "fill-r1", "edition": 2})
    assert set(world.tasks("fill")["fill-r2"].values()) == {"skipped"}


def test_a_cancelled_campaign(world: Amending) -> None:
    with world.ledger.write() as connection:
        campaigns.create(connection, "again", kind="finite", runs={"daq": [1, 3]})
    world.inject(ECAL, campaign="again")
    with world.ledger.write() as connection:
        connection.execute(update(tables.campaign).where(tables.campaign.c.name == "again").values(state="cancelled"))
    with pytest.raises(CalibError, match="the campaign again is cancelled"):
        world.amend("fill-r1", remove=[1], campaign="again")


def test_an_edition_is_settled_when_somebody_has_cleared_it(world: Amending) -> None:
    """Of tasks whose spec is not known to the ledger it is enough that those begin which wait for none of their DAG."""
    world.amend("fill-r1", add=[2])

    def begun() -> list[int]:
        with world.ledger.read() as connection:
            return editions.review(connection, world.now).begun

    assert begun() == []
    set_state(world.ledger, world.id("fill-r1"), "deliver", "failed")
    assert begun() == []
    set_state(world.ledger, world.id("fill-r1"), "scale", "processing")
    assert begun() == [world.id("fill-r1")]
    with world.ledger.write() as connection:
        editions.settle(connection, begun())
    assert world.to_clear() == []


def test_what_was_made_with_a_product_of_the_group_is_named(ledger: Ledger, tmp_path: Path) -> None:
    """As what needs its task is; whatever the grouping in which it waits."""
    flow = workflow("ecal", task("scale", fill(), products={"c": "c.txt"}), task("plot", fill()))
    user = workflow("user", task("sum", RUN))
    world = World(ledger, tmp_path)
    world.runs(1, 3, 4, 5, 8)
    world.inject(flow, user)
    group_id = group_ids(ledger, "run", "user")["run-r3"]
    wanted = {"workflow": "ecal", "task": "scale", "product": "c"}
    with ledger.write() as connection:
        row = {"group_id": group_id, "task": "sum", "position": 0, "kind": "product", "deadline": None}
        connection.execute(insert(tables.lock).values({**row, "parameters": wanted}))
    done(ledger, group_id, "sum")
    world.runs(1, 2, 3, 4, 5, 8)
    world.inject(flow, user)
    found = api.amend_group(ledger, "fill-r1", add=[2], **WHY)
    assert found.made_before == ["run-r3 of user: sum"]
