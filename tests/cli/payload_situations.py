"""Payloads that go no further, and what has to come of the advice."""

from __future__ import annotations

from collections.abc import Callable

from airflow_calib_provider.jobsets.begin import record_failure
from airflow_calib_provider.ledger.groups import set_task_states
from airflow_calib_provider.payloads.life import not_published
from tests.cli.situations import Place, publication_failed
from tests.cli.world import NOW


def not_published_as(code: str, **said: object) -> Callable[[Place], tuple[str, ...]]:
    """A candidate that goes no further."""

    def build(place: Place) -> tuple[str, ...]:
        ask = publication_failed(place)
        reason = {"code": code, "tag": "Scale", "revision": 1, "first_run": 2, "last_run": 3, **said}
        record_failure(place.world.ledger, place.world.group("fill-r2").id, "deliver", not_published(reason), NOW)
        return ask

    return build


def awaits_approval(place: Place) -> tuple[str, ...]:
    """Its question is one of Airflow's, which the commands that answer it are tried with elsewhere."""
    place.of_fill(2, 3)
    place.world.do("fill-r2", "scale")
    reason = {"code": "awaits_approval", "tag": "Scale", "revision": 1, "first_run": 2, "last_run": 3}
    reason |= {"hash": "0" * 64, "users": ["ada"], "until": None}
    with place.world.ledger.write() as connection:
        set_task_states(connection, place.world.group("fill-r2").id, "waiting", reason, NOW, task="deliver")
    place.fails = {"payload approve"}
    return ("fill-r2", "--workflow", "demo", "--task", "deliver", "--no-airflow")


def asked_of(place: Place) -> None:
    ((command, _),) = place.said
    assert command == "calib payload approve Scale --group fill-r2 --workflow demo"
