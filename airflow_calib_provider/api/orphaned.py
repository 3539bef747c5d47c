"""Jobs that live although nothing wants them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_calib_provider.backends import get_backend
from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.ledger.engine import Ledger

if TYPE_CHECKING:
    from airflow_calib_provider.backends.base import Backend


@dataclass(frozen=True)
class Orphan:
    """A round with living jobs.

    :ivar round: its key, in words.
    :ivar why: why nothing wants them.
    :ivar removed: whether they were removed.
    """

    backend: str
    round: str
    why: str
    removed: bool


@dataclass(frozen=True)
class BackendTrouble:
    """Why a backend could not be asked, or did not remove something.

    :ivar asked: whether it said what it has.
    """

    backend: str
    error: str
    asked: bool


@dataclass(frozen=True)
class Orphans:
    """What was found, and what could not be."""

    found: Sequence[Orphan]
    troubles: Sequence[BackendTrouble]


def orphans(
    ledger: Ledger,
    *,
    backends: Sequence[str] = (),
    remove: bool = False,
    opened: Callable[[str], Backend] = get_backend,
) -> Orphans:
    """Jobs that live although their generation has ended, or is unknown to this ledger.

    :param backends: names, as in specs; the local one and those of all generations of the last 30 days if left out.
    :param remove: remove those that this ledger knows to be over. What it does not know may be another installation's.
    :param opened: makes a backend of a name. One with a connection needs Airflow for it, hence
        ``airflow_calib_provider.hooks.backends.backend_of``.
    """
    from airflow_calib_provider.jobsets.kill import recent_backends

    found: list[Orphan] = []
    troubles: list[BackendTrouble] = []
    for name in backends or recent_backends(ledger, datetime.now(UTC)):
        try:
            mine, failed = _of_backend(ledger, name, opened(name), remove)
        except BackendError as error:
            troubles.append(BackendTrouble(name, str(error), asked=False))
            continue
        found += mine
        troubles += [BackendTrouble(name, text, asked=True) for text in failed]
    return Orphans(found, troubles)


def _of_backend(ledger: Ledger, name: str, backend: Backend, remove: bool) -> tuple[list[Orphan], list[str]]:
    from airflow_calib_provider.jobsets.kill import leftovers, remove_leftovers

    found = leftovers(ledger, backend)
    removed, failed = remove_leftovers(backend, found) if remove else ([], [])
    return [Orphan(name, str(item.key), item.why, item in removed) for item in found], failed
