"""What reasons say of the locks that gave them."""

from __future__ import annotations

from airflow_calib_provider.domain.reasons import Reason, lock_of, parts_of


def may_shut_again(reason: Reason) -> bool:
    """Whether all that keeps a task from starting are locks that may have been open a moment before."""
    parts = parts_of(reason)
    if reason.get("code") == "any_of":
        return any(map(may_shut_again, parts))
    if parts:
        return all(map(may_shut_again, parts))
    if reason.get("code") == "lock_trouble":
        return True  # which comes and goes with the machine that looks
    lock = lock_of(reason)
    return lock is not None and lock.may_shut
