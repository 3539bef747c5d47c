"""What every kind of lock says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_calib_provider.domain.keys import Keys
from airflow_calib_provider.domain.reasons import listed


class LockKind:
    """Something that a task may wait for.

    :ivar name: the key of its block in an element of ``locks``.
    :ivar keys: the model of that block; ``None``: it is not written among the locks.
    :ivar loader: ``module:attribute`` of the :class:`~airflow_calib_provider.ledger.locks.base.LedgerLock`.
    :ivar code: of its reasons, :ivar release: and what would open it, in words.
    :ivar example: one of it, :ivar once: and that there is one of each, for messages.
    """

    name: str
    keys: type[Keys] | None
    loader: str
    example: str = ""
    once: str = "each once"
    code: str = "lock"
    release: str = "what it waits for"

    def what(self, reason: Mapping[str, Any]) -> str:
        """What a reason waits for: with the kind's name it names the lock in the mirror."""
        return str(reason["what"])

    def text(self, reason: Mapping[str, Any]) -> str:
        """The words of a reason for which a lock is shut, which ``calib explain`` shows.

        :param reason: as :meth:`~airflow_calib_provider.ledger.locks.base.LedgerLock.reason` gave it.
        """
        return f"{self.name} {self.what(reason)}: {reason['done']} of {reason['total']}; missing {missing(reason)}"

    def on(self, keys: Any) -> str:
        """What a lock waits for, in words: two of one task on the same are a mistake."""
        raise NotImplementedError


def missing(reason: Mapping[str, Any]) -> str:
    """What keeps a lock shut: runs, each with why."""
    return listed([why if run is None else f"{run} ({why})" for run, why in reason["missing"]])
