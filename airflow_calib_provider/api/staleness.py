"""Payloads that are stale, and running again what mends them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_calib_provider.api.reading import PROMPT, check_names
from airflow_calib_provider.api.retrying import Retried, retry_group
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.ledger import names
from airflow_calib_provider.ledger.engine import Ledger

if TYPE_CHECKING:
    from airflow_calib_provider.payloads.staleness import Rerun, StalePayload


@dataclass(frozen=True)
class RerunOutcome:
    """What became of a rerun.

    :ivar cleared: ``None``: Airflow was not asked, or refused it, as ``error`` says.
    """

    rerun: Rerun
    cleared: Retried | None = None
    error: str = ""


def stale_payloads(ledger: Ledger, tag: str | None = None, *, campaign: str = PROMPT) -> list[StalePayload]:
    """The payloads that were made from what is not any more what it was, those that others have read first.

    :param tag: only those of this tag, and the stale ones that these have read.
    :raises NotFound: there is no such campaign or tag.
    """
    from airflow_calib_provider.payloads.staleness import stale

    with ledger.read() as connection:
        check_names(connection, campaign)
        names.check_tag(connection, tag)
        return stale(connection, campaign, tag)


def smallest_rerun(found: Iterable[StalePayload]) -> list[Rerun]:
    """What is to run again, each once, in this order."""
    tasks: dict[tuple[str, str, str], dict[str, None]] = {}
    for one in found:
        for rerun in one.reruns:
            tasks.setdefault((rerun.campaign, rerun.workflow, rerun.group), {}).update(dict.fromkeys(rerun.tasks))
    from airflow_calib_provider.payloads.staleness import Rerun

    return [Rerun(*key, tuple(listed)) for key, listed in tasks.items()]


def rerun_stale(
    ledger: Ledger, tag: str | None = None, *, campaign: str = PROMPT, dry_run: bool = False
) -> Sequence[RerunOutcome]:
    """Let Airflow (``CALIB_AIRFLOW_URL``) run again what mends stale payloads, as :func:`retry_group` does.

    One that cannot be run again keeps no other back. What has read a stale payload is stale until it has run, too: call
    this again when these are done.

    :param dry_run: say what would be run, and ask nobody.
    :raises NotFound: there is no such campaign or tag.
    """
    outcomes = []
    for rerun in smallest_rerun(stale_payloads(ledger, tag, campaign=campaign)):
        if dry_run:
            outcomes.append(RerunOutcome(rerun))
            continue
        try:
            cleared = retry_group(
                ledger, rerun.group, tasks=rerun.tasks, campaign=rerun.campaign, workflow=rerun.workflow
            )
            outcomes.append(RerunOutcome(rerun, cleared))
        except CalibError as error:
            outcomes.append(RerunOutcome(rerun, error=str(error)))
    return outcomes
