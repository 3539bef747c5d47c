"""Backfill over dates: each day adds its runs to a collecting campaign, and the last one starts it (rule 58).

What days have begun and are done stands in the campaign's events, each with its DAG run: a death in between leaves a
day that has begun, and whoever does it again adds nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.listing import listed
from airflow_calib_provider.errors import CalibError, LedgerError, Mistakes, NotFound
from airflow_calib_provider.injection import creation, forms
from airflow_calib_provider.injection.bringing import bring_in
from airflow_calib_provider.injection.fitting import require_taken
from airflow_calib_provider.injection.serving import serve
from airflow_calib_provider.ledger import backfill_days, campaigns, spec_files, steering, tables
from airflow_calib_provider.ledger.backfill_days import Day
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Campaign
from airflow_calib_provider.spec.language import AGAIN, BOX
from airflow_calib_provider.spec.team import team_of

Active = Callable[[str, Sequence[str] | None], int]
"""How many DAG runs of a DAG are queued or running in Airflow, of these, or of all."""


@dataclass(frozen=True)
class Collected:
    """What a day has brought.

    :ivar runs: completed runs that ended in it.
    :ivar added: those of them that are new to the campaign.
    :ivar state: of the campaign.
    :ivar unfinished: DAG runs of other days that have begun and are not done.
    :ivar left: why runs did not come in that may be missed.
    """

    campaign: str
    runs: int
    added: int
    state: str
    unfinished: Sequence[str]
    left: Sequence[str] = ()


def collect(
    ledger: Ledger,
    folder: Path,
    form: Mapping[str, object] | None,
    day: Day,
    active: Active,
    now: datetime,
    person: str | None = None,
) -> Collected:
    """Add the runs of a day to its campaign, which the first day creates, and the last one starts.

    :param form: the DAG run's own configuration, without what Airflow fills in.
    :raises CalibError: no campaign is named, or it takes no runs of this day.
    """
    name = str((form or {}).get("campaign") or "").strip()
    _check_name(name)
    if name == campaigns.PROMPT:
        return _into_prompt(ledger, folder, form or {}, day, now)
    row, source = _campaign(ledger, folder, form or {}, name, day, now, person)
    require_taken(ledger, folder, name, source)
    numbers = _runs_of(ledger, folder, source, day)
    if row.state != "collecting":
        _check_all_there(ledger, row, source, numbers)
        return Collected(name, len(numbers), 0, row.state, ())
    _note(ledger, name, day, None)
    crash_point("backfill.after_begin", name)
    added = steering.add_runs(ledger, name, {source: numbers}, now)
    crash_point("backfill.after_add", name)
    _note(ledger, name, day, added)
    crash_point("backfill.after_day", name)
    return Collected(name, len(numbers), added, *start_if_last(ledger, name, active, now))


def _into_prompt(ledger: Ledger, folder: Path, form: Mapping[str, object], day: Day, now: datetime) -> Collected:
    """Let workflows take the runs of a day that ``prompt`` lacks, as late ones; nothing has to be started after it."""
    named, source = _asked_of_prompt(ledger, form)
    with ledger.read() as connection:
        kept = spec_files.kept_texts(connection, team_of(folder))
    served = serve(folder, lambda: kept)
    if unknown := [one for one in named if one not in served.to_inject]:
        known = ", ".join(sorted(served.to_inject)) or "none"
        raise NotFound(f"there is no workflow {', '.join(unknown)}", f"there are {known}")
    flows = [flow for name, flow in sorted(served.to_inject.items()) if not named or name in named]
    if source and source not in {flow.runs.source for flow in flows}:
        of = ", ".join(sorted({flow.runs.source for flow in flows})) or "none"
        raise CalibError(f"none of these workflows takes its runs from {source}", f"they take them from {of}")
    flows = [flow for flow in flows if source in ("", flow.runs.source)]
    numbers = {name: _runs_of(ledger, folder, name, day) for name in sorted({flow.runs.source for flow in flows})}
    taken: set[tuple[str, int]] = set()
    left: list[str] = []
    for flow in flows:
        of = flow.runs.source
        brought = bring_in(ledger, campaigns.PROMPT, flow, served.sources[of], numbers[of], now)
        taken |= {(of, number) for number in brought.grouped | brought.late}
        if brought.undecided:
            left.append(_not_decided(flow.name, brought.undecided))
    return Collected(campaigns.PROMPT, sum(map(len, numbers.values())), len(taken), "open", (), left)


def _not_decided(workflow: str, numbers: Collection[int]) -> str:
    first = min(numbers)
    return (
        f"nothing is decided about run {listed(sorted(numbers))} in {workflow} yet, so it is not late: calib_inject "
        f"decides, and groups it as usual (`calib explain {first} --workflow {workflow}` says what it waits for)"
    )


def _asked_of_prompt(ledger: Ledger, form: Mapping[str, object]) -> tuple[list[str], str]:
    """The workflows and the source that are named.

    :raises CalibError: a field is wrong, or says how a campaign of its own would be.
    """
    mistakes: list[CalibError] = []
    values = forms.values_of({key: value for key, value in form.items() if key != "campaign"}, mistakes)
    usual = {"base": campaigns.PROMPT, "order": campaigns.ORDERS[0]}  # as the dialog fills them in
    for key, value in values.items():
        if value and key not in ("workflows", "source") and value != usual.get(key):
            said = f"{key} is filled in, which {campaigns.PROMPT} cannot have of a backfill"
            mistakes.append(CalibError(said, "leave it out, or name another campaign"))
    if mistakes:
        raise mistakes[0] if len(mistakes) == 1 else Mistakes("the form", mistakes)
    with ledger.read() as connection:
        row = campaigns.get(connection, campaigns.PROMPT)
    if not campaigns.takes_runs(row):
        raise LedgerError(f"the campaign {row.name} is {row.state}: it takes no runs", "name another campaign")
    workflows = values["workflows"]
    named = [str(one).strip() for one in workflows] if isinstance(workflows, list) else []
    return [one for one in named if one], str(values["source"] or "").strip()


def start_if_last(ledger: Ledger, name: str, active: Active, now: datetime) -> tuple[str, Sequence[str]]:
    """Start a collecting campaign whose days are all done, when no other day is queued or running.

    :returns: its state then, and the DAG runs of days that have begun and are not done.
    """
    with ledger.read() as connection:
        row = campaigns.get(connection, name)
        days = backfill_days.days_of(connection, name)
        empty = steering.count_runs(connection, name) == 0
    # A day that is done may be active still: its DAG run ends a little later.
    ready = row.state == "collecting" and days.done and not days.unfinished and not empty
    if not ready or active(days.dag_id, None) > active(days.dag_id, days.done):
        return row.state, days.unfinished
    return steering.start(ledger, name, now).state, ()


def start_collected(ledger: Ledger, active: Active, now: datetime) -> list[str]:
    """What housekeeping does: start what no day has started, as the last ones did not see each other's end.

    :returns: the campaigns that were started.
    """
    table = tables.campaign
    with ledger.read() as connection:
        names = connection.execute(select(table.c.name).where(table.c.state == "collecting")).scalars().all()
    return [name for name in names if start_if_last(ledger, name, active, now)[0] != "collecting"]


def _check_name(name: str) -> None:
    if not name:
        raise CalibError(
            "the backfill names no campaign",
            f"begin it anew: choose {AGAIN!r}, as this day has a DAG run now, fill in Campaign, and tick the box "
            f"{BOX!r}, without which Airflow drops what is filled in. Over REST: "
            '"reprocess_behavior": "failed", "dag_run_conf": {"campaign": "week-42"}',
        )


def _campaign(
    ledger: Ledger,
    folder: Path,
    form: Mapping[str, object],
    name: str,
    day: Day,
    now: datetime,
    person: str | None,
) -> tuple[Campaign, str]:
    """The campaign, made where it is missing, and its run source."""
    if (row := _found(ledger, name)) is None:
        values = {key: value for key, value in form.items() if key != "campaign"}
        try:
            forms.create(
                ledger,
                folder,
                {**values, "name": name, "kind": forms.COLLECTING},
                f"{day.dag_id} {day.run_id}",
                now,
                person=person,
            )
        except LedgerError:
            if _found(ledger, name) is None:
                raise  # else another day was faster
        row = _found(ledger, name)
        assert row is not None
    if row.kind != "finite":
        raise LedgerError(
            f"the campaign {name} is {row.kind}", "a backfill adds runs to a collecting one; name another"
        )
    with ledger.read() as connection:
        kept = spec_files.kept_texts(connection, team_of(folder))
    known = serve(folder, lambda: kept).workflows
    sources = sorted({known[flow].runs.source for flow in row.spec_hashes if flow in known})
    stated = str(form.get("source") or "").strip()
    if stated or len(sources) == 1:
        return row, stated or sources[0]
    said = f"the workflows of {name} take their runs from {', '.join(sources) or 'no source that is known'}"
    raise CalibError(said, "fill in source")


def _found(ledger: Ledger, name: str) -> Campaign | None:
    with ledger.read() as connection:
        try:
            return campaigns.get(connection, name)
        except NotFound:
            return None


def _runs_of(ledger: Ledger, folder: Path, source: str, day: Day) -> list[int]:
    """The completed runs that ended in the day."""
    with ledger.read() as connection:
        kept = spec_files.kept_texts(connection, team_of(folder))
    known = creation.source_of(serve(folder, lambda: kept).sources, folder, source)
    records = [record for record in creation.listed(known, folder, None) if record.completed]
    if records and all(record.end is None for record in records):
        raise CalibError(f"the source {source} does not tell when runs ended", "name runs with calib_campaign instead")
    return [record.number for record in records if record.end is not None and day.begin <= record.end < day.end]


def _check_all_there(ledger: Ledger, row: Campaign, source: str, numbers: Sequence[int]) -> None:
    """Once more a day that a started campaign has is no news."""
    listed = tables.campaign_run
    query = select(listed.c.run).where(listed.c.campaign == row.name, listed.c.source == source)
    with ledger.read() as connection:
        known = set(connection.execute(query).scalars())
    if lacking := [number for number in numbers if number not in known]:
        raise LedgerError(
            f"the campaign {row.name} is {row.state}, and lacks {len(lacking)} runs of this day, such as {lacking[0]}",
            "its runs are fixed; name another campaign",
        )


def _note(ledger: Ledger, name: str, day: Day, added: int | None) -> None:
    with ledger.write() as connection:
        backfill_days.note(connection, name, day, added)
