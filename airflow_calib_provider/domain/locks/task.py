"""What ``needs`` means outside of a task's own DAG: a lock on the needed task."""

from __future__ import annotations

from typing import Any

from airflow_calib_provider.domain.locks.base import LockKind


class TaskLockKind(LockKind):
    """Open when the needed task is done for each run of the group. A task says ``needs``, not ``locks``."""

    name = "task"
    keys = None
    loader = "airflow_calib_provider.ledger.locks.task:LOCK"

    def on(self, keys: Any) -> str:
        raise NotImplementedError


KIND = TaskLockKind()
