"""What every kind of lock says about itself."""

from __future__ import annotations

from typing import Any

from airflow_calib_provider.domain.keys import Keys


class LockKind:
    """Something that a task may wait for.

    :ivar name: the key of its block in an element of ``locks``.
    :ivar keys: the model of that block; ``None``: it is not written among the locks.
    :ivar loader: ``module:attribute`` of the :class:`~airflow_calib_provider.ledger.locks.base.LedgerLock`.
    :ivar example: one of it, :ivar once: and that there is one of each, for messages.
    """

    name: str
    keys: type[Keys] | None
    loader: str
    example: str = ""
    once: str = "each once"

    def on(self, keys: Any) -> str:
        """What a lock waits for, in words: two of one task on the same are a mistake."""
        raise NotImplementedError
