"""Words for why runs are in no group, or their group goes on without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_calib_provider.domain.listing import listed
from airflow_calib_provider.domain.quantities import format_time


def _edited(params: Mapping[str, Any]) -> str:
    """That the categories are other ones by now than those that have decided."""
    if not params.get("edited_at"):
        return ""
    commit = f", in {params['commit'][:12]}" if params.get("commit") else ""
    return f", as they were then; they were edited since ({format_time(params['edited_at'])}{commit})"


TEXTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "where_false": lambda p: f"not selected: `{p['where']}` is false",
    "in_no_category": lambda p: f"not selected: in none of the categories {', '.join(p['categories'])}{_edited(p)}",
    "before_since": lambda p: f"not selected: before runs.since ({p['since']})",
    "before_first_seen": lambda p: (
        f"not selected: it ended before the workflow was first seen ({format_time(p['first_seen'])}); "
        "set runs.since to take it"
    ),
    "not_in_campaign": lambda p: "not selected: not one of the campaign's runs",
    "condition_error": lambda p: f"refused: {p['message']}",
    "field_missing": lambda p: f"refused: the run has no {p['field']}, which {p['needed_by']} needs",
    "not_listed": lambda p: "refused: its source lists it no more, and it was never completed",
    "incomplete_too_long": lambda p: f"refused: still not completed {p['after']} after its start",
    "failed_run": lambda p: (
        f"left out: {p['failed']} failed for it at {format_time(p['at'])}{': ' + p['said'] if p.get('said') else ''}"
    ),
    "all_left_out": lambda p: (
        f"nothing is left to process: it went on without {listed(p['runs'])} before, and the group has no other run "
        "that is not skipped"
    ),
}

RELEASES: dict[str, str] = {
    "where_false": "nothing in this campaign: the outcome was stored at injection",
    "in_no_category": "nothing in this campaign: the outcome was stored at injection; `calib runs categories` says why",
    "before_since": "nothing in this campaign; a campaign of its own takes it",
    "before_first_seen": "a campaign of its own (`calib campaign create`)",
    "not_in_campaign": "nothing: a finite campaign's runs are fixed",
    "condition_error": "a campaign of its own, after the condition or the run's metadata was corrected",
    "field_missing": "a campaign of its own, after the run's metadata was corrected",
    "not_listed": "a campaign of its own, if its source lists it again and it is completed",
    "incomplete_too_long": "a campaign of its own, after the run was completed",
    "failed_run": "an amendment, when it is done there: `calib group amend`",
    "all_left_out": "an amendment that takes them in: `calib group amend`",
}
