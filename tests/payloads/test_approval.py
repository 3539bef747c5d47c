"""What an answer is worth: only a person who may, about the very content, in time, publishes anything (rule 66)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread

import pytest
from sqlalchemy import update

from airflow_calib_provider import api
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.errors import CalibError, NotFound, NotPublished, PayloadError
from airflow_calib_provider.jobsets.begin import record_failure
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.groups import group_by_id
from airflow_calib_provider.payloads import life, store
from airflow_calib_provider.payloads.approvals import (
    ApprovalAnswer,
    ApprovalRequest,
    Rules,
    ask,
    authors_of,
    remind,
    settle,
)
from airflow_calib_provider.payloads.questions import option
from airflow_calib_provider.payloads.store import Published, publish
from airflow_calib_provider.spec.models import Approval
from airflow_calib_provider.spec.publications import approvers_of
from tests import processes
from tests.ledger.making import group_ids
from tests.payloads.living import Living

APPROVE = "approve: {by: conveners, four_eyes: true, remind: 6h, expires: 36h}"
PLACE = {"dag_id": "ecal__run", "run_id": "prompt__run-r1", "task_id": "deliver.approve"}


@pytest.fixture
def database() -> str:
    """One will do: the statements are those of the other modules."""
    return "sqlite"


class Asking(Living):
    """Persons are asked."""

    def propose(self, constants: str = "1") -> ApprovalRequest:
        self.make(constants)
        proposed = self.publish()
        request = ask(self.ledger, proposed.payload_id, self.rules(), PLACE, self.now)
        assert request is not None
        return request

    def rules(self) -> Rules:
        approval = self.flow.tasks["deliver"].publish.approve  # type: ignore[union-attr]
        assert approval is not None
        return Rules(approval, approvers_of(approval, self.flow.file), {"bob"})

    def answer(self, request: ApprovalRequest | None, answer: ApprovalAnswer | None) -> Published:
        return settle(
            self.ledger, group_id=self.group, task="deliver", tags=["Scale"], request=request, answer=answer,
            rules=self.rules(), before=["scale", "validate"], now=self.now + timedelta(hours=1),
        )  # fmt: skip

    def said(self, word: str) -> tuple[str]:
        return (option(word, self.payloads()[-1].content_hash),)

    def yes(self, person: str | None = "ada") -> ApprovalAnswer:
        return ApprovalAnswer(self.said("Approve"), person, "as in May", self.now + timedelta(minutes=30))

    def states(self) -> list[str]:  # type: ignore[override]
        return [row.state for row in self.payloads()]

    def holds(self) -> str:
        with self.ledger.read() as connection:
            return store.content_path(store.find(connection, "prompt", "Scale", 1)).read_text()


@pytest.fixture
def asking(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    made = Asking(tmp_path, ledger, APPROVE)
    yield made
    for key in made.backend.rounds():
        made.backend.remove(key)


def test_a_person_approves(asking: Asking) -> None:
    request = asking.propose()
    (row,) = asking.payloads()
    assert (row.state, row.expires_at, row.remind_at) == (
        "validated",
        asking.now + timedelta(hours=36),
        asking.now + timedelta(hours=6),
    )
    assert (asking.task().state, asking.task().reason["users"]) == ("waiting", ["ada", "bob"])
    assert (asking.answer(request, asking.yes()).state, asking.task().state) == ("published", "done")
    assert asking.holds() == "1"
    (row,) = asking.payloads()
    assert row.remind_at is None
    with asking.ledger.read() as connection:
        last = life.decisions(connection, [row.id])[-1]
    assert (last.outcome, last.person, last.comment, last.content_hash) == (
        "approved",
        "ada",
        "as in May",
        row.content_hash,
    )
    # Airflow's retry after a death.
    told = asking.told()
    again = asking.answer(request, asking.yes())
    assert (again.new, again.state, asking.told()) == (False, "published", told)
    assert ask(asking.ledger, row.id, asking.rules(), PLACE, asking.now) is None, "there is nothing to ask any more"


def void(asking: Asking, request: ApprovalRequest) -> dict[str, tuple[ApprovalRequest | None, ApprovalAnswer | None]]:
    return {
        "marking the question as success": (None, None),
        "marking the question as success approves": (request, None),
        "nobody has answered until": (request, ApprovalAnswer(asking.said("Approve"), None)),
        "mallory is not one of those": (request, asking.yes("mallory")),
        "bob is its author": (request, asking.yes("bob")),
        "ada has answered 'Approve eeeeeeeeeeee', and the content is": (
            request,
            replace(asking.yes(), chosen=(option("Approve", "e" * 64),)),
        ),
        "ada has answered 'Approve', and the content is": (request, replace(asking.yes(), chosen=("Approve",))),
        "ada has answered 'Reject eeeeeeeeeeee', and the content is": (
            request,
            replace(asking.yes(), chosen=(option("Reject", "e" * 64),)),
        ),
        "the answer is about the content eeeeeeeeeeee": (replace(request, content_hash="e" * 64), asking.yes()),
        "the answer is about the content": (replace(request, payload_id=99), asking.yes()),
    }


def test_what_counts_for_nothing_publishes_nothing_and_can_be_asked_anew(asking: Asking) -> None:
    request = asking.propose()
    for said, (about, answer) in void(asking, request).items():
        with pytest.raises(NotPublished, match=said):
            asking.answer(about, answer)
        assert (asking.states(), asking.task().state) == (["validated"], "failed")
        with pytest.raises(NotFound):
            asking.holds()
    proposed = asking.publish()
    assert (proposed.new, proposed.revision, asking.task().state) == (False, 1, "waiting")
    request = ask(asking.ledger, proposed.payload_id, asking.rules(), PLACE, asking.now)  # type: ignore[assignment]
    assert asking.answer(request, asking.yes()).state == "published"


def test_without_a_candidate_it_is_told_what_to_do(asking: Asking) -> None:
    """As where the DAG run has no task that makes one: it is of before the spec asked for an approval."""
    asking.make("1")
    with pytest.raises(PayloadError, match="has no candidate of Scale") as caught:
        asking.answer(None, None)
    record_failure(asking.ledger, asking.group, "deliver", caught.value, asking.now)
    causes = api.explain(asking.ledger, "run-r1", workflow="ecal", task="deliver")
    assert any("has no candidate of Scale; `calib retry run-r1" in cause.text for cause in causes)


def test_a_rejection_is_final_for_the_revision(asking: Asking) -> None:
    request = asking.propose()
    no = ApprovalAnswer(asking.said("Reject"), "bob", "endcap is off", asking.now)
    for _ in range(2):
        with pytest.raises(NotPublished, match="is not published: bob has rejected it: endcap is off"):
            asking.answer(request, no)
    assert (asking.states(), asking.task().state) == (["rejected"], "failed")
    with pytest.raises(NotPublished, match="rejected"):
        asking.answer(request, asking.yes())
    with pytest.raises(NotPublished, match="it is rejected by now"):
        ask(asking.ledger, request.payload_id, asking.rules(), PLACE, asking.now)
    # A clear asks anew, about a revision of its own.
    assert asking.publish().revision == 2
    assert asking.states() == ["rejected", "validated"]


@pytest.mark.parametrize("late", ["an answer", "nobody"])
def test_after_the_time_nothing_is_approved(asking: Asking, late: str) -> None:
    request = asking.propose()
    at = asking.now + timedelta(hours=36, seconds=1)
    answer = replace(asking.yes(), at=at) if late == "an answer" else ApprovalAnswer(asking.said("Reject"), None, at=at)
    with pytest.raises(NotPublished, match=r"nobody has answered until 2026-05-0"):
        asking.answer(request, answer)
    assert asking.states() == ["expired"]


def test_yesterdays_approval_does_not_publish_todays_content(asking: Asking) -> None:
    yesterday = asking.propose("old")
    today = asking.propose("new")
    assert asking.states() == ["expired", "validated"]
    with pytest.raises(NotPublished, match="the answer is about the content"):
        asking.answer(yesterday, asking.yes())
    assert asking.states() == ["expired", "validated"]
    assert asking.answer(today, asking.yes()).revision == 2
    assert asking.holds() == "new"


def test_two_who_answer_at_once(asking: Asking) -> None:
    """The first transaction wins; the other finds what it has done."""
    request = asking.propose()
    answers = {"yes": asking.yes(), "no": ApprovalAnswer(asking.said("Reject"), "bob", "no", asking.now)}
    barrier, came = Barrier(2), {}

    def go(name: str) -> None:
        barrier.wait()
        try:
            came[name] = asking.answer(request, answers[name]).state
        except CalibError as error:
            came[name] = str(error)

    threads = [Thread(target=go, args=(name,)) for name in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (state,) = asking.states()
    assert state in ("published", "rejected")
    assert (came["no"] == "published") == (state == "published")
    assert ("has rejected it" in came["yes"]) == (state == "rejected")


def test_reminders_come_as_often_as_asked_and_end_with_the_answer(asking: Asking) -> None:
    request = asking.propose()
    at = asking.now
    seen = [remind(asking.ledger, at + timedelta(hours=hours)) for hours in (5.9, 6, 7, 12, 12.5)]
    assert seen == [0, 1, 0, 1, 0]
    assert asking.task().state == "waiting"
    asking.answer(request, asking.yes())
    assert remind(asking.ledger, at + timedelta(days=9)) == 0


def test_what_it_was_made_from_has_changed_while_somebody_thought(asking: Asking) -> None:
    request = asking.propose()
    asking.tries += 1
    asking.jobs("scale")
    with pytest.raises(NotPublished, match="what it was made from has changed: scale of run-r1 has generation 2"):
        asking.answer(request, asking.yes())
    assert asking.states() == ["candidate"]
    assert asking.told()[-1] == ("validated", "candidate")


def test_the_same_constants_made_anew_can_be_approved(asking: Asking) -> None:
    """What they were made from first is not in the way."""
    asking.propose()
    request = asking.propose()
    assert asking.answer(request, asking.yes()).state == "published"


def test_the_group_was_amended_while_somebody_thought(asking: Asking) -> None:
    request = asking.propose()
    with asking.ledger.write() as connection:
        connection.execute(update(tables.run_group).where(tables.run_group.c.id == asking.group).values(edition=2))
        # As if all of the edition had been done again.
        tasks = tables.group_task
        connection.execute(update(tasks).where(tasks.c.group_id == asking.group).values(state="done"))
    with pytest.raises(NotPublished, match="run-r1 was amended: it has edition 2 by now"):
        asking.answer(request, asking.yes())


def test_another_groups_payload_holds_for_the_runs_by_then(asking: Asking) -> None:
    request = asking.propose()
    other = asking.folder / "other"
    other.write_text("x")
    group = group_ids(asking.ledger, "run")["run-r2"]
    publish(
        asking.ledger, tag="Scale", file=other, group_id=group, task="deliver", iov=Iov(1, 2), provenance={},
        now=asking.now,
    )  # fmt: skip
    with pytest.raises(PayloadError, match=r"\[1, 1\] of Scale overlaps \[1, 2\], published for run-r2"):
        asking.answer(request, asking.yes())
    assert sorted(asking.states()) == ["published", "validated"]
    with asking.ledger.read() as connection:
        assert [one.kind for one in life.decisions(connection, [request.payload_id])] == ["validation", "request"]


def _settle(url: str, group: int, request: ApprovalRequest, now: datetime) -> None:
    rules = Rules(Approval(users=("ada",)), ["ada"])
    answer = ApprovalAnswer((option("Approve", request.content_hash),), "ada", "", now)
    settle(
        Ledger(url), group_id=group, task="deliver", tags=["Scale"], request=request, answer=answer, rules=rules,
        before=["scale", "validate"], now=now,
    )  # fmt: skip


@pytest.mark.parametrize("point", ["payload.before_store", "payload.after_publish"])
def test_dying_while_it_is_settled(asking: Asking, point: str) -> None:
    request = asking.propose()
    marks = asking.folder / "marks"
    marks.mkdir()
    url = asking.ledger.url.render_as_string(hide_password=False)
    crash = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)}
    known = (url, asking.group, request, asking.now)
    codes = [processes.run(_settle, *known, **crash).returncode for _ in range(2)]
    assert codes == [-signal.SIGKILL, 0]
    assert asking.states() == ["published"]
    assert asking.told().count(("approved", "published")) == 1


def test_authors(asking: Asking) -> None:
    with asking.ledger.read() as connection:
        group = group_by_id(connection, asking.group)
        assert authors_of(connection, group, "eva", None) == {"eva"}
