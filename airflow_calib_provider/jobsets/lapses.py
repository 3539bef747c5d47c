"""What the watcher makes of credentials that have expired: nothing is submitted, and what failed since says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from airflow_calib_provider.backends.endings import killed_by
from airflow_calib_provider.credentials.standing import had_expired, lapse
from airflow_calib_provider.domain.failure_policy import classify
from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation
from airflow_calib_provider.jobsets.watched import Watched

_LIKELY = (
    FailureClass.EXIT,
    FailureClass.SIGNAL,
    FailureClass.PRODUCT,
    FailureClass.TRANSFER,
    FailureClass.HOLD,
)
"""What an expired credential leads to; what has used too much memory has another reason."""


def lapses(running: Iterable[Watched], now: datetime) -> dict[int, str]:
    """The generations of which a credential does not hold now, with what to say of it."""
    return {item.row.id: said for item in running if item.credentials and (said := lapse(item.credentials, now))}


def blamed(credentials: Mapping[str, str], seen: Observation) -> Observation:
    """A failure or hold as it counts: that of a credential, if one had expired by then."""
    if not credentials or seen.state not in (AttemptState.FAILED, AttemptState.HELD):
        return seen
    if classify(seen) not in _LIKELY or not (said := had_expired(credentials, seen.end or seen.at)):
        return seen
    return replace(seen, failure=FailureClass.CREDENTIAL, reason=f"{_words(seen)}; {said}")


def _words(seen: Observation) -> str:
    if seen.reason:
        return seen.reason
    return killed_by(seen.signal) if seen.signal is not None else f"exit code {seen.exit_code}"
