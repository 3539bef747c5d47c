"""What a group of late runs publishes stays a candidate, until a person publishes it (rule 50)."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider import api
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import NotFound, NotOpen, PayloadError
from airflow_calib_provider.ledger import candidates, groups, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.locks.base import Look
from airflow_calib_provider.ledger.starting import require_open
from airflow_calib_provider.ledger.waiting import look
from airflow_calib_provider.payloads import store
from airflow_calib_provider.payloads.store import Published, publish
from tests.injection.test_inject import World
from tests.ledger.making import RUN, count, done, fill, group_ids, task, workflow

LATE = fill(late_runs="new_group")
EACH = RUN.model_copy(update={"late_runs": "new_group"})
ECAL = workflow(
    "ecal",
    task("scale", LATE),
    task("deliver", LATE, publish="Scale", file="x", needs=["ecal.scale@fill"]),
    task("after", LATE, needs=["ecal.deliver@fill"]),
)
MU = workflow(
    "mu",
    task("other", EACH, needs=["ecal.scale@fill"]),
    task("needing", EACH, needs=["ecal.deliver@fill"]),
    task("locked", EACH, payloads=["Scale"]),
)


class Late(World):
    """Fills 0 and 2 are published, of which fill 1 was missing, and run 2; these have come late."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        super().__init__(ledger, folder)
        self.runs(1, 3, 8, 12)
        self.inject(ECAL, MU)
        self.make("fill-r1", "usual", Iov(1, 3))
        self.runs(1, 2, 3, 4, 5, 8, 12)
        self.inject(ECAL, MU)

    def id(self, name: str) -> int:
        return {**group_ids(self.ledger, "fill"), **group_ids(self.ledger, "run", "mu")}[name]

    def make(self, name: str, text: str, iov: Iov) -> Published:
        """What Airflow does: the jobs, and the publication."""
        file = self.folder / "constants.json"
        file.write_text(text)
        if not self.of("generation", name):
            done(self.ledger, self.id(name), "scale")
        return publish(
            self.ledger, tag="Scale", file=file, group_id=self.id(name), task="deliver", iov=iov,
            provenance={}, now=self.now, before=["scale"],
        )  # fmt: skip

    def of(self, table: str, name: str) -> list[str]:
        found = getattr(tables, table)
        with self.ledger.read() as connection:
            query = select(found.c.state).where(found.c.group_id == self.id(name)).order_by(found.c.id)
            return list(connection.execute(query).scalars())

    def look(self, run: int, name: str) -> Look:
        key = (self.id(f"run-r{run}"), name)
        with self.ledger.read() as connection:
            return look(connection, [key])[key]

    def start_after(self) -> None:
        """What Airflow does as soon as the publishing task has succeeded."""
        with self.ledger.write() as connection:
            require_open(connection, self.id("fill-r4"), "after", ["deliver"])

    def publish(self, name: str) -> list[Published]:
        return api.publish_candidates(self.ledger, name, person="ada")


@pytest.fixture
def late(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Late:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    return Late(ledger, tmp_path)


def test_the_publishing_task_succeeds_and_what_needs_it_stays_shut(late: Late) -> None:
    made = late.make("fill-r4", "late", Iov(4, 5))
    assert (made.new, made.state, made.revision) == (True, "candidate", 1)
    assert late.tasks("fill")["fill-r4"] == {"scale": "done", "deliver": "done", "after": "new"}
    assert late.look(4, "other").state == "open"
    needing, locked = late.look(4, "needing"), late.look(4, "locked")
    assert (needing.state, locked.state) == ("waiting", "waiting")
    assert render(needing.reason) == (
        "0 of 1 runs done in ecal.deliver; missing 4 (only a candidate there, not published)"
    )
    assert render(locked.reason).endswith("missing 4 (only a candidate, not published)")
    with pytest.raises(NotOpen, match="deliver is only a candidate, not published") as raised:
        late.start_after()
    assert candidates.awaited(raised.value.reason["reason"]) == ["deliver"]
    # It holds for nobody, and beside it nothing has changed.
    with late.ledger.read() as connection, pytest.raises(NotFound):
        store.find(connection, "prompt", "Scale", 4)
    assert [(row.group_name, row.state) for row in api.payloads(late.ledger)] == [
        ("fill-r1", "published"),
        ("fill-r4", "candidate"),
    ]


def test_a_person_publishes_it(late: Late) -> None:
    late.make("fill-r4", "late", Iov(4, 5))
    assert [(one.tag, one.iov, one.state) for one in late.publish("fill-r4")] == [("Scale", Iov(4, 5), "published")]
    assert {late.look(4, name).state for name in ("other", "needing", "locked")} == {"open"}
    late.start_after()
    with late.ledger.write() as connection:
        event = connection.execute(select(tables.event).where(tables.event.c.entity == "payload")).all()[-1]
        assert store.find(connection, "prompt", "Scale", 5).group_name == "fill-r4"
    assert (event.from_state, event.to_state, event.data["by"]) == ("candidate", "published", "ada")
    with pytest.raises(NotFound, match="fill-r4 has no candidate"):
        late.publish("fill-r4")


def test_a_candidate_made_anew_takes_the_place_of_the_one_before(late: Late) -> None:
    late.make("fill-r4", "late", Iov(4, 5))
    assert not late.make("fill-r4", "late", Iov(4, 5)).new
    late.make("fill-r4", "better", Iov(4, 5))
    assert late.of("payload", "fill-r4") == ["expired", "candidate"]
    late.publish("fill-r4")
    assert late.make("fill-r4", "best", Iov(4, 5)).state == "candidate"
    assert late.of("payload", "fill-r4") == ["expired", "published", "candidate"]
    # What was published stays so for all who need it.
    assert late.look(4, "needing").state == "open"
    late.publish("fill-r4")
    assert late.of("payload", "fill-r4") == ["expired", "superseded", "published"]


def test_what_expired_was_never_published(late: Late) -> None:
    late.make("fill-r4", "late", Iov(4, 5))
    with late.ledger.write() as connection:
        (row,) = [row for row in store.listed(connection, "prompt") if row.state == "candidate"]
        store.end(connection, row, late.now)
    assert late.look(4, "needing").state == "waiting"


def test_it_cannot_be_published_where_another_payload_holds(late: Late) -> None:
    late.make("fill-r2", "late", Iov(2, 2))
    with pytest.raises(PayloadError, match=r"\[2, 2\] of Scale overlaps \[1, 3\], published for fill-r1"):
        late.publish("fill-r2")
    assert late.of("payload", "fill-r2") == ["candidate"]


def test_a_task_of_the_same_dag_waits(late: Late) -> None:
    late.make("fill-r4", "late", Iov(4, 5))
    key = (late.id("fill-r4"), "after")
    for _ in range(2):
        with late.ledger.write() as connection:
            candidates.hold(connection, groups.group_by_id(connection, key[0]), "after", ["deliver"])
            found = look(connection, [key])[key]
    assert (found.state, render(found.reason)) == (
        "waiting",
        "0 of 2 runs done in ecal.deliver; missing 4 (only a candidate there, not published), "
        "5 (only a candidate there, not published)",
    )
    assert count(late.ledger, tables.lock, tables.lock.c.group_id == key[0], tables.lock.c.task == "after") == 1
    late.publish("fill-r4")
    with late.ledger.read() as connection:
        assert look(connection, [key])[key].state == "open"


@pytest.mark.parametrize(
    "reason",
    [
        {"code": "needs", "needs": "a.b"},
        {"code": "upstream_not_done", "tasks": [["deliver", "only a candidate, not published"], ["fit", "failed"]]},
        {"code": "upstream_not_done", "tasks": [["fit", "new"]]},
    ],
)
def test_what_else_holds_a_task_fails_it(reason: dict[str, object]) -> None:
    assert candidates.awaited(reason) == []
