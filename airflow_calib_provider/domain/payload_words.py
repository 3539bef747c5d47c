"""What is said of payloads that go no further than a candidate (rules 66, 69)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_calib_provider.domain.listing import listed, of_runs
from airflow_calib_provider.domain.quantities import format_time


def _what(params: Mapping[str, Any]) -> str:
    return f"{params['tag']} revision {params['revision']} for {of_runs(params['first_run'], params['last_run'])}"


def _awaits(params: Mapping[str, Any]) -> str:
    who = params.get("listed") or " or ".join(params["users"]) or "whoever may answer in Airflow"
    until = f", until {format_time(params['until'])}" if params.get("until") else ""
    others = f", with {' and '.join(params['with'])} of its set" if params.get("with") else ""
    return f"{_what(params)}{others} (content {params['hash'][:12]}) waits for the approval of {who}{until}"


def _publishing(params: Mapping[str, Any]) -> str:
    said = f"; {params['said']}" if params.get("said") else ""
    return f"is on its way to {' and '.join(params['stores'])}{said}"


def _withdrawing(params: Mapping[str, Any]) -> str:
    said = f"; {params['said']}" if params.get("said") else ""
    return f"is being taken back from {' and '.join(params['stores'])}, as {params['person']} wants it{said}"


def _published(params: Mapping[str, Any]) -> str:
    extends = params.get("extends")
    return f"published {_what(params)}" + (f", which extends {extends}" if extends else "")


def _unchanged(params: Mapping[str, Any]) -> str:
    runs = f"for {of_runs(params['first_run'], params['last_run'])}"
    of = f"revision {params['revision']} of {params['group']}"
    return f"published nothing {runs}: the content of {listed(params['tags'])} is that of {of}"


TEXTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "published": _published,
    "unchanged": _unchanged,
    "not_validated": lambda p: f"{_what(p)} stays a candidate: {p['by']} says {listed(p['wrong'])}",
    "awaits_approval": _awaits,
    "publishing": _publishing,
    "store_refused": lambda p: f"{p['tag']} {'are' if ', ' in p['tag'] else 'is'} not published: {p['said']}",
    "not_approved": lambda p: f"{_what(p)} is not published: {p['how']}",
    "withdrawing": _withdrawing,
    "withdrawal_refused": lambda p: f"{p['tag']} was not withdrawn: {p['said']}",
}

RELEASES: dict[str, str] = {
    "not_validated": "other constants, or another limit in its verdict, and then `calib retry`",
    "publishing": "nothing: it is taken further by Airflow's retry and by housekeeping",
    "store_refused": "mend it in the store or in the spec, and then `calib retry`",
    "awaits_approval": "one of them: `calib payload approve`, or Required Actions in Airflow",
    "withdrawing": "nothing: it is taken further by housekeeping",
    "withdrawal_refused": "mend it in the store, and withdraw it again",
    "not_approved": "`calib retry`: then they are asked anew",
}
