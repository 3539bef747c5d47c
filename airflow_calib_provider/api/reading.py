"""Lists: products, values, payloads, runs, groups and campaigns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.ledger import campaigns as known_campaigns
from airflow_calib_provider.ledger import names, queries, results
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.sources import check_source

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from airflow_calib_provider.ledger.lines import CampaignLine, RunLine
    from airflow_calib_provider.ledger.products import StoredProduct
    from airflow_calib_provider.ledger.results import GroupValue, Value
    from airflow_calib_provider.ledger.rows import Payload

PROMPT = "prompt"

RunRange = tuple[int, int]
"""First and last run, both included."""


def open_ledger(url: str | None = None) -> Ledger:
    """The ledger, checked; close it, or use it in a ``with`` statement.

    :param url: an SQLAlchemy URL; ``CALIB_LEDGER`` if left out.
    :raises LedgerError: it is not there, or its version does not fit.
    """
    from airflow_calib_provider.ledger import schema

    return schema.opened(url)


@dataclass(frozen=True)
class ProductRecord:
    """A file, or a folder, that an accepted attempt has left.

    :ivar first_run: of the group.
    :ivar path: where it lies; it may be gone (:func:`check_products`).
    :ivar size: in bytes when it was accepted; ``None``: not known yet.
    :ivar checksum: SHA-256 in hexadecimal; ``None``: not made yet.
    :ivar state: ``accepted``, or ``dropped``.
    :ivar drop_at: when its files may be removed; ``None``: never.
    :ivar removed_at: when the files of a dropped one were removed.
    """

    campaign: str
    workflow: str
    task: str
    group: str
    first_run: int
    generation: int
    job: int
    name: str
    path: Path
    size: int | None
    checksum: str | None
    state: str
    drop_at: datetime | None
    removed_at: datetime | None

    @classmethod
    def of(cls, row: StoredProduct) -> ProductRecord:
        """From a row of the ledger."""
        from airflow_calib_provider.jobsets.storage import path_of

        return cls(
            campaign=row.campaign,
            workflow=row.workflow,
            task=row.task,
            group=row.group,
            first_run=row.first_run,
            generation=row.generation,
            job=row.job_index,
            name=row.name,
            path=path_of(row),
            size=row.size,
            checksum=row.checksum,
            state=row.state,
            drop_at=row.drop_at,
            removed_at=row.removed_at,
        )


@dataclass(frozen=True)
class GroupRecord:
    """A group with its runs, its DAG run and the states of its tasks.

    :ivar first_run: the lowest of its runs, which it need not be named by any more when it was amended.
    :ivar late: it is of runs that arrived late.
    :ivar edition: grows when it is amended.
    :ivar stuck: Airflow was asked often to run the edition, and nothing of it has begun.
    """

    workflow: str
    grouping: str
    name: str
    first_run: int
    last_run: int
    n_runs: int
    state: str
    amounts: Mapping[str, float]
    fills: Sequence[int]
    start: datetime | None
    end: datetime | None
    opened_at: datetime
    closed_at: datetime | None
    open_reason: object
    close_reason: object
    dag_id: str | None
    run_id: str | None
    dag_run_state: str | None
    late: bool
    edition: int
    stuck: bool
    tasks: Mapping[str, str]


def products(
    ledger: Ledger,
    of: int | str | None = None,
    *,
    campaign: str = PROMPT,
    workflow: str | None = None,
    task: str | None = None,
    runs: Sequence[RunRange] = (),
    source: str | None = None,
    generation: int | None = None,
    last: int = 0,
) -> list[ProductRecord]:
    """Products of the latest done generation of each task, in run order.

    :param of: a run, which means the groups that hold it, or a group's name; all groups if left out.
    :param runs: only groups that hold a run of these ranges.
    :param source: of the run.
    :param generation: of this one instead.
    :param last: only so many, those with the newest data; 0: all.
    :raises NotFound: there is no such campaign, workflow, task, group or run.
    """
    with ledger.read() as connection:
        check_names(connection, campaign, workflow, task, source)
        rows = results.products_listed(
            connection,
            campaign,
            workflow=workflow,
            task=task,
            group_ids=_ids(connection, of, campaign, workflow, task, source),
            runs=runs,
            n=generation,
            last=last,
        )
    return [ProductRecord.of(row) for row in rows]


def values(
    ledger: Ledger,
    of: int | str | None = None,
    *,
    campaign: str = PROMPT,
    workflow: str | None = None,
    task: str | None = None,
    name: str | None = None,
    runs: Sequence[RunRange] = (),
    source: str | None = None,
    last: int = 0,
) -> list[Value]:
    """The numbers that jobs reported, one for each job of the latest done generation of each task.

    :param of: a run, which means the groups that hold it, or a group's name; all groups if left out.
    :param last: only the groups with the newest data, so many of each grouping; 0: all.
    :raises NotFound: there is no such campaign, workflow, task, group or run.
    """
    with ledger.read() as connection:
        check_names(connection, campaign, workflow, task, source)
        chosen = _ids(connection, of, campaign, workflow, task, source)
        return results.values_listed(
            connection, campaign, workflow=workflow, task=task, name=name, group_ids=chosen, runs=runs, last=last
        )


def group_values(
    ledger: Ledger,
    *,
    campaign: str = PROMPT,
    workflow: str | None = None,
    task: str | None = None,
    name: str | None = None,
    runs: Sequence[RunRange] = (),
    last: int = 0,
) -> list[GroupValue]:
    """As :func:`values`, one for each group: the mean of its jobs. These are the points of a trend.

    :raises NotFound: there is no such campaign, workflow or task.
    """
    with ledger.read() as connection:
        check_names(connection, campaign, workflow, task)
        return results.values_by_group(
            connection, campaign, workflow=workflow, task=task, name=name, runs=runs, last=last
        )


def payloads(ledger: Ledger, tag: str | None = None, *, campaign: str = PROMPT, history: bool = False) -> list[Payload]:
    """Published payloads by tag and first run.

    :param history: superseded revisions, too.
    :raises NotFound: there is no such campaign or tag.
    """
    from airflow_calib_provider.payloads import store

    with ledger.read() as connection:
        check_names(connection, campaign)
        names.check_tag(connection, tag)
        return store.listed(connection, campaign, tag, history=history)


def payload_path(payload: Payload) -> Path:
    """Where the content of a payload lies.

    :raises PayloadError: its store cannot say.
    """
    from airflow_calib_provider.payloads import store

    return store.content_path(payload)


def runs(
    ledger: Ledger,
    *,
    campaign: str = PROMPT,
    workflow: str | None = None,
    state: str | None = None,
    source: str | None = None,
    last: int = 0,
) -> list[RunLine]:
    """Runs with what each workflow and grouping of a campaign decided about them.

    :param state: ``grouped``, ``late``, ``not_selected``, ``refused``, ``dropped`` or ``unassigned``.
    :param last: only so many, the newest; 0: all.
    :raises NotFound: there is no such campaign, workflow or source.
    """
    with ledger.read() as connection:
        check_names(connection, campaign, workflow, source=source)
        return queries.runs_listed(connection, campaign, workflow=workflow, state=state, last=last, source=source)


def groups(
    ledger: Ledger, *, campaign: str = PROMPT, workflow: str | None = None, state: str | None = None, last: int = 0
) -> list[GroupRecord]:
    """Groups with their runs, their DAG run and the states of their tasks.

    :param state: the group's (``forming``, ``closed``, ``dropped``), or that of any of its tasks.
    :param last: only so many, those with the newest data; 0: all.
    :raises NotFound: there is no such campaign or workflow.
    """
    with ledger.read() as connection:
        check_names(connection, campaign, workflow)
        lines = queries.groups_listed(connection, campaign, workflow=workflow, state=state, last=last)
    wanted = [item for item in GroupRecord.__dataclass_fields__ if item not in ("tasks", "first_run")]
    return [
        GroupRecord(
            **{name: getattr(line.row, name) for name in wanted},
            first_run=line.row.first_run if line.row.lowest_run is None else line.row.lowest_run,
            tasks=line.tasks,
        )
        for line in lines
    ]


def campaigns(ledger: Ledger) -> list[CampaignLine]:
    """All campaigns, by age, with the numbers of their runs, groups and groups with a failed task."""
    with ledger.read() as connection:
        return queries.campaigns_listed(connection)


def check_names(
    connection: Connection,
    campaign: str,
    workflow: str | None = None,
    task: str | None = None,
    source: str | None = None,
) -> None:
    """Refuse names that nothing has: a list filtered by them would be empty, and read like an answer.

    :raises NotFound: there is no such campaign, workflow, task or source.
    """
    known_campaigns.get(connection, campaign)
    names.check_workflow(connection, workflow)
    check_source(connection, source)
    names.check_task(connection, workflow, task)


def _ids(
    connection: Connection,
    of: int | str | None,
    campaign: str,
    workflow: str | None,
    task: str | None,
    source: str | None,
) -> list[int]:
    """:raises NotFound: there is no such group or run."""
    if of is None:
        return []
    number = of if isinstance(of, int) else None
    return [item.id for item in results.meant(connection, campaign, workflow, str(of), number, task, source)]
