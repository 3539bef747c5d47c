"""The failure policy: from the kind of a failure or hold to what follows (rule 37). Pure functions.

What is counted, and how often a job may be tried, is decided by :mod:`airflow_calib_provider.domain.reducer` alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation
from airflow_calib_provider.domain.reducer import Job, JobState

RELEASE_AFTER = 300.0
"""Seconds for which a job stays held, unless a rule says otherwise."""

RELEASES = 3
"""How often an attempt is released, unless a rule says otherwise."""

MEMORY_FACTOR = 1.5
MEMORY_CAP = 4
"""Times the first request: the most that is asked for, unless a rule says otherwise."""

MEMORY_UNKNOWN = 10**9
"""Bytes: where nothing was asked for, and no peak was seen."""


_NOT_COUNTED = (FailureClass.CREDENTIAL, FailureClass.TRANSFER, FailureClass.LOST)


class Action(StrEnum):
    """What follows a failure or a hold."""

    RETRY = "retry"
    RELEASE = "release"
    FAIL = "fail"
    WAIT = "wait"
    """For a person."""


@dataclass(frozen=True)
class Rule:
    """A rule of the policy as the ledger has it; empty conditions match everything.

    :ivar after: seconds.
    """

    then: Action
    classes: frozenset[str] = frozenset()
    exit_codes: frozenset[int] = frozenset()
    signals: frozenset[int] = frozenset()
    hold_codes: frozenset[int] = frozenset()
    times: int = RELEASES
    after: float = RELEASE_AFTER
    factor: float | None = None
    at_most: int | None = None

    @classmethod
    def parse(cls, stated: Mapping[str, Any]) -> Rule:
        """A rule from the JSON of ``generation.failures``."""
        sets = ("classes", "exit_codes", "signals", "hold_codes")
        known: dict[str, Any] = {name: frozenset(stated[name]) for name in sets if name in stated}
        known |= {name: stated[name] for name in ("times", "after", "factor", "at_most") if name in stated}
        return cls(Action(stated["then"]), **known)

    def matches(self, failure: FailureClass, job: Job) -> bool:
        """Whether all conditions hold."""
        return (
            (not self.classes or failure in self.classes)
            and (not self.exit_codes or job.exit_code in self.exit_codes)
            and (not self.signals or job.signal in self.signals)
            and (not self.hold_codes or job.hold_code in self.hold_codes)
        )


def rules_of(stated: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """The rules of a generation."""
    return tuple(Rule.parse(item) for item in stated)


@dataclass(frozen=True)
class MoreMemory:
    """How much more the next attempt asks for.

    :ivar at_most: bytes; ``None``: :data:`MEMORY_CAP` times the first request.
    """

    factor: float = MEMORY_FACTOR
    at_most: int | None = None


@dataclass(frozen=True)
class Decision:
    """What follows.

    :ivar after: seconds until a held job is released.
    :ivar counted: whether a retry counts as a failure; if not, as a loss.
    :ivar more: with a retry, what the next attempt asks for.
    """

    action: Action
    after: float = 0.0
    counted: bool = True
    more: MoreMemory | None = None


def classify(observation: Observation) -> FailureClass | None:
    """The class of a failure, loss or hold; ``None`` for what is none of these."""
    match observation.state:
        case AttemptState.HELD:
            return observation.failure or FailureClass.HOLD
        case AttemptState.LOST | AttemptState.EVICTED:
            return observation.failure or FailureClass.LOST
        case AttemptState.FAILED:
            return observation.failure or (FailureClass.EXIT if observation.signal is None else FailureClass.SIGNAL)
        case _:
            return None


def decide(job: Job, rules: Sequence[Rule]) -> Decision:
    """Say what follows from the failure, loss or hold of a job's present attempt.

    The first rule that matches decides, else the built-in ones.

    :param job: with ``failure``, codes and ``releases``; held, or with what the attempt ended with.
    """
    failure = job.failure or FailureClass.EXIT
    held = job.state is JobState.HELD
    for rule in rules:
        if rule.matches(failure, job):
            return _of_rule(rule, failure, job.releases if held else rule.times)
    if failure is FailureClass.PERSON and held:
        return Decision(Action.WAIT)
    times = {FailureClass.TRANSFER: 3, FailureClass.HOLD: 2}.get(failure, 0)
    if held and job.releases < times:
        return Decision(Action.RELEASE, after=RELEASE_AFTER)
    return _again(failure, MoreMemory() if failure is FailureClass.MEMORY else None)


def _of_rule(rule: Rule, failure: FailureClass, releases: int) -> Decision:
    if rule.then is Action.FAIL:
        return Decision(Action.FAIL, counted=failure is not FailureClass.LOST)
    if rule.then is Action.RELEASE and releases < rule.times:
        return Decision(Action.RELEASE, after=rule.after)
    if rule.then is Action.RETRY and (rule.factor is not None or rule.at_most is not None):
        return replace(_again(failure), more=MoreMemory(rule.factor or MEMORY_FACTOR, rule.at_most))
    return _again(failure)


def _again(failure: FailureClass, more: MoreMemory | None = None) -> Decision:
    """A new attempt; files that cannot be transferred, credentials and losses are the infrastructure's fault."""
    return Decision(Action.RETRY, counted=failure not in _NOT_COUNTED, more=more)


def ended(job: Job, observation: Observation, decision: Decision) -> Observation:
    """How the end of an attempt counts: a failure that is the infrastructure's is a loss."""
    if observation.state is AttemptState.FAILED and not decision.counted:
        return replace(observation, state=AttemptState.LOST)
    return observation


def end_of_held(job: Job, decision: Decision, observation: Observation) -> Observation:
    """How an attempt ended that is removed because it is held.

    :param observation: its removal.
    """
    return replace(
        observation,
        state=AttemptState.FAILED if decision.counted else AttemptState.LOST,
        exit_code=None,
        signal=None,
        reason=job.reason,
        failure=job.failure,
        hold_code=job.hold_code,
    )


def more_memory(more: MoreMemory, first: int | None, present: int | None, peak: int | None) -> int | None:
    """Bytes that the next attempt asks for.

    :param first: what was asked for at first; where nothing was, the peak of the first attempt.
    :param present: what the present attempt asks for.
    :param peak: what it used.
    :returns: ``None`` if it is to ask for no more than now.
    """
    start = first or peak or MEMORY_UNKNOWN
    now = present or start
    most = more.at_most if more.at_most is not None else MEMORY_CAP * start
    wanted = min(math.ceil(now * more.factor), most)
    return wanted if wanted > now or present is None else None


def words_for_a_person(reason: str | None, release: str) -> str:
    """The reason of a hold that only a person ends, with what to do.

    :param release: what it is on the job's backend, in words.
    """
    return f"{reason or 'held by a person'}; {release} lets it go on"
