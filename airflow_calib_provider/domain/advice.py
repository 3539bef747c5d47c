"""Commands in the words for what releases a wait, completed so that a person can give them as they stand (rule 23).

The words name a command in short, as in "`calib retry`". What it is about is in the cause: run, group, workflow, task,
campaign. What only the person knows stays to be filled in: ``NAME``, ``FILE``, ``"..."``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any, NamedTuple

SHOWN = 3
"""So many runs get a command each before "and N more"."""

PROMPT = "prompt"

_WITHOUT_TASK = frozenset(
    {"dag_run_opened", "dag_run_failed", "airflow_upstream_failed", "stale_cleared", "stale_stuck"}
)
"""Reasons for which more than the task that waits is to be cleared: ``calib retry`` finds out what."""

_OF_THE_GROUP = frozenset({"needs_selected_none", "all_skipped", "upstream_ended"})
"""Reasons that end only with the task: no run in particular is missing."""


@dataclass(frozen=True)
class About:
    """What a cause is about, as far as it is known."""

    reason: Mapping[str, Any]
    group: str | None = None
    workflow: str | None = None
    task: str | None = None
    campaign: str = PROMPT

    def where(self, *, task: bool = True) -> list[str]:
        """The options that say where."""
        return _options(self.workflow, self.task if task else None, self.campaign)


OF_VALUES = frozenset({"value_awaited", "value_failed", "value_not_reported"})
"""Reasons for which a run holds a grouping that waits for its values."""


def completed(text: str, about: About) -> str:
    """Words in which each command that the cause can complete is complete."""
    return re.sub("`([^`]+)`", lambda found: _commands(found[1], about), text)


class Missing(NamedTuple):
    """A run without which a task could go on.

    :ivar there: the ``workflow.task`` in which it is missing.
    :ivar base: the campaign in which that is, if it is not the one that waits (rule 55).
    """

    run: int
    there: str | None = None
    base: str | None = None


def missing_runs(reason: Mapping[str, Any]) -> list[Missing]:
    """The runs without which a task could go on."""
    code = reason.get("code")
    if code == "not_open":
        return missing_runs(reason["reason"])
    if code == "several":
        return [one for inner in reason["reasons"] for one in missing_runs(inner)]
    if code == "needs":
        there, base = str(reason["needs"]), reason.get("campaign")
        return [Missing(run, there, base) for run, _ in reason["missing"] if run is not None]
    if str(code) in OF_VALUES:
        return [Missing(int(reason["run"]), f"{reason['workflow']}.{reason['task']}", reason.get("base"))]
    if code in ("holds_horizon", "held_by_run") or (code == "late" and reason.get("single")):
        return [Missing(int(reason["run"]))]
    return [Missing(run) for run in reason["missing"]] if code == "finite_incomplete" else []


def _commands(short: str, about: About) -> str:
    command, *options = short.split(" --")
    build = _BUILD.get(command)
    found = [" --".join([line, *options]) for line in build(about)] if build is not None else []
    if not found:
        return f"`{short}`"
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(f"`{command}`" for command in found[:SHOWN]) + more


def _retry(about: About) -> Iterator[str]:
    code = str(about.reason.get("code"))
    if code in OF_VALUES and about.reason.get("group"):
        campaign = str(about.reason.get("base") or about.campaign)
        yield _line("calib retry", about.reason["group"], *_options(about.workflow, None, campaign))
        return
    if about.group is None:
        return
    tasks = [about.task] if about.task is not None and code not in _WITHOUT_TASK else []
    if code == "upstream_ended":
        tasks = [name for name, state in about.reason["tasks"] if state == "failed"]
    named = [part for name in tasks for part in ("--task", name)]
    yield _line("calib retry", about.group, *named, *about.where(task=False))


def _skip(about: About) -> Iterator[str]:
    code = about.reason.get("code")
    why = '--reason "..."'
    if code == "workflow_gone":
        yield f"{_line('calib skip GROUP', *about.where())} {why}"
    elif code in _OF_THE_GROUP and about.group is not None:
        yield f"{_line('calib skip', about.group, *about.where())} {why}"
    for one in missing_runs(about.reason):
        # What a base campaign has, others take from it, too: there nothing is skipped for this one alone.
        where = _there(about, one) if one.base is None else about.where()
        yield f"{_line('calib skip', str(one.run), *where)} {why}"


def _explain(about: About) -> Iterator[str]:
    if about.reason.get("code") == "of_base":
        given = (about.reason["workflow"], about.reason["task"], str(about.reason["base"]))
        yield _line("calib explain", str(about.reason["run"]), *_options(*given))
    for one in missing_runs(about.reason):
        yield _line("calib explain", str(one.run), *_there(about, one))


def _there(about: About, missing: Missing) -> Sequence[str]:
    """Where a run is missing: in the task that is needed, else in the workflow that waits."""
    if missing.there is None:
        return about.where(task=False)
    workflow, _, task = missing.there.partition(".")
    return _options(workflow, task or None, missing.base or about.campaign)


def _jobs_list(about: About) -> Iterator[str]:
    if about.group is not None:
        yield _line("calib jobs list --group", about.group, *about.where())


def _jobs_logs(about: About) -> Iterator[str]:
    if about.group is not None and about.task is not None:
        job = [str(index) for index, _ in about.reason.get("failed", ())][:1]
        yield _line("calib jobs logs", about.group, about.task, *job, *about.where(task=False))


def _publish(about: About) -> Iterator[str]:
    if about.group is not None:
        yield _line("calib payload publish", about.group, *about.where(task=False))


def _approve(about: About) -> Iterator[str]:
    if about.group is not None and "tag" in about.reason:
        options = (str(about.reason["tag"]), "--group", about.group, *about.where(task=False))
        yield _line("calib payload approve", *options)


def _close(about: About) -> Iterator[str]:
    yield _line("calib campaign close", about.campaign, *(["--yes"] if about.campaign == PROMPT else []))


def _start(about: About) -> Iterator[str]:
    yield _line("calib campaign start", about.campaign)


def _resume(about: About) -> Iterator[str]:
    yield _line("calib campaign resume", about.campaign)


def _update(about: About) -> Iterator[str]:
    yield _line("calib campaign update", about.campaign)


def _set(about: About) -> Iterator[str]:
    if "max_groups" in about.reason:
        yield f"{_line('calib campaign set', about.campaign)} --max-groups {2 * int(about.reason['max_groups'])}"
    elif "max_jobs" in about.reason:
        yield f"{_line('calib campaign set', about.campaign)} --max-jobs {2 * int(about.reason['max_jobs'])}"


def _create(about: About) -> Iterator[str]:
    if {"run", "source"} <= about.reason.keys():
        named = ("--source", about.reason["source"], "--runs", str(about.reason["run"]))
        yield _line("calib campaign create NAME", *named, *_options(about.workflow, None, PROMPT))


def _unpause(about: About) -> Iterator[str]:
    yield _line("airflow dags unpause", str(about.reason["dag_id"]))


def _amend(about: About) -> Iterator[str]:
    reason = about.reason
    runs = reason["runs"] if reason.get("code") == "all_left_out" else [reason["run"]] if "run" in reason else []
    if about.group is not None and runs:
        options = (about.group, "--add", ",".join(map(str, runs)), *about.where(task=False))
        yield f'{_line("calib group amend", *options)} --reason "..."'


def _categories(about: About) -> Iterator[str]:
    if "run" in about.reason:
        source = str(about.reason.get("source", ""))
        yield _line("calib runs categories", str(about.reason["run"]), *(["--source", source] if source else []))


_BUILD: Mapping[str, Callable[[About], Iterator[str]]] = {
    "calib group amend": _amend,
    "calib payload approve": _approve,
    "calib payload publish": _publish,
    "calib retry": _retry,
    "calib runs categories": _categories,
    "calib skip": _skip,
    "calib explain": _explain,
    "calib jobs list": _jobs_list,
    "calib jobs logs": _jobs_logs,
    "calib campaign close": _close,
    "calib campaign create": _create,
    "calib campaign resume": _resume,
    "calib campaign set": _set,
    "calib campaign start": _start,
    "calib campaign update": _update,
    "airflow dags unpause": _unpause,
}


def _options(workflow: str | None, task: str | None, campaign: str) -> list[str]:
    given = (("--workflow", workflow), ("--task", task), ("--campaign", None if campaign == PROMPT else campaign))
    return [part for option, value in given if value is not None for part in (option, value)]


def _line(command: str, *arguments: str) -> str:
    return " ".join([command, *map(quote, arguments)])
