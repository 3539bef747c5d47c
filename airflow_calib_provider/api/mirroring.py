"""The mirror of the ledger in an InfluxDB: how it stands, whether it is right, filling it anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_calib_provider.ledger.engine import Ledger

if TYPE_CHECKING:
    from airflow_calib_provider.mirror.check import CheckReport
    from airflow_calib_provider.mirror.client import InfluxClient
    from airflow_calib_provider.mirror.rebuild import RebuildProgress
    from airflow_calib_provider.mirror.status import TargetStatus
    from airflow_calib_provider.mirror.target import InfluxTarget


@dataclass(frozen=True)
class MirrorStatus:
    """How far the mirror is.

    :ivar targets: every InfluxDB to which anything was ever carried.
    :ivar series: measurement → how many series it has at most.
    """

    targets: Sequence[TargetStatus]
    series: Mapping[str, int]

    @property
    def too_many_series(self) -> bool:
        """Whether there may soon be more than an InfluxDB 1.x takes by default."""
        from airflow_calib_provider.mirror.status import MANY_SERIES

        return sum(self.series.values()) > MANY_SERIES

    @property
    def in_trouble(self) -> bool:
        """Whether a target cannot be written to."""
        return any(item.in_trouble for item in self.targets)


@dataclass(frozen=True)
class RebuiltMirror:
    """What was written once more.

    :ivar place: the InfluxDB.
    :ivar events: how many there were, and
    :ivar points: how many points were made of them.
    """

    place: str
    events: int
    points: int


def mirror_status(ledger: Ledger) -> MirrorStatus:
    """How far the mirror is, as far as the ledger knows; no InfluxDB is asked."""
    from airflow_calib_provider.mirror.status import of_targets, series

    with ledger.read() as connection:
        return MirrorStatus(of_targets(connection), series(connection))


def check_mirror(
    ledger: Ledger,
    target: InfluxTarget,
    *,
    since: datetime | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Compare an InfluxDB with the ledger, point by point. What was not carried yet is not missing.

    :param since: only events from then on.
    :param tell: called now and then with how many events were compared, and how many there are.
    :raises MirrorError: it cannot be read, or nothing was ever carried there.
    """
    from airflow_calib_provider.mirror.check import check

    with _client(target) as client:
        return check(ledger, client, _nanoseconds(since), tell=tell)


def delete_mirror(target: InfluxTarget) -> list[str]:
    """Delete the mirror's measurements in an InfluxDB, whoever filled them; :func:`rebuild_mirror` fills them anew.

    :returns: their names.
    :raises MirrorError: it refuses that.
    """
    from airflow_calib_provider.mirror.rebuild import delete_all

    with _client(target) as client:
        return delete_all(client)


def rebuild_mirror(
    ledger: Ledger,
    target: InfluxTarget,
    *,
    since: datetime | None = None,
    tell: Callable[[RebuildProgress], None] | None = None,
) -> RebuiltMirror:
    """Fill an InfluxDB anew from the ledger, while the mirror goes on. Points overwrite themselves.

    :param since: only events from then on.
    :param tell: called after each step.
    :raises MirrorError: it cannot be written, or another rebuild of it goes on.
    """
    from airflow_calib_provider.mirror.rebuild import rebuild

    with _client(target) as client:
        done = rebuild(ledger, client, _nanoseconds(since), tell=tell)
    return RebuiltMirror(target.place, done.done - done.first, done.points)


def _nanoseconds(since: datetime | None) -> int | None:
    return None if since is None else int(since.timestamp() * 1e9)


@contextmanager
def _client(target: InfluxTarget) -> Iterator[InfluxClient]:
    from airflow_calib_provider.mirror.client import InfluxClient

    client = InfluxClient(target)
    try:
        yield client
    finally:
        client.close()
