"""Persons approve a set as one: one question, one answer, about all of its contents (rule 66)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread

import pytest
from sqlalchemy import select, update

from airflow_calib_provider import api
from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.quantities import format_time
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import CalibError, NotFound, NotPublished, PayloadError
from airflow_calib_provider.jobsets.publish import finish
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Payload
from airflow_calib_provider.payloads import life
from airflow_calib_provider.payloads.approvals import ApprovalAnswer, ApprovalRequest, Rules, ask, remind, settle
from airflow_calib_provider.payloads.questions import hash_of, option, question_of
from airflow_calib_provider.payloads.store import Published, publish
from airflow_calib_provider.spec.models import Approval
from tests import processes
from tests.outside.nopayloaddb import nopayloaddb
from tests.payloads.outward import DATABASE, GIT, TAGS, Outward, Text

HOURS = timedelta(hours=1)
APPROVAL = Approval(users=("ada", "bob"), four_eyes=True, remind=6 * HOURS, expires=36 * HOURS)
PLACE = {"dag_id": "ecal__fill", "run_id": "prompt__fill-r1", "task_id": "deliver.approve"}


@pytest.fixture
def database() -> str:
    """One will do: the statements are those of the other modules."""
    return "sqlite"


class Asking(Outward):
    """Persons are asked about the set of the first group."""

    def propose(self, text: Text = "a", **options: object) -> ApprovalRequest:
        made = self.publish(self.groups[0], text, **{"stores": (), "approve": APPROVAL, **options})
        assert made.reason is not None
        rest = tuple(one.payload_id for one in made.rest)
        request = ask(self.ledger, made.payload_id, self.rules(), PLACE, clock(), rest)
        assert request is not None
        return request

    def rules(self) -> Rules:
        return Rules(APPROVAL, APPROVAL.users, {"bob"})

    def members(self, request: ApprovalRequest) -> list[Payload]:
        with self.ledger.read() as connection:
            return [life.by_id(connection, number) for number in request.ids]

    def answer(self, request: ApprovalRequest | None, answer: ApprovalAnswer | None) -> Published:
        return settled(self.ledger, self.groups[0], request, answer, self.rules())

    def task(self) -> str:
        of = tables.group_task
        with self.ledger.read() as connection:
            here = (of.c.group_id == self.groups[0], of.c.task == "deliver")
            return connection.execute(select(of.c.state).where(*here)).scalar_one()


def settled(
    ledger: Ledger, group: int, request: ApprovalRequest | None, answer: ApprovalAnswer | None, rules: Rules
) -> Published:
    """What the publishing task does."""
    return settle(
        ledger, group_id=group, task="deliver", tags=TAGS, request=request, answer=answer, rules=rules,
        before=(), now=clock(),
    )  # fmt: skip


def clock() -> datetime:
    return datetime.now(UTC)


def said(word: str, request: ApprovalRequest, person: str | None = "ada") -> ApprovalAnswer:
    return ApprovalAnswer((option(word, request.content_hash),), person, "as in May", clock())


@pytest.fixture
def asking(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    monkeypatch.setenv("CALIB_LEDGER", ledger.url.render_as_string(hide_password=False))
    with nopayloaddb() as server:
        yield Asking(tmp_path, ledger, server)


def test_one_yes_publishes_all_of_it(asking: Asking) -> None:
    request = asking.propose()
    assert (asking.states(), asking.task()) == (["candidate"] * 2, "waiting")
    rows = asking.members(request)
    assert [render(row.reason) for row in rows if row.reason] == [
        f"{row.tag} revision 1 for runs 1–2, with {other.tag} of its set (content {request.content_hash[:12]}) "
        f"waits for the approval of ada or bob, until {format_time(row.expires_at)}"
        for row, other in zip(rows, reversed(rows), strict=True)
        if row.expires_at
    ]
    made = asking.answer(request, said("Approve", request))
    assert [(one.tag, one.state) for one in (made, *made.rest)] == [(tag, "published") for tag in TAGS]
    assert (asking.states(), asking.task()) == (["published"] * 2, "done")
    assert len({row.published_at for row in asking.members(request)}) == 1
    with asking.ledger.read() as connection:
        decided = [one for one in life.decisions(connection, request.ids) if one.kind == "approval"]
    assert [(one.outcome, one.person, one.content_hash) for one in decided] == [
        ("approved", "ada", row.content_hash) for row in rows
    ]
    again = asking.answer(request, said("Approve", request))  # Airflow's retry after a death
    assert (again.new, again.state) == (False, "published")
    assert ask(asking.ledger, request.payload_id, asking.rules(), PLACE, clock(), request.rest) is None


def test_the_name_of_a_set_is_that_of_its_tags_and_contents(asking: Asking) -> None:
    request = asking.propose()
    rows = asking.members(request)
    assert request.content_hash == hash_of(rows) == hash_of(rows[::-1])
    assert request.content_hash not in [row.content_hash for row in rows]
    assert hash_of(rows[:1]) == rows[0].content_hash, "of one it is that of its content"
    swapped = [replace(row, content_hash=other.content_hash) for row, other in zip(rows, rows[::-1], strict=True)]
    assert hash_of(swapped) != request.content_hash, "the same contents under other tags are another set"
    assert hash_of([replace(row, revision=9) for row in rows]) == request.content_hash
    with asking.ledger.read() as connection:
        question = question_of(connection, rows)
    assert question.subject == "Publish Scale and Errors for runs 1–2?"
    assert question.options == tuple(option(word, request.content_hash) for word in ("Approve", "Reject"))
    assert request.content_hash in question.body
    for row in rows:
        assert f"| {row.tag} | 1 | {row.file_name} | `{row.content_hash}` |  |" in question.body.splitlines()
        assert f"| content (SHA-256) | `{row.content_hash}` | none |" in question.body.splitlines()


def test_one_no_rejects_all_of_it_for_good(asking: Asking) -> None:
    request = asking.propose()
    no = said("Reject", request, "bob")
    for _ in range(2):
        with pytest.raises(NotPublished, match="bob has rejected it: as in May"):
            asking.answer(request, no)
    assert (asking.states(), asking.task()) == (["rejected"] * 2, "failed")
    with pytest.raises(NotPublished, match="rejected"):
        asking.answer(request, said("Approve", request))
    again = asking.propose()
    assert asking.states() == ["rejected"] * 2 + ["candidate"] * 2
    assert asking.answer(again, said("Approve", again)).revision == 2


def test_what_counts_for_nothing_publishes_nothing(asking: Asking) -> None:
    request = asking.propose()
    first, other = asking.members(request)
    of_one = ApprovalAnswer((option("Approve", first.content_hash),), "ada", "", clock())
    cases = {
        "marking the question as success": (None, None),
        "marking the question as success approves": (request, None),
        "mallory is not one of those": (request, said("Approve", request, "mallory")),
        "bob is its author": (request, said("Approve", request, "bob")),
        f"ada has answered 'Approve {first.content_hash[:12]}', and the content is": (request, of_one),
        "the answer is about the content": (ApprovalRequest(first.id, first.content_hash), of_one),
        "the answer is about the content .*, and it is": (replace(request, rest=()), said("Approve", request)),
    }
    for match, (about, answer) in cases.items():
        with pytest.raises(NotPublished, match=match):
            asking.answer(about, answer)
        assert (asking.states(), asking.task()) == (["candidate"] * 2, "failed")
    assert other.tag == "Errors"
    again = asking.propose()
    assert asking.answer(again, said("Approve", again)).state == "published"


def test_yesterdays_answer_is_about_yesterdays_set_also_if_one_tag_alone_has_changed(asking: Asking) -> None:
    yesterday = asking.propose()
    today = asking.propose({"Scale": "a", "Errors": "new"})
    assert today.content_hash != yesterday.content_hash
    with pytest.raises(NotPublished, match=f"the answer is about the content {yesterday.content_hash[:12]}, and it is"):
        asking.answer(yesterday, said("Approve", yesterday))
    assert "published" not in asking.states()
    asking.answer(today, said("Approve", today))
    assert asking.holds() == ["a of Scale", "new of Errors"]


def test_a_tag_that_is_as_it_is_belongs_to_the_question_and_stays(asking: Asking) -> None:
    before = asking.propose()
    asking.answer(before, said("Approve", before))
    request = asking.propose({"Scale": "a", "Errors": "b"})
    assert asking.task() == "waiting"
    rows = {row.tag: row for row in asking.members(request)}
    assert (rows["Scale"].state, rows["Errors"].state) == ("published", "candidate")
    with asking.ledger.read() as connection:
        assert "| is published already |" in question_of(connection, list(rows.values())).body
    with pytest.raises(NotPublished, match="has rejected it"):
        asking.answer(request, said("Reject", request))
    assert asking.states() == ["published"] * 2 + ["rejected"]
    again = asking.propose({"Scale": "a", "Errors": "b"})
    asking.answer(again, said("Approve", again))
    assert asking.holds() == ["a of Scale", "b of Errors"]


@pytest.mark.parametrize("late", ["an answer", "nobody"])
def test_after_the_time_all_of_it_has_expired(asking: Asking, late: str) -> None:
    request = asking.propose()
    at = clock() + 37 * HOURS
    no = replace(said("Reject", request, None), at=at)
    with pytest.raises(NotPublished, match="nobody has answered until"):
        asking.answer(request, replace(said("Approve", request), at=at) if late == "an answer" else no)
    assert asking.states() == ["expired"] * 2


def test_two_who_answer_at_once(asking: Asking) -> None:
    """The first transaction wins for all of it."""
    request = asking.propose()
    answers = {"yes": said("Approve", request), "no": said("Reject", request, "bob")}
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
    (state,) = set(asking.states())
    assert state in ("published", "rejected")
    assert (came["no"] == "published") == (state == "published")
    assert ("has rejected it" in came["yes"]) == (state == "rejected")


def test_persons_are_told_and_reminded_once_of_all_of_it(asking: Asking) -> None:
    asking.propose()
    event = tables.event
    with asking.ledger.read() as connection:
        data = connection.execute(select(event.c.data).where(event.c.entity == "payload")).scalars()
        assert [one["tag"] for one in data if "asked" in one] == ["Scale"]
    assert [remind(asking.ledger, clock() + hours * HOURS) for hours in (5, 7, 8)] == [0, 1, 0]


def test_a_group_that_was_amended_meanwhile(asking: Asking) -> None:
    request = asking.propose()
    with asking.ledger.write() as connection:
        connection.execute(update(tables.run_group).values(edition=2))
    with pytest.raises(NotPublished, match="was amended: it has edition 2 by now"):
        asking.answer(request, said("Approve", request))
    assert asking.states() == ["candidate"] * 2


def test_another_groups_payload_holds_for_one_tag_by_then(asking: Asking) -> None:
    """Then nothing of it is published."""
    request = asking.propose()
    file = asking.folder / "products" / "other"
    file.write_text("other")
    publish(
        asking.ledger, tag="Errors", file=file, group_id=asking.groups[1], task="deliver", iov=Iov(2, 4),
        provenance={}, now=clock(),
    )  # fmt: skip
    with pytest.raises(PayloadError, match=r"\[1, 2\] of Errors overlaps \[2, 4\], published for fill-r3"):
        asking.answer(request, said("Approve", request))
    assert asking.states() == ["candidate"] * 2 + ["published"]


def _settle(url: str, group: int, request: ApprovalRequest) -> None:
    settled(Ledger(url), group, request, said("Approve", request), Rules(APPROVAL, APPROVAL.users))


@pytest.mark.parametrize("point", ["payload.before_store", "payload.after_publish"])
def test_dying_while_it_is_settled(asking: Asking, point: str) -> None:
    request = asking.propose()
    marks = asking.folder / "marks"
    marks.mkdir()
    crash = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)}
    codes = [processes.run(_settle, asking.url, asking.groups[0], request, **crash).returncode for _ in range(2)]
    assert codes == [-signal.SIGKILL, 0]
    assert asking.states() == ["published"] * 2


def test_what_is_approved_goes_to_all_stores_as_one(asking: Asking) -> None:
    request = asking.propose(stores=(GIT, DATABASE))
    made = asking.answer(request, said("Approve", request))
    assert (made.state, asking.states()) == ("publishing", ["publishing"] * 2)
    assert asking.answer(request, said("Reject", request)).state == "publishing", "it is decided"
    assert finish(asking.ledger, asking.groups[0], "deliver")
    assert (asking.states(), asking.task()) == (["published"] * 2, "done")
    asking.is_whole()


@pytest.mark.parametrize("tag", TAGS)
def test_whichever_tag_is_named_the_answer_is_about_all(asking: Asking, tag: str) -> None:
    request = asking.propose()
    found = api.approve_payload(asking.ledger, tag, "fill-r1", dry_run=True)
    assert (found.payload.tag, found.content_hash, found.person) == (tag, request.content_hash, "")
    assert list(found.members) == [(row.tag, 1, row.content_hash) for row in asking.members(request)]
    asking.answer(request, said("Approve", request))
    with pytest.raises(NotFound, match="nobody is asked about revision 1"):
        api.reject_payload(asking.ledger, tag, "fill-r1", dry_run=True)


def test_the_command_says_that_it_is_about_all(asking: Asking) -> None:
    from typer.testing import CliRunner

    from airflow_calib_provider.cli.app import app

    before = asking.propose()
    asking.answer(before, said("Approve", before))
    request = asking.propose({"Scale": "a", "Errors": "b"})
    done = CliRunner().invoke(app, ["payload", "reject", "Scale", "--group", "fill-r1", "--dry-run"])
    rows = asking.members(request)
    assert done.output.splitlines() == [
        f"would answer: Reject, about all of a set of 2, content {request.content_hash[:12]}",
        *(f"  {row.tag} revision {row.revision}, content {row.content_hash[:12]}" for row in rows),
    ]
    assert asking.task() == "waiting"


def test_what_is_answered_is_the_question_of_now(asking):
    """Also where a tag is named that is published as it is, and the other was asked about before."""
    asking.publish(asking.groups[0], "a", stores=())
    asking.propose({"Scale": "b", "Errors": "a"})
    request = asking.propose({"Scale": "c", "Errors": "a"})
    for tag in TAGS:
        found = api.approve_payload(asking.ledger, tag, "fill-r1", dry_run=True)
        assert found.content_hash == request.content_hash


def test_what_was_asked_about_a_tag_that_the_set_has_no_more_has_expired(asking):
    """The spec has lost a tag since: nobody could approve it, and nobody is to be reminded of it."""
    asking.propose("a")
    made = asking.publish(asking.groups[0], "a", stores=(), approve=APPROVAL, more=())
    ask(asking.ledger, made.payload_id, asking.rules(), PLACE, clock())
    assert asking.states() == ["candidate", "expired"]
    assert remind(asking.ledger, clock() + 7 * HOURS) == 1
