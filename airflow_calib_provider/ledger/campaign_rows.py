"""What the ledger holds of a campaign, as a record (see :mod:`.rows`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict


class FirstTasks(TypedDict):
    """Where a campaign begins in a workflow.

    :ivar before: the tasks that it does not run: its base campaign has them.
    """

    first: list[str]
    before: list[str]


@dataclass(frozen=True, slots=True)
class Campaign:
    """A named pass over runs.

    :ivar kind: ``streamed``, ``finite`` or ``dags``.
    :ivar state: ``collecting``, ``grouping``, ``open``, ``paused``, ``closed`` or ``cancelled``.
    :ivar spec_hashes: workflow → hash of the spec when it was created; empty: every workflow.
    :ivar first_tasks: workflow → the tasks with which it begins; none: with the first ones of the spec.
    :ivar overrides: workflow → place in its file → value.
    :ivar run_order: ``newest``; ``None``: ascending.
    :ivar max_groups: how many groups may be open; ``None``: any number.
    :ivar max_jobs: how many jobs may be submitted; ``None``: any number.
    :ivar since: when it came into its state; ``None``: with its creation.
    :ivar grouped_at: when a finite one was grouped completely.
    """

    name: str
    kind: str
    state: str
    base_campaign: str | None
    overrides: Mapping[str, Mapping[str, object]]
    spec_hashes: Mapping[str, str]
    created_at: datetime
    closed_at: datetime | None
    first_tasks: Mapping[str, FirstTasks]
    run_order: str | None
    priority: int
    max_groups: int | None
    max_jobs: int | None
    since: datetime | None
    grouped_at: datetime | None
    created_by: str | None
