"""Carrying out what was asked for from chat (rule 68)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_calib_provider.api.campaigning import pause_campaign, resume_campaign
from airflow_calib_provider.api.deciding import skip_runs
from airflow_calib_provider.api.retrying import retry_group
from airflow_calib_provider.domain.chat_actions import WantedAction
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.ledger import chat_actions
from airflow_calib_provider.ledger.engine import Ledger

if TYPE_CHECKING:
    from sqlalchemy import Row

log = logging.getLogger(__name__)

Carry = Callable[[Ledger, WantedAction, str], str]
"""Does what is wanted for a person, and says what has come of it; doing it again changes nothing."""


def _retry(ledger: Ledger, wanted: WantedAction, person: str) -> str:
    made = retry_group(ledger, wanted.group, tasks=[wanted.task], campaign=wanted.campaign, workflow=wanted.workflow)
    return f"cleared {', '.join(made.cleared)}"


def _skip(ledger: Ledger, wanted: WantedAction, person: str) -> str:
    where = {"campaign": wanted.campaign, "workflow": wanted.workflow, "task": wanted.task}
    made = skip_runs(ledger, wanted.group, reason="skipped from chat after it had failed", person=person, **where)
    return f"skipped {sum(len(one.runs) for one in made)} runs"


def _pause(ledger: Ledger, wanted: WantedAction, person: str) -> str:
    return pause_campaign(ledger, wanted.campaign, person=person).state


def _resume(ledger: Ledger, wanted: WantedAction, person: str) -> str:
    return resume_campaign(ledger, wanted.campaign, person=person).state


CARRIES: Mapping[str, Carry] = MappingProxyType({"retry": _retry, "skip": _skip, "pause": _pause, "resume": _resume})


def carry_out(ledger: Ledger, now: datetime | None = None, carries: Mapping[str, Carry] = CARRIES) -> int:
    """Do what was asked for from chat. What a process that died has begun is done once more.

    :returns: how many actions were begun.
    :raises LedgerError: the ledger cannot be used.
    """
    begun = 0
    for row in chat_actions.due(ledger, now or datetime.now(UTC)):
        if chat_actions.take(ledger, row, now or datetime.now(UTC)):
            begun += 1
            state, outcome = _carried(ledger, row, carries)
            chat_actions.finish(ledger, row, state, outcome, now or datetime.now(UTC))
            log.info("chat: %s by %s: %s, %s", row.action, row.person, state, outcome)
    return begun


def _carried(ledger: Ledger, row: Row[Any], carries: Mapping[str, Carry]) -> tuple[str, str]:
    try:
        return "done", carries[row.action](ledger, WantedAction(**row.wanted), row.person)
    except CalibError as error:
        return "failed", str(error)
    except Exception as error:  # noqa: BLE001 - else it would be begun again for ever, and keep others back
        return "failed", type(error).__name__
