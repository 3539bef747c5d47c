"""Campaigns: created, steered, looked at. What reads YAML is imported where it is needed only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.ledger import steering
from airflow_calib_provider.ledger.campaign_progress import CampaignProgress, progress
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Campaign
from airflow_calib_provider.ledger.steering import Changes, Steered

if TYPE_CHECKING:
    from airflow_calib_provider.domain.new_campaign import NewCampaign, PreparedCampaign
    from airflow_calib_provider.injection.own_specs import Updated


def prepare_campaign(ledger: Ledger, specs: Path, wanted: NewCampaign) -> PreparedCampaign:
    """What a campaign would be. Nothing is written.

    :param specs: the folder of the YAML files.
    :raises CalibError: the one mistake, or all of them as ``Mistakes``.
    """
    from airflow_calib_provider.injection import creation

    return creation.prepare(ledger, specs, wanted)


def create_campaign(ledger: Ledger, specs: Path, wanted: NewCampaign, *, person: str | None = None) -> PreparedCampaign:
    """Create a campaign. The next ``calib_inject`` groups it.

    :raises CalibError: as :func:`prepare_campaign`; nothing was created.
    """
    from airflow_calib_provider.injection import creation

    return creation.create(ledger, specs, wanted, _now(), person=person)


def add_runs(ledger: Ledger, campaign: str, runs: Mapping[str, Iterable[int]]) -> int:
    """Add runs to a campaign that is collecting.

    :param runs: source → run numbers.
    :returns: how many it did not have.
    :raises LedgerError: its runs are fixed.
    """
    return steering.add_runs(ledger, campaign, runs, _now())


def start_campaign(ledger: Ledger, campaign: str) -> Steered:
    """A collecting campaign has all of its runs.

    :raises LedgerError: it has none, or is not one that collects.
    """
    return steering.start(ledger, campaign, _now())


def pause_campaign(ledger: Ledger, campaign: str, *, person: str = "") -> Steered:
    """Open nothing new and submit no new round.

    :raises LedgerError: it cannot be paused.
    """
    return steering.pause(ledger, campaign, _now(), person=person)


def resume_campaign(ledger: Ledger, campaign: str, *, person: str = "") -> Steered:
    """Go on as before the pause.

    :raises LedgerError: it was cancelled, or was not started.
    """
    return steering.resume(ledger, campaign, _now(), person=person)


def cancel_campaign(ledger: Ledger, campaign: str, *, person: str = "", reason: str = "") -> Steered:
    """Open nothing any more, and let no job go on; what is published stays.

    :raises LedgerError: it takes all new data, or no runs at all.
    """
    return steering.cancel(ledger, campaign, _now(), person=person, reason=reason)


def alter_campaign(ledger: Ledger, campaign: str, changes: Changes, *, person: str = "") -> Campaign:
    """Change the throttle or the priority.

    :raises LedgerError: the numbers cannot be meant, or it is cancelled.
    """
    return steering.alter(ledger, campaign, changes, person=person)


def close_campaign(ledger: Ledger, specs: Path, campaign: str) -> int:
    """Take no runs any more: unfinished last groups meet their tail rule. What is in groups is still processed.

    :param specs: the folder of the YAML files; where one has mistakes, its last good text counts.
    :returns: the number of groups that were still forming.
    :raises LedgerError: it is closed already, was not started, or the workflow of a forming group is not there.
    """
    from airflow_calib_provider.injection.inject import close_campaign as close
    from airflow_calib_provider.injection.serving import serve
    from airflow_calib_provider.ledger import spec_files
    from airflow_calib_provider.spec.team import team_of

    with ledger.read() as connection:
        kept = spec_files.kept_texts(connection, team_of(specs))
    return close(ledger, serve(specs, lambda: kept).workflows, campaign, _now())


def update_campaign(ledger: Ledger, specs: Path, campaign: str, *, person: str = "") -> Updated:
    """Let a finite campaign take the versions of now of its workflows.

    :param specs: the folder of the YAML files.
    :raises CalibError: what it sets, or where it begins, does not fit them; nothing was changed.
    """
    from airflow_calib_provider.injection import own_specs

    return own_specs.update_specs(ledger, specs, campaign, _now(), person=person)


def campaign_progress(ledger: Ledger, campaign: str) -> CampaignProgress:
    """How far a campaign is.

    :raises NotFound: there is none of this name.
    """
    with ledger.read() as connection:
        return progress(connection, campaign, _now())


def _now() -> datetime:
    return datetime.now(UTC)
