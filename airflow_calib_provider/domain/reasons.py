"""Why something waits or has failed: structured, stored as JSON, rendered to text in one place (rule 23)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_calib_provider.domain import airflow_words, group_words, late_words, lock_words, payload_words, run_words
from airflow_calib_provider.domain.advice import PROMPT, About, completed, missing_runs
from airflow_calib_provider.domain.iteration import words as iteration_words
from airflow_calib_provider.domain.listing import SHOWN, counted
from airflow_calib_provider.domain.listing import listed as listed
from airflow_calib_provider.domain.quantities import format_number, format_time
from airflow_calib_provider.domain.source_changes import told
from airflow_calib_provider.errors import KindError
from airflow_calib_provider.kinds import GROUPINGS, LOCKS

if TYPE_CHECKING:
    from airflow_calib_provider.domain.locks.base import LockKind

Reason = Mapping[str, object]
"""``{"code": ..., parameters...}``; the codes are the keys of :data:`TEXTS`, and those of the kinds of locks."""


def _forming(params: Mapping[str, Any]) -> str:
    amounts = ", ".join(
        f"{format_number(params['amounts'].get(name, 0))} of {format_number(minimum)} {name}"
        for name, minimum in params.get("minimum", {}).items()
    )
    try:
        until = GROUPINGS.member(params.get("kind", "")).ends(params.get("options", {}))
    except KindError:
        until = "closes when it is complete"
    runs = counted(params["n_runs"], "run")
    endless = "; none of its runs has an end, so that max_wait never closes it" if params.get("endless") else ""
    return f"the group is forming: {runs}{', ' + amounts if amounts else ''}; {until}{endless}"


def _jobs_failed(params: Mapping[str, Any]) -> str:
    jobs = listed([f"job {index}: {why}" for index, why in params["failed"]], 3)
    if params.get("update"):
        return f"{iteration_words.place(params)}the update failed after all retries: {params['failed'][0][1]}"
    if params.get("made_by"):
        none = f"none of {params['n_jobs']} jobs could measure with what the update of step {params['made_by']} made"
        return f"{iteration_words.place(params)}{none} ({jobs})"
    many = f"{params['n_failed']} of {params['n_jobs']} jobs failed after all retries ({jobs})"
    return f"{iteration_words.place(params)}{many}"


def _several(params: Mapping[str, Any]) -> str:
    return "; ".join(render(reason) for reason in params["reasons"])


def _behind(params: Mapping[str, Any]) -> str:
    if not params["n_behind"]:
        return "no completed run is behind it"
    named = ", ".join(str(number) for number in params["behind"][:SHOWN])
    more = params["n_behind"] - len(params["behind"][:SHOWN])
    behind = f"{counted(params['n_behind'], 'completed run')} {'is' if params['n_behind'] == 1 else 'are'} behind it"
    return f"{behind}: {named}{f' and {more:,} more' if more else ''}"


def _started(params: Mapping[str, Any]) -> str:
    return f", which started at {format_time(params['started'])} and" if params.get("started") else ", which"


def _source_changed(params: Mapping[str, Any]) -> str:
    runs = params["runs"]
    if params["n_runs"] == 1:
        return f"the source changed after assignment: {told(runs[0][1])}"
    more = params["n_runs"] - len(runs)
    named = [f"run {number}: {told(changes)}" for number, changes in runs]
    named += [f"and {counted(more, 'more run')}"] if more else []
    return f"the source changed after assignment: {'; '.join(named)}"


def _redo(params: Mapping[str, Any]) -> str:
    runs = ",".join(str(number) for number, _ in params["runs"])
    more = params["n_runs"] - len(params["runs"])
    command = f"calib campaign create NAME --source {params['source']} --runs {runs}"
    others = f" (and the {more} other runs)" if more else ""
    return f"nothing in this campaign, which keeps what was; to do it anew, a campaign of its own: `{command}`{others}"


def _retry_pending(params: Mapping[str, Any]) -> str:
    jobs = listed([f"job {index}: {why}" for index, why in params["jobs"]], 3)
    at = format_time(params["until"])
    if params["n_jobs"] == 1:
        return f"1 job failed and is tried again at {at} ({jobs})"
    return f"{params['n_jobs']:,} jobs failed and are tried again, the first at {at} ({jobs})"


def _live_jobs(params: Mapping[str, Any]) -> str:
    due = f"; released or tried anew at {format_time(params['until'])}" if params.get("until") else ""
    return f"{counted(params['n_jobs'], 'job')} {params['state']}: {params['message']}{due}"


def _mistakes(params: Mapping[str, Any]) -> str:
    more = params["n"] - len(params["mistakes"])
    said = [*params["mistakes"], *([f"and {counted(more, 'more mistake')}"] if more else [])]
    return "".join(f"\n{one}" for one in said)


TEXTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    **late_words.TEXTS,
    **payload_words.TEXTS,
    **lock_words.TEXTS,
    **group_words.TEXTS,
    **run_words.TEXTS,
    **airflow_words.TEXTS,
    # waiting
    "forming": _forming,
    "several": _several,
    "queued_in_ledger": lambda p: (
        f"waits in the ledger: {p['open']} of at most {p['max_open']} DAG runs of {p['dag_id']} are open"
    ),
    "others_start": lambda p: f"{p['open']} of at most {p['limit']} DAG runs of {p['dag_id']} start beside prompt's",
    "dag_run_wanted": lambda p: (
        f"its DAG run {p['run_id']} is about to be opened by the next calib_inject"
        + (f" (last refusal: {p['error']})" if p.get("error") else "")
    ),
    "dag_run_opened": lambda p: (
        f"its DAG run {p['run_id']} is open since {format_time(p['since'])}; Airflow has not started "
        + (listed(p["tasks"]) if p.get("tasks") else "the task")
        + " yet"
    ),
    "upstream": lambda p: f"waits for {listed(p['tasks'])} in its own DAG run",
    "not_open": lambda p: (
        f"Airflow started it although it is not open, as after a mark success there: {render(p['reason'])}"
    ),
    "upstream_not_done": lambda p: (
        "needs what is not done in its own DAG run: " + listed([f"{task} is {state}" for task, state in p["tasks"]])
    ),
    # locks
    "any_of": lambda p: "one of these is enough: " + " | ".join(map(render, p["reasons"])),
    "deadline_passed": lambda p: f"{lock_words.passed(p)}: {render(p['reason'])}",
    "needs_selected_none": lambda p: (
        f"{p['needs']}{f' of the campaign {base}' if (base := p.get('campaign')) else ''} selected none of the "
        f"{p['total']} runs, so it will never be done for them"
    ),
    "all_skipped": lambda p: f"all {p['total']} runs are skipped in {p['needs']}",
    "upstream_ended": lambda p: (
        "cannot start: " + listed([f"{task} is {state}" for task, state in p["tasks"]]) + " in its own DAG run"
    ),
    "dag_run_refused": lambda p: (
        f"Airflow refused its DAG run {p['run_id']} {counted(p['refusals'], 'time')}: {p['error']}"
        + (f"; it is asked again at {format_time(p['not_before'])}" if p.get("not_before") else "")
    ),
    "dag_run_claimed": lambda p: f"its DAG run {p['run_id']} is being opened right now",
    "claim_expired": lambda p: f"the process that was opening its DAG run {p['run_id']} died",
    "dag_run_not_asked": lambda p: f"nothing holds it; a DAG run of {p['dag_id']} was not asked for yet",
    # processing
    "jobs": lambda p: (
        iteration_words.place(p)
        + ", ".join(f"{n} {state}" for state, n in p["states"].items())
        + (f", waiting for {p['awaited']}" if p.get("awaited") else "")
        + f" (generation {p['generation']})"
    ),
    **iteration_words.TEXTS,
    "credential": lambda p: str(p["message"]),
    "backend_trouble": lambda p: f"the backend {p['backend']} is in trouble: {p['message']}",
    "live_jobs": _live_jobs,
    "more_live_jobs": lambda p: f"{counted(p['n_jobs'], 'more job')}, for {counted(p['n_reasons'], 'other reason')}",
    # ends
    "done": lambda p: (
        "all jobs succeeded" if not p.get("left_out") else f"quorum reached; left out: jobs {listed(p['left_out'])}"
    ),
    "jobs_failed": _jobs_failed,
    "killed": lambda p: f"killed by a user: Airflow's state is {p['airflow_state']}",
    "marked_success": lambda p: "marked as success by a person; all declared products exist",
    "marked_success_without_products": lambda p: (
        "marked as success in Airflow, but the ledger stays as it was: " + f"missing products {listed(p['missing'])}"
    ),
    "skipped": lambda p: f"skipped by {p['person']}: {p['reason']}",
    "error": lambda p: str(p["message"]),
    "publish_failed": lambda p: f"could not be published: {p['message']}",
    "retry_pending": _retry_pending,
    "running": lambda p: "Airflow works on it",
    # runs
    "late": lambda p: f"late: it arrived when all runs below {p['assigned_below']} were already assigned",
    "run_skipped": lambda p: f"skipped by {p['person']}: {p['reason']}",
    "source_changed": _source_changed,
    "run_unknown": lambda p: (
        f"the ledger has no run {p['run']}"
        + (f"; the highest is {p['highest']}" if p.get("highest") is not None else "; it has no runs at all")
    ),
    "source_unreadable": lambda p: f"the run source {p['source']} cannot be read: {p['said']}",
    "no_workflow": lambda p: (
        f"no workflow{' ' + p['workflow'] if p.get('workflow') else ''} of this campaign takes runs "
        + f"of the source {p['source']} yet"
    ),
    "of_base": lambda p: f"{p['workflow']}.{p['task']} is not run in this campaign, which takes it from {p['base']}",
    "not_completed": lambda p: "the source does not list it as completed",
    "holds_horizon": lambda p: (
        f"run {p['run']}{_started(p)} is not completed, holds back every run above it: {_behind(p)}"
    ),
    "held_by_run": lambda p: f"held back by run {p['run']}{_started(p)} is not completed; {_behind(p)}",
    "settle": lambda p: (
        f"run {p['run']} ended less than {p['settle']} ago (runs.settle); taken from {format_time(p['until'])} on"
    ),
    "finite_incomplete": lambda p: (
        "the finite campaign waits for all of its runs to complete; missing " + listed(p["missing"])
    ),
    "next_inject": lambda p: "nothing holds it: the next calib_inject puts it into a group",
    "campaign_grouping": lambda p: (
        f"the finite campaign {p['campaign']} is not grouped completely yet: nothing of it opens before"
    ),
    "campaign_collecting": lambda p: (
        f"the campaign {p['campaign']} is collecting its runs: it is grouped when it is started"
    ),
    "campaign_paused": lambda p: (
        f"the campaign {p['campaign']} is paused: nothing new of it is opened or submitted; what runs goes on"
    ),
    "campaign_cancelled": lambda p: (
        f"the campaign {p['campaign']} is cancelled: nothing of it is opened any more; what is published stays"
    ),
    "spec_changed": lambda p: (
        f"the campaign {p['campaign']} has its own version of {p['workflow']}, which does not fit the DAG any more: "
        + listed(p["changes"], 3)
    ),
    "groups_throttled": lambda p: (
        f"waits in the ledger: {p['open']} of at most {p['max_groups']} groups of the campaign {p['campaign']} are open"
    ),
    "jobs_throttled": lambda p: (
        f"{p['jobs']} jobs wait to be submitted: {p['submitted']} of at most {p['max_jobs']} jobs of the campaign "
        f"{p['campaign']} are submitted"
    ),
    "campaign_half_grouped": lambda p: (
        f"the finite campaign {p['campaign']} was closed before {p['workflow']} was grouped completely: "
        "the groups that it has stay, and nothing of them opens"
    ),
    "campaign_closed": lambda p: f"the campaign {p['campaign']} is closed: nothing is injected into it any more",
    # YAML files
    "spec_broken": lambda p: f"{p['file']} cannot be used as it is; what was good last goes on.{_mistakes(p)}",
    "spec_clash": lambda p: (
        f"two files have this workflow's name: nothing is decided for it; what is open goes on.{_mistakes(p)}"
    ),
    "spec_refused": lambda p: f"{p['file']} has mistakes: nothing is made of it.{_mistakes(p)}",
    "workflow_gone": lambda p: f"no YAML file has the workflow {p['workflow']} any more; it was in {p['file']}",
}


def parts_of(reason: Reason) -> list[Reason]:
    """The reasons of which one of several consists."""
    parts = reason.get("reasons")
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list | tuple) else []


def render(reason: Reason | None) -> str:
    """The text of a structured reason; an unknown code (of a later version) shows its raw content."""
    if not reason:
        return ""
    code = str(reason.get("code", ""))
    if code in TEXTS:
        return str(TEXTS[code](reason)) + lock_words.until(reason)
    lock = lock_of(reason)
    return str(lock.text(reason)) + lock_words.until(reason) if lock is not None else f"{reason}"


def lock_of(reason: Reason) -> LockKind | None:
    """The kind of lock that gave a reason, which has the words for it; ``None`` if none did, or it is not there."""
    code, name = reason.get("code"), str(reason.get("lock", ""))
    kinds: Iterable[LockKind] = map(LOCKS.member, [name] if name else LOCKS.own)
    try:
        return next((kind for kind in kinds if name or kind.code == code), None)
    except KindError:
        return None


RELEASES: dict[str, str] = {
    **late_words.RELEASES,
    **payload_words.RELEASES,
    **run_words.RELEASES,
    **lock_words.RELEASES,
    **group_words.RELEASES,
    **iteration_words.RELEASES,
    **airflow_words.RELEASES,
    "forming": "more runs, as its grouping asks for; or the end of the campaign for good (`calib campaign close`)",
    "several": "all of these",
    "queued_in_ledger": "a DAG run of this DAG that ends; or a higher CALIB_MAX_OPEN",
    "others_start": "Airflow, when it has started one of these; or a higher CALIB_STARTING",
    "dag_run_wanted": "the next calib_inject, or any task of ours that finishes",
    "dag_run_claimed": "the process that opens it, within a minute",
    "claim_expired": "the next calib_inject, or any task of ours that finishes, takes it over",
    "dag_run_refused": "what Airflow complains about; it is asked again by itself",
    "dag_run_not_asked": "the next calib_inject, or any task of ours that finishes",
    "dag_run_opened": "Airflow's scheduler; or `calib retry`, if the DAG run has ended",
    "upstream": "these tasks done",
    "not_open": "what is missing (to go on without the missing runs on purpose, `calib skip`); then `calib retry`",
    "upstream_not_done": "these tasks done",
    "upstream_ended": "`calib retry`, which runs these tasks again",
    "needs_selected_none": "nothing, unless a condition in a spec is changed; `calib skip` ends it",
    "all_skipped": "nothing: a skip cannot be taken back; `calib skip` ends it, too",
    "dropped": "nothing: the group will not be processed",
    "jobs": "the end of these jobs (`calib jobs list`)",
    "credential": "the file, renewed in its place; it is looked at again by itself",
    "backend_trouble": "a backend that answers: see it, its connection, its login; it is asked again by itself",
    "live_jobs": "what the message says (`calib jobs list` shows each job)",
    "more_live_jobs": "`calib jobs list` shows each job",
    "retry_pending": "the delay before the next attempt",
    "jobs_failed": "`calib jobs logs` shows why; then `calib retry`",
    "killed": "`calib retry`",
    "error": "a corrected spec or input; then `calib retry`",
    "publish_failed": "what mends that; then `calib retry`",
    "marked_success_without_products": "the products; or `calib retry`",
    "skipped": "nothing",
    "run_skipped": "nothing",
    "run_unknown": "the next calib_inject, once its run source lists it; or `calib runs add FILE --source NAME`",
    "source_unreadable": "a source that can be read: see it, and its block in sources.yaml; every calib_inject tries",
    "no_workflow": "a workflow with this runs.source, and the next calib_inject",
    "of_base": "nothing here: see there (`calib explain`)",
    "not_completed": "its end: the source then lists it as completed",
    "holds_horizon": "its completion; `calib skip` of it; or runs.incomplete_after in the spec",
    "held_by_run": "completion of that run; `calib skip` of it; or runs.incomplete_after in the spec",
    "settle": "time",
    "finite_incomplete": "their completion, or `calib skip` of them",
    "next_inject": "calib_inject: every five minutes (CALIB_INJECT_MINUTES), or triggered by hand",
    "late": (
        "an amendment of the closed group that is to have it; or, beside what waits here, a campaign of its own "
        "(`calib campaign create`)"
    ),
    "source_changed": "a campaign of its own",
    "campaign_grouping": "the next calib_inject, which goes on where the last one ended",
    "campaign_half_grouped": "nothing; create another campaign",
    "campaign_collecting": "`calib campaign start`",
    "campaign_paused": "`calib campaign resume`",
    "campaign_cancelled": "nothing: a cancelled campaign stays cancelled; create another",
    "spec_changed": "`calib campaign update`, by which it takes the version of now; or the file as it was",
    "groups_throttled": "groups of the campaign that end; or a higher number: `calib campaign set`",
    "jobs_throttled": "jobs of the campaign that end; or a higher number: `calib campaign set`",
    "campaign_closed": "nothing; create another campaign",
    "spec_broken": "a corrected file: `calib spec check`",
    "spec_clash": "one file for the workflow; move the other away, or give it another name",
    "spec_refused": "a corrected file: `calib spec check`",
    "workflow_gone": "the file, if it comes back; or `calib skip` of what is open",
}
"""What would release a wait, by code; codes that are no wait have none."""


@dataclass(frozen=True)
class Cause:
    """One answer to "why does it not move?".

    :ivar about: what is held: a run, a group, a task.
    :ivar state: as shown to people.
    :ivar looked_at: when Airflow's side last looked; the answer itself is of now.
    :ivar asked: what was asked elsewhere, when, and what was answered: a line for each question.
    """

    about: str
    reason: Reason
    state: str = "waiting"
    since: datetime | None = None
    looked_at: datetime | None = None
    workflow: str | None = None
    group: str | None = None
    task: str | None = None
    campaign: str = PROMPT
    asked: Sequence[str] = ()

    @property
    def code(self) -> str:
        """Which reason it is: a key of :data:`TEXTS`, or the kind of a lock."""
        return str(self.reason.get("code", ""))

    @property
    def text(self) -> str:
        """What is the matter, in words."""
        return render(self.reason)

    @property
    def release(self) -> str:
        """What ends it, or what a person can do, with whole commands; empty where there is nothing to say."""
        if self.code == "source_changed":
            return _redo(self.reason)
        words = late_words.alone(self.campaign) if self.reason.get("single") else _words(self.reason, self.state)
        about = About(self.reason, self.group, self.workflow, self.task, self.campaign)
        return completed(words, about)


def _words(reason: Mapping[str, Any], state: str) -> str:
    code = str(reason.get("code", ""))
    if code == "several":
        return "; ".join(dict.fromkeys(_words(inner, state) for inner in reason["reasons"]))
    if code == "not_open" and not missing_runs(reason):
        return "what is missing, then `calib retry`"
    if code == "upstream_ended" and all(ended == "skipped" for _, ended in reason["tasks"]):
        return "nothing: a skip cannot be taken back; `calib skip` ends this one, too"
    if code == "live_jobs" and reason.get("state") == "held" and not reason.get("until"):
        return "a person: mend what keeps them, then release them (`calib jobs list` shows each)"
    if code == "jobs_failed" and state == "processing":
        return "`calib jobs logs` shows why; when the other jobs have ended, `calib retry`"
    if code in iteration_words.TEXTS or reason.get("made_by") or reason.get("no_worker"):
        return iteration_words.to_try(reason)
    lock = None if code in TEXTS else lock_of(reason)
    return RELEASES.get(code, "") if lock is None else str(lock.release)
