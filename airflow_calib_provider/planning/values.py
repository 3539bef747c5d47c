"""Values of runs in plans, for groupings that wait for them (rule 47): what is known of them now, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.ledger import reported
from airflow_calib_provider.ledger.reported import Sought, ValueStanding
from airflow_calib_provider.planning.history import KnownRun
from airflow_calib_provider.spec.models import Workflow

Values = Mapping[int, ValueStanding]


def key_of(workflow: Workflow, policy: Grouping) -> str:
    """What a policy waits for, in a text that is the same for no other one."""
    names = ", ".join(policy.rules.values(policy))
    return f"{workflow.name} {policy.label}: {policy.awaits}: {names}: {policy.failed_runs}"


def read_values(
    connection: Connection,
    campaign: str,
    workflows: Iterable[Workflow],
    runs: Mapping[str, Sequence[KnownRun]],
    now: datetime,
    *,
    of_base: bool,
) -> dict[str, Values]:
    """How runs stand, by what a policy waits for.

    :param campaign: in which the values are; of a campaign to be its base.
    :param runs: by source.
    :param of_base: a campaign to be has what its base has: other values nobody knows.
    """
    found: dict[str, Values] = {}
    for workflow in workflows:
        numbers = [one.row.number for one in runs.get(workflow.runs.source, ())]
        for policy in workflow.groupings().values():
            sought = Sought.of("" if of_base else campaign, workflow, policy)
            if sought is not None and (sought.base is not None) == of_base:
                found[key_of(workflow, policy)] = reported.look(connection, sought, numbers, now)
    return found
