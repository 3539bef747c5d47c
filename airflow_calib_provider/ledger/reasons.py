"""Why something waits or has failed: structured, stored as JSON, rendered to text in one place (rule 23)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Reason = dict[str, Any]
"""``{"code": ..., parameters...}``; the codes are the keys of :data:`TEXTS`."""

SHOWN = 5
"""How many runs a text names before it says "and N more"."""


def listed(items: Sequence[object], shown: int = SHOWN) -> str:
    """``"1, 2, 3 and 4 more"``."""
    text = ", ".join(str(item) for item in items[:shown])
    return f"{text} and {len(items) - shown} more" if len(items) > shown else text


def _missing(params: Mapping[str, Any]) -> str:
    return listed([f"{run} ({why})" for run, why in params["missing"]])


def _task_lock(params: Mapping[str, Any]) -> str:
    return f"{params['done']} of {params['total']} runs done in {params['needs']}; missing {_missing(params)}"


def _payload_lock(params: Mapping[str, Any]) -> str:
    return f"{params['done']} of {params['total']} runs covered by payloads of {params['tag']}; missing {_missing(params)}"


def _forming(params: Mapping[str, Any]) -> str:
    amounts = ", ".join(
        f"{params['amounts'].get(name, 0):g} of {minimum:g} {name}" for name, minimum in params.get("minimum", {}).items()
    )
    until = {
        "fill": "closes when a run of a later fill completes",
        "sum": "closes when the sum is reached",
    }.get(params.get("kind", ""), "closes when it is complete")
    return f"the group is forming: {params['n_runs']} runs{', ' + amounts if amounts else ''}; {until}"


def _jobs_failed(params: Mapping[str, Any]) -> str:
    jobs = listed([f"job {index}: {why}" for index, why in params["failed"]], 3)
    return f"{params['n_failed']} of {params['n_jobs']} jobs failed after all retries ({jobs})"


def _several(params: Mapping[str, Any]) -> str:
    return "; ".join(render(reason) for reason in params["reasons"])


TEXTS: dict[str, Any] = {
    # waiting
    "forming": _forming,
    "needs": _task_lock,
    "payload": _payload_lock,
    "several": _several,
    "queued_in_ledger": lambda p: f"waits in the ledger: {p['open']} of at most {p['max_open']} DAG runs of {p['dag_id']} are open",
    "dag_run_wanted": lambda p: f"its DAG run {p['run_id']} is about to be opened by the next calib_inject"
    + (f" (last refusal: {p['error']})" if p.get("error") else ""),
    "dag_run_opened": lambda p: f"its DAG run {p['run_id']} is open since {p['since']}; Airflow has not started the task yet",
    "upstream": lambda p: f"waits for {listed(p['tasks'])} in its own DAG run",
    # locks that can never open
    "needs_selected_none": lambda p: f"{p['needs']} selected none of the {p['total']} runs, so it will never be done for them",
    "all_skipped": lambda p: f"all {p['total']} runs are skipped in {p['needs']}",
    "dropped": lambda p: "the group was dropped: it did not reach its minimum",
    # processing
    "jobs": lambda p: ", ".join(f"{n} {state}" for state, n in p["states"].items()) + f" (generation {p['generation']})",
    # ends
    "done": lambda p: "all jobs succeeded" if not p.get("left_out") else f"quorum reached; left out: jobs {listed(p['left_out'])}",
    "published": lambda p: f"published {p['tag']} revision {p['revision']} for runs {p['first_run']}–{p['last_run']}",
    "jobs_failed": _jobs_failed,
    "killed": lambda p: f"killed by a user: Airflow's state is {p['airflow_state']}",
    "marked_success": lambda p: "marked as success by a person; all declared products exist",
    "marked_success_without_products": lambda p: "marked as success in Airflow, but the ledger stays as it was: "
    + f"missing products {listed(p['missing'])}",
    "skipped": lambda p: f"skipped by {p['person']}: {p['reason']}",
    "error": lambda p: str(p["message"]),
    # runs
    "where_false": lambda p: f"not selected: `{p['where']}` is false",
    "before_since": lambda p: f"not selected: before runs.since ({p['since']})",
    "before_first_seen": lambda p: f"not selected: it ended before the workflow was first seen ({p['first_seen']}); set runs.since to take it",
    "not_in_campaign": lambda p: "not selected: not one of the campaign's runs",
    "condition_error": lambda p: f"refused: {p['message']}",
    "field_missing": lambda p: f"refused: the run has no {p['field']}, which {p['needed_by']} needs",
    "incomplete_too_long": lambda p: f"refused: still not completed {p['after']} after its start",
    "late": lambda p: f"late: it arrived when all runs below {p['assigned_below']} were already assigned",
    "run_skipped": lambda p: f"skipped by {p['person']}: {p['reason']}",
}


def render(reason: Mapping[str, Any] | None) -> str:
    """The text of a structured reason; an unknown code (of a later version) shows its raw content."""
    if not reason:
        return ""
    text = TEXTS.get(reason.get("code", ""))
    return text(reason) if text else f"{reason}"
