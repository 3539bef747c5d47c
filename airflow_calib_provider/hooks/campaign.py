"""What the campaign of a group means for an Airflow task of it (rules 53, 55)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import Context
    from structlog.typing import FilteringBoundLogger

    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.ledger.rows import Group


def base_of(ledger: Ledger, group: Group, task: str) -> str | None:
    """The base campaign that has a task, if the group's campaign begins behind it; ``None``: it is run here."""
    from airflow_calib_provider.ledger import campaigns
    from airflow_calib_provider.ledger.campaign_view import taken_from

    with ledger.read() as connection:
        return taken_from(campaigns.get(connection, group.campaign), group.workflow, task)


def from_base(context: Context, log: FilteringBoundLogger, base: str) -> dict[str, object]:
    """End a task that is not run in its campaign: what it would make is the base campaign's."""
    text = f"not run: the campaign begins behind it, and takes what it needs from {base}"
    log.info(text)
    context["ti"].xcom_push("reason", text)
    return {"campaign": base}
