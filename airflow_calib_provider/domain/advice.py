"""Commands in the words for what releases a wait, completed so that a person can give them as they stand (rule 23).

The words name a command in short, as in "`calib retry`". What it is about is in the cause: run, group, workflow, task,
campaign. What only the person knows stays to be filled in: ``NAME``, ``FILE``, ``"..."``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

SHOWN = 3
"""So many runs get a command each before "and N more"."""

PROMPT = "prompt"

_WITHOUT_TASK = frozenset({"dag_run_opened", "dag_run_failed", "airflow_upstream_failed"})
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


def completed(text: str, about: About) -> str:
    """Words in which each command that the cause can complete is complete."""
    return re.sub("`([^`]+)`", lambda found: _commands(found[1], about), text)


def missing_runs(reason: Mapping[str, Any]) -> list[tuple[int, str | None]]:
    """The runs without which a task could go on, each with the ``workflow.task`` in which it is missing."""
    code = reason.get("code")
    if code == "not_open":
        return missing_runs(reason["reason"])
    if code == "several":
        return [pair for inner in reason["reasons"] for pair in missing_runs(inner)]
    if code == "needs":
        return [(run, str(reason["needs"])) for run, _ in reason["missing"] if run is not None]
    if code in ("holds_horizon", "held_by_run"):
        return [(int(reason["run"]), None)]
    return [(run, None) for run in reason["missing"]] if code == "finite_incomplete" else []


def _commands(short: str, about: About) -> str:
    build = _BUILD.get(short)
    found = list(build(about)) if build is not None else []
    if not found:
        return f"`{short}`"
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(f"`{command}`" for command in found[:SHOWN]) + more


def _retry(about: About) -> Iterator[str]:
    code = str(about.reason.get("code"))
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
    for run, there in missing_runs(about.reason):
        yield f"{_line('calib skip', str(run), *_there(about, there))} {why}"


def _explain(about: About) -> Iterator[str]:
    for run, there in missing_runs(about.reason):
        yield _line("calib explain", str(run), *_there(about, there))


def _there(about: About, needed: str | None) -> Sequence[str]:
    """Where a run is missing: in the task that is needed, else in the workflow that waits."""
    if needed is None:
        return about.where(task=False)
    workflow, _, task = needed.partition(".")
    return _options(workflow, task or None, about.campaign)


def _jobs_list(about: About) -> Iterator[str]:
    if about.group is not None:
        yield _line("calib jobs list --group", about.group, *about.where())


def _jobs_logs(about: About) -> Iterator[str]:
    if about.group is not None and about.task is not None:
        job = [str(index) for index, _ in about.reason.get("failed", ())][:1]
        yield _line("calib jobs logs", about.group, about.task, *job, *about.where(task=False))


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


_BUILD: Mapping[str, Callable[[About], Iterator[str]]] = {
    "calib retry": _retry,
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
