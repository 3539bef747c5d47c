"""What ``needs`` means outside of a task's own DAG: a lock on the needed task."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_calib_provider.domain.locks.base import LockKind, missing


class TaskLockKind(LockKind):
    """Open when the needed task is done for each run of the group. A task says ``needs``, not ``locks``."""

    name = "task"
    keys = None
    loader = "airflow_calib_provider.ledger.locks.task:LOCK"
    code = "needs"
    release = "the missing runs done there (`calib explain`); or, to go on without them, `calib skip`"

    def what(self, reason: Mapping[str, object]) -> str:
        """The other task."""
        return str(reason["needs"])

    def text(self, reason: Mapping[str, object]) -> str:
        """How many runs are done in the other task, and which are not."""
        of_base = f" of the campaign {reason['campaign']}" if "campaign" in reason else ""
        there = f"{reason['needs']}{of_base}"
        return f"{reason['done']} of {reason['total']} runs done in {there}; missing {missing(reason)}"

    def on(self, keys: object) -> str:
        """Nobody asks: ``needs`` makes this lock, no key of ``locks``."""
        raise NotImplementedError


KIND = TaskLockKind()
