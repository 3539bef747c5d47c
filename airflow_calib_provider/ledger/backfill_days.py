"""Which days of a backfill have begun and are done, in the events of their collecting campaign (rule 58)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.ledger import campaigns, tables

DAY = "backfill_day"
"""In an event of a campaign: the DAG run of a day; ``added`` says how many runs, and is null when it begins."""


@dataclass(frozen=True)
class Day:
    """A DAG run of calib_backfill, or of a team's.

    :ivar begin: of its day.
    :ivar end: the first moment after it.
    """

    dag_id: str
    run_id: str
    begin: datetime
    end: datetime


@dataclass(frozen=True)
class Days:
    """DAG runs of days.

    :ivar dag_id: of their DAG; empty: there are none.
    :ivar unfinished: those that have begun, and are not done.
    """

    dag_id: str
    done: list[str]
    unfinished: list[str]


def note(connection: Connection, name: str, day: Day, added: int | None) -> None:
    """A day begins, or is done.

    :param added: how many runs it has added; ``None``: it begins.
    :raises LedgerError: the campaign collects no more.
    """
    row = campaigns.get(connection, name)
    if row.state != "collecting":
        said = f"the campaign {name} was started, or ended, while a day was collected: it is {row.state}"
        raise LedgerError(said, "its runs are fixed; name another campaign")
    data = {DAY: day.run_id, "dag": day.dag_id, "day": day.begin.isoformat(), "added": added}
    campaigns.change(connection, row, "collecting", {}, data)


def days_of(connection: Connection, name: str) -> Days:
    """The days of a campaign: what was said of each last counts."""
    event = tables.event
    here = (event.c.campaign == name, tables.CAMPAIGN_LIFE, event.c.to_state == "collecting")
    last: dict[str, bool] = {}
    dag_id = ""
    for data in connection.execute(select(event.c.data).where(*here).order_by(event.c.id)).scalars():
        if (run_id := data.get(DAY)) is not None:
            dag_id = str(data["dag"])
            last[str(run_id)] = data.get("added") is not None
    done = sorted(one for one, is_done in last.items() if is_done)
    return Days(dag_id, done, sorted(last.keys() - set(done)))
