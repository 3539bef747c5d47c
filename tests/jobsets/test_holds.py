"""Held, evicted, removed and starved jobs on a scripted batch system (rules 15, 37)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation
from airflow_calib_provider.errors import BackendError, IllegalTransition
from airflow_calib_provider.jobsets import holds
from airflow_calib_provider.jobsets.kill import settle
from airflow_calib_provider.ledger import observed, tables
from airflow_calib_provider.ledger.generations import as_job, by_id
from airflow_calib_provider.ledger.observed import JobChange
from airflow_calib_provider.spec.models import FailureRule, ResourceRequest
from tests.jobsets.scripted import EVICTED, FAILED, HELD, REMOVED, RUNNING, SUBMITTED, Story, T, job_of

GB = 10**9


def attempts_of(story: Story) -> list[tuple[int, int, str]]:
    return [(row.job_index, row.n, row.state) for row in story.world.rows(tables.attempt)]


def releases(story: Story) -> list[Any]:
    return [row.data for row in story.world.rows(tables.event) if row.from_state == row.to_state == "held"]


def test_a_hold_is_told_with_everything(tell: Callable[..., Story]) -> None:
    story = tell()
    story.backend.tell(0, RUNNING, host="node7", start=T)
    story.backend.tell(0, HELD, reason="no space left", failure=FailureClass.TRANSFER, hold_code=13, memory=5)
    assert story.step(1).counts == {"held": 1}
    row = job_of(story)
    assert (row.reason, row.failure, row.hold_code, row.host, row.memory) == (
        "no space left",
        "transfer",
        13,
        "node7",
        5,
    )
    assert row.retry_at == T + timedelta(seconds=301)
    (attempt,) = story.world.rows(tables.attempt)
    assert (attempt.state, attempt.failure, attempt.hold_code, attempt.memory) == ("held", "transfer", 13, 5)
    assert story.world.task_state() == "processing"
    assert story.step(300).counts == {"held": 1}
    assert story.backend.asked == []


def test_release_then_a_new_attempt(tell: Callable[..., Story]) -> None:
    story = tell(2, retries=1)
    for job in (0, 1):
        story.backend.tell(job, HELD, reason="odd", hold_code=26)
    story.step(0)
    story.step(300)
    assert story.backend.asked == [["release", 0, [0, 1]]], "one call for all jobs of a round"
    assert (job_of(story).state, job_of(story).releases) == ("held", 1)
    assert job_of(story).retry_at == T + timedelta(seconds=600)
    # One goes on, the other is held again.
    story.backend.tell(0, SUBMITTED)
    story.backend.tell(0, RUNNING)
    story.backend.tell(1, SUBMITTED)
    story.backend.tell(1, HELD, reason="odd again", hold_code=26)
    story.step(310)
    assert [row.state for row in story.world.rows(tables.job)] == ["running", "held"]
    assert job_of(story).hold_code is None
    assert (job_of(story, 1).releases, job_of(story, 1).retry_at) == (1, T + timedelta(seconds=610))
    story.step(610)
    assert story.backend.asked[1:] == [["release", 0, [1]]]
    story.step(910)
    assert story.backend.asked[2:] == [["remove", 0, [1]]]
    row = job_of(story, 1)
    assert (row.state, row.failures, row.losses, row.reason, row.failure) == ("waiting", 1, 0, "odd again", "hold")
    assert [data["released"] for data in releases(story)] == [1, 1, 2]
    story.step(911)
    assert attempts_of(story) == [(0, 1, "running"), (1, 1, "failed"), (1, 2, "submitted")]
    row = job_of(story, 1)
    assert (row.releases, row.hold_code, row.failure, row.reason) == (0, None, None, None)


def test_a_job_that_was_released_is_given_time_to_say_so(tell: Callable[..., Story]) -> None:
    story = tell(failures=(FailureRule(hold_codes=(5,), then="release", times=2, after=timedelta(seconds=1)),))
    story.backend.tell(0, HELD, hold_code=5)
    story.step(0)
    for second in (1, 2, 10, 30):
        story.step(second)
    assert story.backend.asked == [["release", 0, [0]]]
    story.step(31)
    story.step(61)
    assert [asked[0] for asked in story.backend.asked] == ["release", "release", "remove"]


def test_transfer_ends_as_a_loss(tell: Callable[..., Story]) -> None:
    story = tell(retries=0)
    story.backend.tell(0, HELD, failure=FailureClass.TRANSFER, hold_code=12)
    for second in (0, 300, 600, 900, 1200):
        story.step(second)
    assert [asked[0] for asked in story.backend.asked] == ["release"] * 3 + ["remove"]
    row = job_of(story)
    assert (row.failures, row.losses) == (0, 1)
    assert attempts_of(story)[0] == (0, 1, "lost")


def test_a_person_holds_and_releases(tell: Callable[..., Story]) -> None:
    story = tell()
    story.backend.tell(0, HELD, failure=FailureClass.PERSON, hold_code=1, reason="via condor_hold (by user ann)")
    for second in (0, 5, 10_000):
        assert story.step(second).counts == {"held": 1}
    assert (story.backend.asked, job_of(story).retry_at) == ([], None)
    assert job_of(story).reason.startswith("via condor_hold (by user ann); ")
    story.backend.tell(0, SUBMITTED)
    assert story.step(10_001).counts == {"submitted": 1}
    story.backend.tell(0, HELD, failure=FailureClass.PERSON, hold_code=1)
    story.step(10_002)
    story.backend.tell(0, REMOVED, failure=FailureClass.PERSON, reason="via condor_rm")
    standing = story.step(10_003)
    assert (standing.state, standing.counts) == ("failed", {"removed": 1})


def test_a_person_removes_what_would_have_been_released(tell: Callable[..., Story]) -> None:
    story = tell()
    story.backend.tell(0, HELD, hold_code=26)
    story.step(0)
    story.backend.tell(0, REMOVED)
    assert story.step(10).counts == {"removed": 1}


def test_more_memory_is_stored_and_asked_for(tell: Callable[..., Story]) -> None:
    story = tell(retries=9, resources=ResourceRequest(memory=2 * GB))
    asked = []
    for attempt in range(5):
        story.backend.tell(0, HELD, failure=FailureClass.MEMORY, hold_code=34, memory=3 * GB + attempt)
        story.step(attempt)
        story.step(attempt)
        asked.append(list(story.backend.submitted.values())[-1][0].resources.memory)
    assert asked == [3 * GB, 4_500_000_000, 6_750_000_000, 8 * GB, 8 * GB]
    assert [call[0] for call in story.backend.asked] == ["remove"] * 5
    rows = story.world.rows(tables.attempt)
    assert [row.request_memory for row in rows][:3] == [2 * GB, 3 * GB, 4_500_000_000]
    assert [row.memory for row in rows][:2] == [3 * GB, 3 * GB + 1]
    assert (job_of(story).failures, job_of(story).request_memory) == (5, 8 * GB)
    # A clear goes on with what is known to be needed.
    settle(story.world.ledger, lambda name: story.backend, story.id, "failed", T)
    story.world.begin(9)
    story.step(100)
    assert list(story.backend.submitted.values())[-1][0].resources.memory == 8 * GB


def test_more_memory_where_none_was_asked_for(tell: Callable[..., Story]) -> None:
    story = tell(retries=9)
    asked = []
    for attempt in range(6):
        story.backend.tell(0, FAILED, signal=9, failure=FailureClass.MEMORY, memory=GB * (attempt + 1))
        story.step(attempt)
        story.step(attempt)
        asked.append(list(story.backend.submitted.values())[-1][0].resources.memory)
    assert asked == [1_500_000_000, 2_250_000_000, 3_375_000_000, 4 * GB, 4 * GB, 4 * GB]


def test_a_rule_fails_at_once(tell: Callable[..., Story]) -> None:
    rules = (FailureRule(exit_codes=(65,), then="fail"), FailureRule(hold_codes=(7,), then="fail"))
    story = tell(3, retries=3, failures=rules)
    story.backend.tell(0, FAILED, exit_code=65)
    story.backend.tell(1, FAILED, exit_code=64)
    story.backend.tell(2, HELD, hold_code=7, reason="cannot go to the folder")
    story.step(1, delay=100)
    assert [row.state for row in story.world.rows(tables.job)] == ["failed", "waiting", "failed"]
    assert [row.failures for row in story.world.rows(tables.job)] == [1, 1, 1]
    assert story.backend.asked == [["remove", 0, [2]]]
    assert job_of(story, 2).reason == "cannot go to the folder"


def test_a_missing_product_has_its_class(tell: Callable[..., Story]) -> None:
    story = tell(retries=3, products={"c": "c.txt"}, failures=(FailureRule(classes=("product",), then="fail"),))
    story.backend.tell(0, AttemptState.SUCCEEDED)
    assert story.step(1).state == "failed"
    assert (job_of(story).failure, job_of(story).reason) == ("product", "product c: c.txt is missing")


def test_evictions_are_losses_of_the_same_attempt_and_capped(tell: Callable[..., Story]) -> None:
    story = tell(retries=3)
    for turn in range(10):
        story.backend.tell(0, RUNNING, host=f"node{turn}")
        story.step(turn)
        story.backend.tell(0, EVICTED)
        assert story.step(turn).counts == {"submitted": 1}
    assert (job_of(story).losses, job_of(story).failures, job_of(story).attempt) == (10, 0, 1)
    assert story.backend.asked == []
    story.backend.tell(0, RUNNING)
    story.backend.tell(0, EVICTED, reason="preempted")
    standing = story.step(20)
    assert (standing.state, standing.counts) == ("failed", {"failed": 1})
    assert story.backend.asked == [["remove", 0, [0]]]
    assert attempts_of(story) == [(0, 1, "lost")]


def test_evicted_and_running_again_within_one_look(tell: Callable[..., Story]) -> None:
    story = tell()
    story.backend.tell(0, RUNNING, host="a", start=T)
    story.step(0)
    story.backend.tell(0, EVICTED)
    story.backend.tell(0, RUNNING, host="b", start=T + timedelta(seconds=5))
    story.step(6)
    row = job_of(story)
    assert (row.state, row.losses, row.host, row.start) == ("running", 1, "b", T + timedelta(seconds=5))


def test_the_row_follows_what_a_living_job_does(tell: Callable[..., Story]) -> None:
    story = tell()
    story.backend.tell(0, SUBMITTED, reason="idle: no machine matches")
    story.step(0)
    assert (job_of(story).state, job_of(story).reason) == ("submitted", "idle: no machine matches")
    story.backend.tell(0, RUNNING)
    story.step(1)
    events = len(story.world.rows(tables.event))
    story.backend.tell(0, RUNNING, reason="suspended", memory=GB, progress=0.25)
    story.step(2)
    row = job_of(story)
    assert (row.state, row.reason, row.memory, row.progress) == ("running", "suspended", GB, 0.25)
    assert story.world.rows(tables.attempt)[0].reason == "suspended"
    story.backend.tell(0, RUNNING)
    story.step(3)
    assert (job_of(story).reason, job_of(story).memory) == (None, GB)
    assert len(story.world.rows(tables.event)) == events


class Dies(BaseException):
    pass


@pytest.mark.parametrize("point", ["held.before_act", "held.after_act"])
@pytest.mark.parametrize("action", ["release", "retry", "fail"])
def test_dying_while_a_held_job_is_treated(
    tell: Callable[..., Story], monkeypatch: pytest.MonkeyPatch, point: str, action: str
) -> None:
    story = tell(2, retries=3, failures=(FailureRule(hold_codes=(12,), then=action),))  # type: ignore[arg-type]

    def die(name: str, scope: str = "") -> None:
        if name == point:
            raise Dies

    story.backend.tell(0, HELD, hold_code=12, reason="why")
    story.backend.tell(1, RUNNING)
    monkeypatch.setattr(holds, "crash_point", die)
    story.step(0, delay=100) if action == "release" else None
    with pytest.raises(Dies):
        story.step(400, delay=100)
    monkeypatch.undo()
    assert job_of(story).state == "held"
    happened = point == "held.after_act"
    if happened and action != "release":
        story.backend.tell(0, REMOVED, at=400)
    story.step(401, delay=100)
    row = job_of(story)
    kind = "release" if action == "release" else "remove"
    times = 2 if happened and action == "release" else 1
    assert story.backend.asked == [[kind, 0, [0]]] * times
    if action == "release":
        assert (row.state, row.releases) == ("held", 1)
        return
    assert (row.state, row.failures, row.reason) == ("waiting" if action == "retry" else "failed", 1, "why")
    assert attempts_of(story)[0] == (0, 1, "failed")


def test_another_watcher_was_faster(tell: Callable[..., Story]) -> None:
    story = tell(failures=(FailureRule(then="retry"),))
    story.backend.tell(0, HELD, hold_code=12)
    other = Story(story.world)
    other.backend, remove = story.backend, story.backend.remove

    def both(key: Any, jobs: Any = None) -> None:
        story.backend.remove = remove  # type: ignore[method-assign]
        remove(key, jobs)
        other.step(1, delay=100)

    story.backend.remove = both  # type: ignore[method-assign, assignment]
    assert story.step(1, delay=100).counts == {"waiting": 1}
    assert (job_of(story).failures, attempts_of(story)) == (1, [(0, 1, "failed")])


def test_older_news_of_another_watcher_change_nothing(tell: Callable[..., Story]) -> None:
    """What a schedd says without a log moves no cursor: the class of a hold would be lost, and another rule applied."""
    story = tell()
    story.backend.tell(0, RUNNING)
    story.step(1)
    before = as_job(job_of(story))
    story.backend.tell(0, HELD, hold_code=12, failure=FailureClass.TRANSFER, reason="no file")
    story.step(2)
    older = Observation(0, 1, RUNNING, T, memory=GB)
    change = JobChange(before, replace(before, memory=GB), older)
    row = story.world.rows(tables.generation)[0]
    with pytest.raises(IllegalTransition), story.world.ledger.write() as connection:
        observed.store(connection, by_id(connection, row.id), 0, [change])
    held = job_of(story)
    assert (held.state, held.failure, held.hold_code, held.reason) == ("held", "transfer", 12, "no file")


def test_held_jobs_at_the_end_of_a_generation(tell: Callable[..., Story]) -> None:
    story = tell(2, quorum=0.5)
    story.backend.tell(0, HELD, failure=FailureClass.PERSON)
    story.backend.tell(1, AttemptState.SUCCEEDED)
    standing = story.step(1)
    assert (standing.state, standing.counts) == ("done", {"left_out": 1, "succeeded": 1})
    assert story.backend.asked == [["remove", 0, None]]
    assert attempts_of(story) == [(0, 1, "removed"), (1, 1, "succeeded")]


def test_kill_and_mark_success_of_held_jobs(tell: Callable[..., Story]) -> None:
    story = tell(2)
    for job in (0, 1):
        story.backend.tell(job, HELD, failure=FailureClass.PERSON)
    story.step(1)
    assert settle(story.world.ledger, lambda name: story.backend, story.id, "failed", T) == "removed"
    assert story.world.states(tables.job) == ["removed", "removed"]
    story.world.begin(9)
    story.step(2)
    story.backend.tell(0, HELD, failure=FailureClass.PERSON)
    story.step(3)
    assert settle(story.world.ledger, lambda name: story.backend, story.id, "success", T) == "marked"
    assert story.world.states(tables.job) == ["succeeded", "succeeded"]


def test_trouble_is_kept_until_it_is_over(tell: Callable[..., Story]) -> None:
    story = tell()

    def kept() -> tuple[Any, Any]:
        (row,) = story.world.rows(tables.generation)
        return row.trouble, row.trouble_since

    assert kept() == (None, None)
    story.backend.silent = "the schedd does not answer"
    with pytest.raises(BackendError, match="does not answer"):
        story.step(1)
    assert kept() == ("the schedd does not answer", T + timedelta(seconds=1))
    story.backend.silent = "the schedd refuses"
    with pytest.raises(BackendError):
        story.step(2)
    assert kept() == ("the schedd refuses", T + timedelta(seconds=1))
    story.backend.silent, story.backend.trouble = "", "the log is not readable"
    story.backend.tell(0, RUNNING)
    standing = story.step(3)
    assert (standing.trouble, standing.counts) == ("the log is not readable", {"running": 1})
    assert kept()[0] == "the log is not readable"
    story.backend.trouble = ""
    story.step(4)
    assert kept() == (None, None)


def test_a_backend_that_fails_to_remove_loses_no_news(tell: Callable[..., Story]) -> None:
    story = tell(2, failures=(FailureRule(classes=("lost",), then="fail"),))
    story.backend.tell(0, RUNNING)
    story.step(0)
    story.backend.tell(0, EVICTED)
    news = {key: list(value) for key, value in story.backend.news.items()}

    def broken(key: Any, jobs: Any = None) -> None:
        raise BackendError("no answer")

    remove, story.backend.remove = story.backend.remove, broken  # type: ignore[method-assign, assignment]
    with pytest.raises(BackendError):
        story.step(1)
    assert job_of(story).state == "running"
    story.backend.remove, story.backend.news = remove, news  # type: ignore[method-assign]
    story.step(2)
    assert (job_of(story).state, job_of(story).failure) == ("failed", "lost")


def test_options_reach_the_backend_as_they_are_now(tell: Callable[..., Story]) -> None:
    story = tell()
    assert story.backend.options == [{}]


def test_jobs_that_are_refused_when_they_are_tried_again_leave_the_others_alone(tell: Callable[..., Story]) -> None:
    story = tell(2)
    story.backend.tell(0, RUNNING)
    story.backend.tell(1, FAILED, exit_code=1)
    story.step(1)
    story.backend.refusal = "no more of these"
    standing = story.step(2)
    assert (standing.state, standing.counts) == ("running", {"running": 1, "failed": 1})
    assert "no more of these" in job_of(story, 1).reason
    assert attempts_of(story) == [(0, 1, "running"), (1, 1, "failed"), (1, 2, "failed")]
    assert story.step(3).counts == {"running": 1, "failed": 1}
    story.backend.tell(0, AttemptState.SUCCEEDED)
    standing = story.step(4)
    assert standing.state == "failed"
    assert standing.reason is not None
    assert "no more of these" in standing.reason["failed"][0][1]
    assert not story.backend.asked
