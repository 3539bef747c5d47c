"""From an observation to the change of a job: the reducer's counting under the failure policy (rules 15, 37)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from airflow_calib_provider.domain import failure_policy
from airflow_calib_provider.domain.failure_policy import Action, Decision, Rule
from airflow_calib_provider.domain.observation import AttemptState, Observation
from airflow_calib_provider.domain.reducer import Job, JobState, RetryLimits, reduce, retry_delay, retry_time
from airflow_calib_provider.ledger import observed
from airflow_calib_provider.ledger.observed import JobChange
from airflow_calib_provider.ledger.rows import Generation
from airflow_calib_provider.spec.kinds import backend_kind


@dataclass(frozen=True)
class Judge:
    """What holds for all jobs of a generation.

    :ivar base_delay: seconds before the second attempt of a job.
    """

    backend: str
    limits: RetryLimits
    rules: Sequence[Rule]
    base_delay: float
    now: datetime

    @classmethod
    def of(cls, row: Generation, base_delay: float, now: datetime) -> Judge:
        """The limits and the policy of a generation."""
        return cls(
            row.backend, RetryLimits(retries=row.retries), failure_policy.rules_of(row.failures), base_delay, now
        )

    def judge(self, job: Job, seen: Observation) -> tuple[Job, Observation, Decision | None]:
        """The job after an observation, the observation as it counts, and the decision behind it.

        An end for which nobody asked is no failure to decide about: success, and removal.
        """
        failure = failure_policy.classify(seen)
        if failure is None:
            return reduce(job, seen, self.limits), seen, None
        seen = replace(seen, failure=failure)
        held = seen.state is AttemptState.HELD
        present = replace(
            job,
            state=JobState.HELD if held else JobState.RUNNING,
            failure=failure,
            exit_code=seen.exit_code,
            signal=seen.signal,
            hold_code=seen.hold_code,
        )
        decision = failure_policy.decide(present, self.rules)
        if held and decision.action is Action.WAIT:
            words = failure_policy.words_for_a_person(seen.reason, backend_kind(self.backend).release)
            seen = replace(seen, reason=words)
        seen = failure_policy.ended(job, seen, decision)
        return reduce(job, seen, self.limits, give_up=decision.action is Action.FAIL), seen, decision

    def removed_while_held(self, job: Job, removal: Observation) -> tuple[Job, Observation, Decision] | None:
        """The job after the removal of its held attempt, if the policy wanted that; ``None`` if a person did it."""
        decision = failure_policy.decide(job, self.rules)
        if decision.action not in (Action.RETRY, Action.FAIL):
            return None
        end = failure_policy.end_of_held(job, decision, removal)
        return reduce(job, end, self.limits, give_up=decision.action is Action.FAIL), end, decision

    def change(self, before: Job, after: Job, seen: Observation, decision: Decision | None) -> JobChange:
        """The change to be stored, with the time at which something is due."""
        due = None
        if after.state is JobState.WAITING:
            due = retry_time(self.now, retry_delay(after.failures + after.losses, self.base_delay))
        elif after.state is JobState.HELD and decision is not None and decision.action is not Action.WAIT:
            due = self.now + timedelta(seconds=decision.after)
        return JobChange(before, after, seen, due)


def with_memory(
    connection: Connection, row: Generation, step: int, changes: Sequence[JobChange], decisions: Mapping[int, Decision]
) -> list[JobChange]:
    """The changes, with what the next attempts ask for where the policy wants more memory.

    :param decisions: by job.
    """
    lacking = {
        change.after.index: decision.more
        for change in changes
        if change.after.state is JobState.WAITING
        and (decision := decisions.get(change.after.index)) is not None
        and decision.more is not None
    }
    if not lacking:
        return list(changes)
    known = observed.memory_of(connection, row.id, step, lacking)
    result = []
    for change in changes:
        more = lacking.get(change.after.index)
        if more is not None:
            past = known[change.after.index]
            asked = failure_policy.more_memory(more, past.first, past.present, change.after.memory)
            change = replace(change, request_memory=asked)
        result.append(change)
    return result
