"""Whatever the order and the repetitions in which a backend tells its observations."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation
from airflow_calib_provider.domain.reducer import Job, JobState, RetryLimits, reduce, retry_delay, retry_time, submitted

AT = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = {
    AttemptState.SUCCEEDED: JobState.SUCCEEDED,
    AttemptState.REMOVED: JobState.REMOVED,
}

limits = st.builds(RetryLimits, retries=st.integers(0, 4), infrastructure_retries=st.integers(0, 4))
observations = st.builds(
    Observation,
    index=st.just(0),
    attempt=st.integers(1, 6),
    state=st.sampled_from(AttemptState),
    at=st.just(AT),
    exit_code=st.sampled_from([None, 0, 1]),
    reason=st.sampled_from([None, "idle: no machine matches"]),
    memory=st.sampled_from([None, 1, 2]),
)


def see(state: AttemptState, attempt: int) -> Observation:
    return Observation(0, attempt, state, AT)


def play(steps: list[Observation | None], bounds: RetryLimits) -> list[Job]:
    """The job after each step; ``None`` submits it if it waits."""
    jobs = [Job(0)]
    for step in steps:
        job = jobs[-1]
        if step is not None:
            jobs.append(reduce(job, step, bounds))
        else:
            jobs.append(submitted(job) if job.state is JobState.WAITING else job)
    return jobs


@given(st.lists(st.none() | observations, max_size=60), limits)
def test_any_history(steps, bounds):
    jobs = play(steps, bounds)
    for step, (before, after) in zip(steps, itertools.pairwise(jobs), strict=True):
        assert after.attempt - before.attempt in (0, 1)
        assert after.failures - before.failures + after.losses - before.losses in (0, 1)
        if before.state.final:
            assert after == before
        if before.accepted_attempt is not None:
            assert after.accepted_attempt == before.accepted_attempt
        if before.state is JobState.RUNNING and after.state is JobState.SUBMITTED:
            assert step.state is AttemptState.EVICTED
            assert after.losses == before.losses + 1
        if after.attempt == before.attempt:
            assert (after.memory or 0) >= (before.memory or 0)
        if before.state is JobState.WAITING:
            assert after.state in (JobState.WAITING, JobState.SUBMITTED)
    last = jobs[-1]
    assert (last.accepted_attempt is not None) == (last.state is JobState.SUCCEEDED)
    assert last.failures <= bounds.retries + 1
    assert last.losses <= bounds.infrastructure_retries + 1
    assert last.attempt <= 1 + bounds.retries + bounds.infrastructure_retries
    over = last.failures > bounds.retries or last.losses > bounds.infrastructure_retries
    assert over == (last.state is JobState.FAILED)


@given(st.lists(st.none() | observations, max_size=40), limits)
def test_repetition_changes_nothing(steps, bounds):
    once = Job(0)
    twice = Job(0)
    for number, step in enumerate(steps):
        if step is None:
            if once.state is JobState.WAITING:
                once, twice = submitted(once), submitted(twice)
            continue
        once = reduce(once, step, bounds)
        twice = reduce(reduce(twice, step, bounds), step, bounds)
        for old in steps[:number]:
            # What belongs to an attempt that is over says nothing new, however late it comes.
            if old is not None and old.attempt < twice.attempt:
                assert reduce(twice, old, bounds) == twice
        assert once == twice


@given(st.sampled_from(sorted(state for state in AttemptState if state.final)), st.data())
def test_order_within_an_attempt_does_not_matter(end, data):
    told = [see(AttemptState.SUBMITTED, 1), see(AttemptState.RUNNING, 1), see(end, 1)]
    order = data.draw(st.permutations(told + told))
    bounds = RetryLimits(retries=1, infrastructure_retries=1)
    job = play([None, *order], bounds)[-1]
    assert job.state is ENDS.get(end, JobState.WAITING)
    assert (job.failures, job.losses) == (end is AttemptState.FAILED, end is AttemptState.LOST)


@given(st.integers(0, 6), st.integers(0, 6), st.randoms())
def test_retries_are_counted_exactly(retries, losses, chance):
    """Losses in between change nothing in the number of failures that are forgiven."""
    bounds = RetryLimits(retries, infrastructure_retries=losses)
    ends = [AttemptState.FAILED] * (retries + 1) + [AttemptState.LOST] * losses
    head = ends[:-1] if not losses else ends[1:]
    chance.shuffle(head)
    job = Job(0)
    for end in [*head, AttemptState.FAILED]:
        assert job.state is JobState.WAITING
        job = submitted(job)
        job = reduce(job, see(end, job.attempt), bounds)
    assert (job.state, job.failures, job.losses) == (JobState.FAILED, retries + 1, losses)
    assert job.attempt == retries + 1 + losses


def test_three_retries_are_four_attempts():
    job = Job(0)
    while job.state is JobState.WAITING:
        job = submitted(job)
        job = reduce(job, see(AttemptState.FAILED, job.attempt), RetryLimits(retries=3))
    assert (job.attempt, job.state) == (4, JobState.FAILED)


def test_losses_are_capped():
    job = Job(0)
    while job.state is JobState.WAITING:
        job = submitted(job)
        job = reduce(job, see(AttemptState.LOST, job.attempt), RetryLimits(retries=3, infrastructure_retries=10))
    assert (job.attempt, job.losses, job.failures, job.state) == (11, 11, 0, JobState.FAILED)


def test_an_eviction_is_a_loss_of_the_same_attempt():
    job, bounds = submitted(Job(0)), RetryLimits(retries=0, infrastructure_retries=2)
    for losses in (1, 2):
        job = reduce(job, Observation(0, 1, AttemptState.RUNNING, AT, host="h", start=AT), bounds)
        job = reduce(job, see(AttemptState.EVICTED, 1), bounds)
        job = reduce(job, see(AttemptState.EVICTED, 1), bounds)
        assert (job.state, job.losses, job.attempt, job.host, job.start) == (JobState.SUBMITTED, losses, 1, None, None)
    job = reduce(reduce(job, see(AttemptState.RUNNING, 1), bounds), see(AttemptState.EVICTED, 1), bounds)
    assert (job.state, job.losses, job.failures, job.failure) == (JobState.FAILED, 3, 0, FailureClass.LOST)


def test_held_is_not_the_end():
    held = Observation(0, 1, AttemptState.HELD, AT, reason="no space", failure=FailureClass.TRANSFER, hold_code=13)
    job = reduce(submitted(Job(0)), held, RetryLimits())
    assert (job.state, job.failure, job.hold_code, job.reason) == (
        JobState.HELD,
        FailureClass.TRANSFER,
        13,
        "no space",
    )
    assert not job.state.final
    for state, expected in [
        (AttemptState.SUBMITTED, JobState.SUBMITTED),
        (AttemptState.RUNNING, JobState.RUNNING),
        (AttemptState.SUCCEEDED, JobState.SUCCEEDED),
        (AttemptState.REMOVED, JobState.REMOVED),
    ]:
        after = reduce(job, see(state, 1), RetryLimits())
        assert (after.state, after.failure, after.hold_code, after.reason) == (expected, None, None, None)


def test_a_release_is_no_loss():
    """A backend that can only ask takes a job that was held while it ran, and released, for one that was evicted."""
    job = reduce(submitted(Job(0)), see(AttemptState.RUNNING, 1), RetryLimits())
    job = reduce(reduce(job, see(AttemptState.HELD, 1), RetryLimits()), see(AttemptState.EVICTED, 1), RetryLimits())
    assert (job.state, job.losses, job.failure) == (JobState.SUBMITTED, 0, None)


def test_what_a_running_job_does_is_told_without_a_change_of_state():
    job = reduce(submitted(Job(0)), see(AttemptState.RUNNING, 1), RetryLimits())
    news = Observation(0, 1, AttemptState.RUNNING, AT, reason="suspended", memory=5, progress=0.5)
    job = reduce(job, news, RetryLimits())
    assert (job.state, job.reason, job.memory, job.progress) == (JobState.RUNNING, "suspended", 5, 0.5)
    job = reduce(job, Observation(0, 1, AttemptState.RUNNING, AT, memory=3), RetryLimits())
    assert (job.reason, job.memory, job.progress) == (None, 5, 0.5)


@pytest.mark.parametrize("end", [AttemptState.FAILED, AttemptState.LOST, AttemptState.EVICTED])
def test_giving_up(end):
    job = reduce(submitted(Job(0)), see(AttemptState.RUNNING, 1), RetryLimits(9, 9))
    assert reduce(job, see(end, 1), RetryLimits(9, 9), give_up=True).state is JobState.FAILED


def test_a_new_attempt_starts_clean():
    job = reduce(submitted(Job(0)), Observation(0, 1, AttemptState.FAILED, AT, exit_code=3, host="h"), RetryLimits(1))
    assert (job.exit_code, job.host) == (3, "h")
    job = submitted(job)
    assert (job.exit_code, job.host, job.reason, job.end) == (None, None, None, None)


@pytest.mark.parametrize(("failures", "seconds"), [(0, 10), (1, 10), (2, 20), (3, 40), (7, 600), (5000, 600)])
def test_retry_delay(failures, seconds):
    assert retry_delay(failures, base=10) == seconds


@given(st.floats(0, 1e6), st.sampled_from([10.0, 20.0, 600.0]))
def test_the_next_attempt_waits_for_its_delay_and_at_most_half_of_it_more(after, delay):
    at = AT + timedelta(seconds=after)
    assert delay - 1e-3 < (retry_time(at, delay) - at).total_seconds() < 1.5 * delay + 1e-3


def test_jobs_that_failed_one_after_the_other_are_due_together():
    due = {retry_time(AT + timedelta(seconds=second), 10.0) for second in range(60)}
    assert len(due) <= 13
    assert {retry_time(one, 0.0) for one in due} == due
