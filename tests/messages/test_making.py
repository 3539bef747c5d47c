"""From events to messages, and from what is amiss to events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from airflow_calib_provider.domain.locks.deadlines import FAIL, GROUP_CLOSED, Limits
from airflow_calib_provider.domain.topics import TOPICS
from airflow_calib_provider.ledger import alarms, generations, source_reads, spec_files, tables, waiting
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Event
from airflow_calib_provider.messages import making
from airflow_calib_provider.messages.folding import digest, folded
from airflow_calib_provider.messages.making import GroupRuns, made, message_of, topic_of
from airflow_calib_provider.messages.preview import preview
from airflow_calib_provider.spec.models import Lock
from tests.ledger.making import facts, group_ids, put_runs, task, workflow
from tests.messages.histories import LINK, fail, spec, take_runs

AT = int(datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp() * 1e9)
GROUPS = {
    ("prompt", "zee", "fill-r4"): GroupRuns(4, 9),
    ("prompt", "zee", "late-r1"): GroupRuns(1, 1, late=True),
    ("redo", "zee", "fill-r4"): GroupRuns(4, 9, late=True),
}


def event(entity: str, before: str | None, after: str, data: dict[str, Any] | None = None, **more: Any) -> Event:
    about = {"campaign": "prompt", "workflow": "zee", "task": "scale", "group_name": "fill-r4", **more}
    names = ("campaign", "workflow", "task", "group_name", "run", "generation", "job_index", "attempt")
    return Event(7, AT, entity, *(about.get(name) for name in names), before, after, data or {})


ENDED = {"code": "iteration_diverging", "stage": 1, "phase": "had", "step": 4, "visit": 4, "how": "risen"}


@pytest.mark.parametrize(
    ("of", "topic"),
    [
        (event("group_task", "processing", "failed", {"reason": {"code": "error", "message": "x"}}), "failed"),
        (event("group_task", "processing", "failed", {"reason": ENDED}), "not_converged"),
        (event("group_task", "waiting", "failed", {"reason": {"code": "deadline_passed"}}), "deadline"),
        (event("group_task", "new", "failed", {"reason": {"code": "upstream_ended", "tasks": []}}), ""),
        (event("group_task", "failed", "failed", {"reason": {"code": "error"}}), ""),
        (event("group_task", "processing", "done"), ""),
        (event("group_edition", "to_clear", "stuck"), "waiting_for_person"),
        (event("payload", None, "candidate", {"tag": "T", "revision": 1}, group_name="late-r1"), "waiting_for_person"),
        (event("payload", "validated", "validated", {"tag": "T", "asked": {"dag_id": "d"}}), "waiting_for_person"),
        (event("payload", "validated", "validated", {"tag": "T", "reminded": True}), "waiting_for_person"),
        (event("payload", "candidate", "validated", {"tag": "T", "by": "check"}), ""),
        (event("payload", "published", "withdrawn", {"tag": "T", "revision": 1}), "published"),
        (event("payload", None, "published", {"tag": "T", "revision": 1}), "published"),
        (event("payload", "published", "superseded", {"tag": "T", "revision": 1}), ""),
        (event("chat_action", "carrying", "done", {"action": "retry", "person": "anna"}), "from_chat"),
        (event("chat_action", "wanted", "refused", {"action": "skip", "outcome": "stale"}), "from_chat"),
        (event("chat_action", None, "refused", {"action": "skip", "outcome": "unsigned"}), ""),
        (event("chat_action", "asked", "wanted", {"action": "skip", "person": "anna"}), ""),
        (event("alarm", None, "raised", {"code": "spec_broken"}), "spec_broken"),
        (event("alarm", None, "raised", {"code": "source_unreadable"}), "source_unreadable"),
        (event("alarm", None, "raised", {"code": "held_jobs"}), "stalled"),
        (event("alarm", None, "raised", {"code": "backend_trouble"}), "stalled"),
        (event("alarm", None, "raised", {"code": "deadline_near"}), "deadline"),
        (event("alarm", "raised", "cleared", {"code": "held_jobs"}), ""),
        (event("publication_deadline", "counting", "near"), "deadline"),
        (event("publication_deadline", "near", "passed"), "deadline"),
        (event("publication_deadline", "near", "met"), ""),
        (event("job", "running", "failed"), ""),
    ],
)
def test_what_it_is_about(of: Event, topic: str) -> None:
    assert topic_of(of) == topic
    told = [one for one in made([of], GROUPS, LINK) if one is not None]
    assert [one.topic for one in told] == ([topic] if topic else [])
    wanted = {(entity, state) for entity, states in making.WANTED for state in states}
    assert not topic or (of.entity, of.to_state) in wanted, "it is never read"


def test_every_topic_can_come() -> None:
    rows = [mark.args[0] for mark in test_what_it_is_about.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert rows
    topics = {topic for mark in test_what_it_is_about.pytestmark for _, topic in mark.args[1]}  # type: ignore[attr-defined]
    assert topics - {""} == set(TOPICS)


def test_what_where_why_and_what_to_do() -> None:
    reason = {"code": "jobs_failed", "n_failed": 2, "n_jobs": 9, "failed": [[3, "exit code 1"], [4, "lost"]]}
    told = message_of(event("group_task", "processing", "failed", {"reason": reason}), GROUPS, LINK)
    assert told is not None
    assert told.title == "Failed: zee.scale fill-r4"
    assert told.where == "zee · scale · fill-r4 · runs 4–9"
    assert told.why.startswith("2 of 9 jobs failed after all retries (job 3: exit code 1")
    assert "`calib jobs logs fill-r4 scale 3 --workflow zee` shows why" in told.to_do
    assert told.link == f"{LINK}/plugin/calib/calib/group?campaign=prompt&workflow=zee&name=fill-r4#task-scale"
    assert told.thread == "prompt/zee/fill-r4"
    other = message_of(
        event(
            "payload", None, "candidate", {"tag": "T", "revision": 2, "first_run": 4, "last_run": 9}, campaign="redo"
        ),
        GROUPS,
        "",
    )
    assert other is not None
    assert (other.title, other.link) == ("Waits for a person: T revision 2 for runs 4–9 in redo is a candidate", "")
    assert "campaign redo" in other.where
    assert "`calib payload publish fill-r4 --workflow zee --campaign redo`" in other.to_do


def test_one_that_cannot_be_understood_keeps_no_other_back() -> None:
    odd = event("group_task", "processing", "failed", {"reason": {"code": "jobs_failed"}})
    good = event("payload", None, "published", {"tag": "T", "revision": 1, "first_run": 4, "last_run": 4})
    first, second = made([odd, good], GROUPS, LINK)
    assert "cannot be told in words: KeyError" in first.why
    assert second.title == "Published: T revision 1 for run 4"


def test_a_reason_of_thousands_of_words_is_cut() -> None:
    long = event("group_task", "processing", "failed", {"reason": {"code": "error", "message": "word " * 10_000}})
    (told,) = made([long], GROUPS, LINK)
    assert len(told.why) == making.LONGEST


def test_a_digest_counts_and_begins_with_what_is_worst() -> None:
    published = made([event("payload", None, "published", {"tag": "T", "revision": n}) for n in range(4)], GROUPS, LINK)
    failed = made(
        [event("group_task", "processing", "failed", {"reason": {"code": "error", "message": "x"}})], GROUPS, ""
    )
    assert len(folded([*published, *failed], 5)) == 5
    (one,) = folded([*published, *failed], 4)
    assert one == digest([*published, *failed])
    assert one.why == "1 × a task has failed for good, 4 × constants were published"
    assert one.lines[0] == "12:00 Failed: zee.scale fill-r4: x"
    assert "zee" in one.lines[1]
    assert "fill-r" in one.lines[1]


def alarm_states(ledger: Ledger) -> dict[str, str]:
    with ledger.read() as connection:
        return {row.code: row.state for row in connection.execute(select(tables.alarm))}


def test_what_is_amiss_is_raised_once_and_cleared(ledger: Ledger) -> None:
    take_runs(ledger, [1, 2])
    now = datetime.now(UTC)
    source_reads.note_unreadable(ledger, "daq", "no such file", now)
    broken = {"code": "spec_broken", "file": "ecal.yaml", "mistakes": ["ecal.yaml:1:1: x"], "n": 1}
    with ledger.write() as connection:
        kept = spec_files.KeptText("ecal", "ecal.yaml", spec_files.hash_of("x"), "x", now)
        spec_files.note_good(connection, [kept])
        spec_files.note_troubles(connection, {"ecal": spec_files.Trouble(broken)}, now)
        number = group_ids(ledger, "run")["run-r1"]
        new = generations.NewGeneration(
            number, "skim", 0, "local", "h", None, "d", [], [], [], {}, 0, 1.0, {}, "f", "r", [{}, {}]
        )
        generation = generations.create(connection, new, now)
        connection.execute(
            update(tables.generation)
            .where(tables.generation.c.id == generation)
            .values(trouble="no answer", trouble_since=now - timedelta(hours=1))
        )
        connection.execute(update(tables.job).values(state="held", reason="no memory", retry_at=None))
    assert alarms.watch(ledger, now) == 4
    assert alarms.watch(ledger, now) == 0
    assert alarm_states(ledger) == dict.fromkeys(
        ["source_unreadable", "spec_broken", "backend_trouble", "held_jobs"], "raised"
    )
    told = {one.topic: one for one in preview(ledger, spec(), now - timedelta(hours=1))}
    assert told["spec_broken"].title == "ecal.yaml cannot be used as it is"
    assert "ecal.yaml:1:1: x" in told["spec_broken"].why
    assert told["source_unreadable"].title == "The run source daq cannot be read"
    assert "2 jobs held: no memory" in told["stalled"].why
    source_reads.note_read(ledger, "daq", None)
    with ledger.write() as connection:
        connection.execute(update(tables.generation).values(trouble=None))
        connection.execute(update(tables.job).values(state="running"))
        spec_files.note_good(connection, [kept])
    assert alarms.watch(ledger, now) == 4
    assert set(alarm_states(ledger).values()) == {"cleared"}
    source_reads.note_unreadable(ledger, "daq", "again", now)
    assert alarms.watch(ledger, now) == 1


def test_the_deadline_of_a_lock_is_told_once_when_it_is_near(ledger: Ledger) -> None:
    lock = Lock(
        kind="payload",
        parameters={"tag": "pedestals"},
        limits=dict(Limits(timedelta(hours=10), GROUP_CLOSED, FAIL).as_json()),
    )
    flow = workflow("ecal", task("scan").model_copy(update={"locks": (lock,)}))
    now = datetime.now(UTC)
    put_runs(ledger, flow, [facts(1)], at=now - timedelta(hours=1))
    number = group_ids(ledger, "run")["run-r1"]

    def look(closed: timedelta) -> list[str]:
        with ledger.write() as connection:
            connection.execute(update(tables.run_group).values(closed_at=now - closed))
        waiting.look_and_record(ledger, [(number, "scan")])
        alarms.watch(ledger, now)
        return [one.title for one in preview(ledger, spec(topics=("deadline",)), now - timedelta(days=1))]

    assert look(timedelta(hours=1)) == []
    assert look(timedelta(hours=9)) == ["The deadline is near: ecal.scan run-r1"]
    assert look(timedelta(hours=9)) == ["The deadline is near: ecal.scan run-r1"]
    assert alarm_states(ledger) == {"deadline_near": "raised"}
    assert look(timedelta(hours=11))[1:] == ["The deadline has passed: ecal.scan run-r1"]
    assert alarm_states(ledger) == {"deadline_near": "cleared"}


@pytest.mark.parametrize(
    ("made_of", "title", "why"),
    [
        (("carrying", "done", "retry", "cleared fit"), "Retry of zee.scale fill-r4 by anna: done", "cleared fit"),
        (("carrying", "failed", "skip", "no task"), "Skip of zee.scale fill-r4 by anna: not done", "no task"),
        (
            ("wanted", "refused", "skip", "stale"),
            "Skip of zee.scale fill-r4 by anna: not done",
            "something had happened since the message was sent",
        ),
    ],
)
def test_what_became_of_an_action_from_chat(made_of: tuple[str, str, str, str], title: str, why: str) -> None:
    before, after, action, outcome = made_of
    data = {"action": action, "person": "anna", "user_id": "x", "outcome": outcome}
    found = message_of(event("chat_action", before, after, data), GROUPS, LINK)
    assert found is not None
    assert (found.title, found.why, found.about) == (title, why, None)
    of_campaign = event("chat_action", before, after, data, workflow=None, task=None, group_name=None)
    found = message_of(of_campaign, GROUPS, LINK)
    assert found is not None
    assert found.title == title.replace("zee.scale fill-r4", "prompt")


def test_a_preview_folds_as_it_would_have_been(ledger: Ledger) -> None:
    take_runs(ledger, range(1, 10))
    for run in range(1, 8):
        fail(ledger, run)
    since = datetime.now(UTC) - timedelta(hours=1)
    assert len(list(preview(ledger, spec(every=86400.0), since))) in (1, 2)
    assert len(list(preview(ledger, spec(at_most=100), since))) == 7
    assert list(preview(ledger, spec(), datetime.now(UTC) + timedelta(hours=1))) == []
