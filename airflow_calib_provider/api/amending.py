"""What is done about runs that arrived late: their payloads are published, or they are taken into another group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_calib_provider.api.reading import PROMPT, check_names
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.ledger import editions
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

    Its tasks run again as soon as Airflow has been asked to, which :func:`clear_amended` or ``calib_inject`` does.

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


@dataclass(frozen=True)
class ClearedEdition:
    """Whether Airflow runs the tasks of an edition again.

    :ivar cleared: the DAG runs that were cleared.
    :ivar left: those for which the next ``calib_inject`` asks Airflow.
    :ivar error: why it was not asked for these now; ``None``: none is left.
    """

    cleared: Sequence[str]
    left: Sequence[str]
    error: CalibError | None


def clear_amended(ledger: Ledger, amended: Amended) -> ClearedEdition:
    """Ask Airflow (``CALIB_AIRFLOW_URL``) at once to run the tasks of an edition again.

    That it cannot be asked is no error: ``calib_inject`` sees to it that the tasks run.
    """
    from airflow_calib_provider.rest.client import Airflow

    with ledger.read() as connection:
        rows = editions.to_clear(connection, amended.group_ids)
    cleared: list[str] = []
    trouble = None
    try:
        if rows:
            with Airflow() as airflow:
                for row in rows:
                    airflow.clear_dag_run(row.dag_id, row.run_id)
                    crash_point("amend.after_clear", row.group_name)
                    cleared.append(row.run_id)
                    with ledger.write() as connection:
                        editions.note_asked(connection, row, None, datetime.now(UTC))
    except CalibError as error:
        trouble = error
    return ClearedEdition(cleared, [row.run_id for row in rows if row.run_id not in cleared], trouble)


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
    :raises OutsideError: the connection of an outside store cannot be seen from here: nothing was changed.
    :raises PayloadStoreDown: an outside store does not answer: it is on its way, and taken further by housekeeping.
    """
    from airflow_calib_provider.jobsets.publish import finish
    from airflow_calib_provider.ledger.payload_states import UNPUBLISHED
    from airflow_calib_provider.payloads import life, store
    from airflow_calib_provider.payloads.outgoing import require_connections

    with ledger.read() as connection:
        check_names(connection, campaign, workflow)
        found = find_group(connection, campaign, workflow, group)
        made_of_it = life.of_group(connection, found.id)
    require_connections(row for row in made_of_it if row.state in UNPUBLISHED and tag in (None, row.tag))
    made = store.publish_candidates(ledger, found.id, person=person, now=datetime.now(UTC), tag=tag)
    for task in dict.fromkeys(one.task for one in made if one.task):
        finish(ledger, found.id, task)
    return made
