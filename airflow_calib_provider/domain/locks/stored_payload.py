"""A lock on the payloads that an outside store has under a tag: what ``payload`` with a ``store`` means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_calib_provider.domain.locks.base import LockKind, missing


class StoredPayloadLockKind(LockKind):
    """Open when an outside store has a payload for every run of the group. A task says ``payload``."""

    name = "stored_payload"
    keys = None
    loader = "airflow_calib_provider.ledger.locks.stored_payload:LOCK"
    release = "a payload in that store that covers the missing runs"
    may_shut = True
    has_last_good = True

    def text(self, reason: Mapping[str, Any]) -> str:
        """How many runs are covered, and which are not."""
        return f"{reason['done']} of {reason['total']} runs covered by {self.what(reason)}; missing {missing(reason)}"


KIND = StoredPayloadLockKind()
