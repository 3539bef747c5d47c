"""What is done about runs that arrived late: their payloads are published, or they are taken into another group."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_calib_provider.api.reading import PROMPT, check_names
from airflow_calib_provider.ledger.groups import find_group

if TYPE_CHECKING:
    from airflow_calib_provider.injection.amending import Amended
    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.payloads.store import Published


def amend_group(
    ledger: Ledger,
    group: str,
    *,
    reason: str,
    person: str,
    add: Iterable[int] = (),
    remove: Iterable[int] = (),
    campaign: str = PROMPT,
    workflow: str | None = None,
) -> Amended:
    """Give a closed group its next edition: late runs are added to it, or runs removed from it.

    Its tasks run again as soon as Airflow has been asked to, which calib_inject does.

    :raises NotFound: there is no such campaign, group or run.
    :raises CalibError: the group cannot be amended so, or not now.
    """
    from airflow_calib_provider.injection.amending import amend
    from airflow_calib_provider.injection.amendments import Amendment

    with ledger.read() as connection:
        check_names(connection, campaign, workflow)
        found = find_group(connection, campaign, workflow, group)
    wanted = Amendment(sorted(set(add)), sorted(set(remove)), reason.strip(), person)
    return amend(ledger, found.id, wanted, datetime.now(UTC))


def publish_candidates(
    ledger: Ledger,
    group: str,
    *,
    person: str,
    campaign: str = PROMPT,
    workflow: str | None = None,
    tag: str | None = None,
) -> list[Published]:
    """Publish what a group of late runs has made, and what is a candidate so far.

    :param tag: only that of this tag.
    :raises NotFound: there is no such campaign or group, or it has no candidate.
    :raises PayloadError: a payload that is published holds for one of the runs.
    """
    from airflow_calib_provider.payloads import store

    with ledger.read() as connection:
        check_names(connection, campaign, workflow)
        found = find_group(connection, campaign, workflow, group)
    return store.publish_candidates(ledger, found.id, person=person, now=datetime.now(UTC), tag=tag)
