"""What every kind of lock says about itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import JsonValue

from airflow_calib_provider.domain.keys import Keys
from airflow_calib_provider.domain.reasons import listed

ASKED = "asked outside when the group is closed, and no group of these runs has waited for it"
BESIDE = dict.fromkeys(
    ("at_most", "from", "then"), "a deadline stands beside the kind: {payload: {tag: …}, at_most: 36h}"
)
"""Keys of a lock that are no keys of its kind, each with where it stands."""

UNFORESEEN = "of a kind that a plan knows nothing about"


class Foreseen(NamedTuple):
    """What a plan can know of a lock.

    :ivar state: ``opens``, ``never``, or ``unknown``. :ivar why: where it does not open.
    """

    state: str
    opens_at: datetime | None
    why: str = ""


class LockKind:
    """Something that a task may wait for.

    :ivar name: the key of its block in an element of ``locks``.
    :ivar keys: the model of that block; ``None``: it is not written among the locks.
    :ivar loader: ``module:attribute`` of the :class:`~airflow_calib_provider.ledger.locks.base.LedgerLock`.
    :ivar code: of its reasons, :ivar release: and what would open it, in words.
    :ivar of_runs: whether it is about each run of a group.
    :ivar may_shut: whether one that was open may be shut again, as the night begins again.
    :ivar has_last_good: whether something older may be taken when its deadline has passed.
    :ivar example: one of it, :ivar once: and that there is one of each, for messages.
    """

    name: str
    keys: type[Keys] | None
    loader: str
    example: str = ""
    once: str = "each once"
    code: str = "lock"
    release: str = "what it waits for"
    of_runs: bool = True
    may_shut: bool = False
    has_last_good: bool = False

    def what(self, reason: Mapping[str, Any]) -> str:
        """What a reason waits for: with the kind's name it names the lock in the mirror."""
        return str(reason["what"])

    def text(self, reason: Mapping[str, Any]) -> str:
        """The words of a reason for which a lock is shut, which ``calib explain`` shows.

        :param reason: as :meth:`~airflow_calib_provider.ledger.locks.base.LedgerLock.reason` gave it.
        """
        if not self.of_runs:
            return f"{self.name} {self.what(reason)}: {missing(reason)}"
        return f"{self.name} {self.what(reason)}: {reason['done']} of {reason['total']}; missing {missing(reason)}"

    def words(self, parameters: Mapping[str, Any]) -> str:
        """What a lock of a spec waits for, for people."""
        return str(parameters.get("what") or parameters.get("tag") or self.name)

    def foreseen(self, parameters: Mapping[str, Any], closed_at: datetime, end: datetime | None) -> Foreseen:
        """When a lock opens of which only the clock decides.

        :param closed_at: when the group is closed, :param end: and when its last run has ended.
        """
        return Foreseen("unknown", None, ASKED if "every" in parameters else UNFORESEEN)

    def on(self, keys: Any) -> str:
        """What a lock waits for, in words: two of one task on the same are a mistake."""
        raise NotImplementedError

    def row(self, keys: Any) -> tuple[str, dict[str, JsonValue]]:
        """The kind and the parameters of its rows in the ledger.

        :param keys: the block.
        """
        return self.name, keys.model_dump(mode="json")

    def texts(self, keys: Any) -> Iterator[tuple[str, str]]:
        """The templates of its block, each with its key: of what is known before a task begins."""
        yield from ()

    def condition(self, keys: Any) -> tuple[str, str, Mapping[str, str]] | None:
        """Its condition on ``answer``: the key, the text, and the types of the fields; ``None``: it has none."""
        return None


def missing(reason: Mapping[str, Any]) -> str:
    """What keeps a lock shut: runs, each with why."""
    return listed([why if run is None else f"{run} ({why})" for run, why in reason["missing"]])
