"""Saying that a run has ended."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_calib_provider.rest.client import Airflow
from airflow_calib_provider.spec.language import RUNS_ASSET


@dataclass(frozen=True)
class Announcement:
    """An event of an asset of Airflow.

    :ivar asset: its address.
    :ivar event: the event's number in Airflow.
    :ivar at: when Airflow took it, as it writes times.
    """

    asset: str
    event: int | None
    at: str | None


def announce_runs(*, person: str) -> Announcement:
    """Let ``calib_inject`` run at once, through Airflow's REST API (``CALIB_AIRFLOW_URL``).

    What is announced while it runs is one run more, right after it. To announce twice, or for nothing, changes nothing.

    :param person: who says so, for the record.
    :raises AirflowUnreachable: Airflow does not answer, or refuses the token.
    :raises NotFound: it has no DAG that waits for runs.
    :raises CalibError: all of them are paused.
    """
    with Airflow() as airflow:
        event = airflow.announce({"by": person})
    return Announcement(RUNS_ASSET, event.get("id"), event.get("timestamp"))
