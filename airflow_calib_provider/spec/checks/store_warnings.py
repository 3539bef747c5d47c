"""What outside stores will refuse of a publication, for ever or as things are now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from airflow_calib_provider.errors import CalibError, KindError
from airflow_calib_provider.kinds import CONDITIONS_STORES
from airflow_calib_provider.outside.writing import WritableStore
from airflow_calib_provider.spec.checks.known_text import known_text
from airflow_calib_provider.spec.models import Publish, Task, Workflow
from airflow_calib_provider.spec.policy_data import as_read

Found = tuple[tuple[str | int, ...], str, str]
"""The keys that lead to it, what is wrong with it, and what to do."""


def of_stores(task: Task, workflow: Workflow) -> Iterator[Found]:
    """What a task publishes to outside stores, and they will not take."""
    if task.publish is None or not task.publish.stores:
        return
    folder = Path(workflow.file).resolve().parent
    yield from _of_default(task.publish, folder)
    yield from _of_gaps(task, task.publish, workflow)
    yield from _of_runs(task, task.publish, workflow, folder)


def _of_default(publish: Publish, folder: Path) -> Iterator[Found]:
    """The file that holds behind a group, where it is the same for all of them."""
    text = known_text(publish.default_file, folder) if publish.after == "default" else None
    if text is None:
        return
    if not Path(text).is_absolute():
        said = f"the default {text} is not looked for beside this file, but where a worker of Airflow runs"
        yield ("publish", "default"), said, f'write "{{{{ spec.folder }}}}/{text}"'
    elif not Path(text).is_file():
        said = f"the default {os.path.normpath(text)} does not exist: without it nothing is published"
        yield ("publish", "default"), said, "put it there"


def _of_gaps(task: Task, publish: Publish, workflow: Workflow) -> Iterator[Found]:
    """Runs that no group takes are a gap for ever, behind which all that comes later is refused."""
    if not publish.refuse_gaps or publish.after != "next":
        return
    keys = ("publish", "gaps")
    hint = "after: hold lets the payload before go on there; or no gaps: refuse"
    behind = "in stores whose intervals have ends all that comes later is refused"
    if workflow.runs.where or workflow.runs.categories:
        which = "runs.where" if workflow.runs.where else "runs.categories"
        yield keys, f"runs between two groups that {which} does not select are a gap: {behind}", hint
    elif task.policy.minimum and task.policy.short == "drop":
        yield keys, f"a group that is dropped (short: drop) leaves a gap: {behind}", hint


def _of_runs(task: Task, publish: Publish, workflow: Workflow, folder: Path) -> Iterator[Found]:
    """Runs that are larger than a store can hold."""
    first = workflow.runs.since if isinstance(workflow.runs.since, int) else 0
    try:
        given = as_read(task.policy, folder).options.get("first_runs")
    except CalibError:
        given = None  # told with that file
    runs = [one for one in given if isinstance(one, int)] if isinstance(given, list | tuple) else []
    for number, target in enumerate(publish.stores):
        last = _last_run(target.kind)
        if last is None:
            continue
        hint = f"publish to another store: {target.kind} holds runs up to {last:,}"
        if first > last:
            said = f"all runs from runs.since on, {first:,}, are beyond what {target.kind} can hold"
            yield ("publish", "stores", number), said, hint
        elif (beyond := next((run for run in runs if run > last), None)) is not None:
            said = f"a group from run {beyond:,} on is beyond what {target.kind} can hold: it is never published"
            yield ("publish", "stores", number), said, hint


def _last_run(kind: str) -> int | None:
    try:
        found = CONDITIONS_STORES.member(kind)
    except KindError:
        return None
    return found.last_run if isinstance(found, type) and issubclass(found, WritableStore) else None
