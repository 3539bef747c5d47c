"""What people get listed: a line each, of jobs, runs and campaigns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from airflow_calib_provider.domain.reasons import Reason


class JobLine(NamedTuple):
    """What is listed of a job, with what is in the way of its job set.

    :ivar step: of what iterates; 0: the result, or a job set that does not.
    """

    workflow: str
    group_name: str
    task: str
    generation: int
    step: int
    job_index: int
    state: str
    attempt: int
    exit_code: int | None
    signal: int | None
    host: str | None
    start: datetime | None
    end: datetime | None
    reason: str | None
    retry_at: datetime | None
    failure: str | None
    hold_code: int | None
    memory: int | None
    request_memory: int | None
    releases: int
    progress: float | None
    trouble: str | None


class RunLine(NamedTuple):
    """What is listed of a run, in a workflow and grouping."""

    number: int
    source: str
    start: datetime | None
    end: datetime | None
    completed: bool
    fields: Mapping[str, object]
    files: Sequence[str]
    listed: bool | None
    record: Mapping[str, object] | None
    workflow: str | None
    grouping: str | None
    state: str
    group_name: str | None
    reason: Reason | None
    assigned_at: datetime | None


class CampaignLine(NamedTuple):
    """What is listed of a campaign."""

    name: str
    kind: str
    state: str
    base_campaign: str | None
    overrides: Mapping[str, object]
    spec_hashes: Mapping[str, str]
    created_at: datetime
    closed_at: datetime | None
    n_runs: int
    n_groups: int
    n_failed: int
