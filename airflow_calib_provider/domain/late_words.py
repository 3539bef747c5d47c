"""What is said of late runs, and of groups that were amended (rules 50, 51)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_calib_provider.domain.advice import PROMPT
from airflow_calib_provider.domain.listing import counted, listed, of_runs


def _amended(params: Mapping[str, Any]) -> str:
    runs = [f"{what} {listed(params[what])}" for what in ("added", "removed") if params[what]]
    return f"edition {params['edition']}, by {params['person']}: {'; '.join(runs)} ({params['said']})"


def _stale(params: Mapping[str, Any]) -> str:
    return f"what it made is of an earlier edition of its group: edition {params['edition']} is to be processed"


def alone(campaign: str) -> str:
    """What releases what waits for a run that is late in a grouping of single runs, which nobody can amend."""
    without = "to go on without it, `calib skip`"
    if campaign != PROMPT:
        return without
    return (
        f"late_runs: new_group for this grouping in the file, then a backfill of its day into {PROMPT}; or, {without}"
    )


TEXTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "late_group": lambda p: (
        "its runs arrived when higher ones were already assigned: what it publishes stays a candidate"
    ),
    "stale": _stale,
    "stale_cleared": _stale,
    "stale_gone": lambda p: f"{_stale(p)}, and the spec has no such task any more",
    "stale_refused": lambda p: f"{_stale(p)}, and Airflow, asked {counted(p['asked'], 'time')}, refuses: {p['error']}",
    "stale_stuck": lambda p: (
        f"{_stale(p)}; Airflow was asked {counted(p['asked'], 'time')}, and it has not begun"
        + (f" (it refuses: {p['error']})" if p.get("error") else "")
    ),
    "amended": _amended,
    "added": lambda p: f"added to {p['group']} by {p['person']} (edition {p['edition']}): {p['said']}",
    "removed": lambda p: f"removed from {p['group']} by {p['person']} (edition {p['edition']}): {p['said']}",
    "absorbed": lambda p: f"its runs are in {p['into']} since edition {p['edition']} of that group",
    "candidate": lambda p: (
        f"made {p['tag']} revision {p['revision']} for {of_runs(p['first_run'], p['last_run'])}, which stays a "
        "candidate, as its runs arrived late"
    ),
}

RELEASES: dict[str, str] = {
    "late_group": "nothing: it is processed as any other; an amendment of another group takes its runs",
    "stale": "Airflow, which is asked to run it again by calib_inject",
    "stale_cleared": "its DAG run, which was cleared; or `calib retry`, if that has ended",
    "stale_gone": "nothing; or the spec, with this task again",
    "stale_refused": "what Airflow complains about; it is asked again by itself",
    "stale_stuck": "`calib retry`, when what keeps it from beginning is mended: Airflow is asked no more",
    "amended": "nothing: it is as a person wants it",
    "added": "nothing: it is as a person wants it",
    "removed": "an amendment of the group that is to have it",
    "absorbed": "nothing: it is processed there",
    "candidate": "`calib payload publish`, where no other payload holds for these runs",
}
