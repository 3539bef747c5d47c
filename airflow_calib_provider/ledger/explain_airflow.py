"""Causes on Airflow's side, from what its REST API said about the DAG runs of an explanation (rule 23)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any, TypeAlias

from airflow_calib_provider.domain.reasons import Cause
from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.ledger.dag_groups import airflow_task_id
from airflow_calib_provider.ledger.explain import DagRun, Explanation
from airflow_calib_provider.spec.language import GROUP_SENSOR

_OURS = f"{SpecErrors.__module__}.{SpecErrors.__name__}: "

COMPONENTS = {
    "metadatabase": "metadatabase_down",
    "scheduler": "scheduler_down",
    "triggerer": "triggerer_down",
    "dag_processor": "dag_processor_down",
}


Answer: TypeAlias = Mapping[str, Any]
"""An object of Airflow's REST API, as it came."""


@dataclass(frozen=True)
class DagRunFacts:
    """What Airflow knows about one DAG run.

    :ivar dag: Airflow's answer about the DAG; ``None``: it has no such DAG.
    :ivar run: its answer about the DAG run; ``None``: it has no such DAG run.
    :ivar tasks: task id → its answer about the task instance.
    """

    dag: Answer | None
    run: Answer | None
    tasks: Mapping[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class AirflowFacts:
    """What Airflow said.

    :ivar unreachable: why it could not be asked; everything else is empty then.
    :ivar health: component → ``status`` and heartbeat.
    """

    unreachable: str = ""
    health: Answer = field(default_factory=dict)
    import_errors: Sequence[Answer] = ()
    pools: Mapping[str, Answer] = field(default_factory=dict)
    dag_runs: Mapping[tuple[str, str], DagRunFacts] = field(default_factory=dict)


def airflow_causes(explanation: Explanation, facts: AirflowFacts) -> list[Cause]:
    """The causes that Airflow adds; none where everything that was asked for has ended."""
    concerned = [item for item in explanation.dag_runs if item.tasks]
    if facts.unreachable:
        reason = {"code": "airflow_unreachable", "why": facts.unreachable}
        return [Cause("Airflow", reason, state="unknown")] if concerned else []
    causes = list(_components(facts)) if concerned else []
    for item in explanation.dag_runs:
        known = facts.dag_runs.get((item.dag_id, item.run_id))
        if known is not None and item.tasks:
            causes += _of_dag(item, known, facts)
            causes += _of_run(item, known, facts) if item.state == "opened" else []
    # One stub has the DAGs of all groupings of its workflow: its import error is told once.
    once = {("" if cause.code == "dag_import_error" else cause.about, cause.text): cause for cause in causes[::-1]}
    return [cause for cause in causes if any(cause is kept for kept in once.values())]


ENDED = ("dag_run_failed", "dag_run_missing", "task_not_in_dag_run", "airflow_upstream_failed", "airflow_task_ended")
"""Causes by which Airflow starts nothing more: its scheduler is not to blame then."""


def with_airflow(causes: Sequence[Cause], found: Sequence[Cause]) -> list[Cause]:
    """All causes; what the ledger alone took for Airflow's delay is left out where Airflow says better."""
    over = {cause.workflow for cause in found if cause.code in ENDED}
    return [cause for cause in causes if cause.code != "dag_run_opened" or cause.workflow not in over] + list(found)


def _components(facts: AirflowFacts) -> Iterator[Cause]:
    for name, code in COMPONENTS.items():
        here = facts.health.get(name) or {}
        # A component that never ran has no status at all; the DAG processor and the triggerer are needed all the same.
        if here.get("status") == "healthy":
            continue
        heartbeat = here.get(f"latest_{name}_heartbeat")
        yield Cause("Airflow", {"code": code, "heartbeat": heartbeat}, since=_time(heartbeat))


def _of_dag(item: DagRun, known: DagRunFacts, facts: AirflowFacts) -> Iterator[Cause]:
    about = f"DAG {item.dag_id}"
    errors = [error for error in facts.import_errors if _is_stub(error, known.dag, item.workflow)]
    for error in errors:
        said = _said(str(error.get("stack_trace") or ""))
        reason = {"code": "dag_import_error", "file": error.get("filename"), "error": said}
        yield Cause(about, reason, since=_time(error.get("timestamp")), workflow=item.workflow)
    if known.dag is None or known.dag.get("is_stale"):  # stale: no file has it any more, and nothing of it is started
        if not errors:
            reason = {"code": "dag_not_found", "dag_id": item.dag_id, "stale": known.dag is not None}
            yield Cause(about, reason, workflow=item.workflow)
    elif known.dag.get("is_paused"):
        yield Cause(about, {"code": "dag_paused", "dag_id": item.dag_id}, workflow=item.workflow)


def _said(stack_trace: str) -> str:
    """What an import error comes to: of our own all mistakes, each once; of another its last line."""
    lines = stack_trace.strip().splitlines()
    first = max((number for number, line in enumerate(lines) if line.startswith(_OURS)), default=None)
    if first is None:
        return lines[-1] if lines else "unknown"
    return "\n".join(dict.fromkeys([lines[first].removeprefix(_OURS), *lines[first + 1 :]]))


def _is_stub(error: Answer, dag: Answer | None, workflow: str) -> bool:
    file = str(error.get("filename") or "")
    if dag is not None and dag.get("relative_fileloc"):
        return file == str(dag["relative_fileloc"])
    return PurePath(file).stem == workflow


def _of_run(item: DagRun, known: DagRunFacts, facts: AirflowFacts) -> Iterator[Cause]:
    about = f"DAG run {item.run_id}"
    if known.run is None:
        if known.dag is not None:
            yield Cause(about, {"code": "dag_run_missing", "run_id": item.run_id}, "failed", workflow=item.workflow)
        return
    state = known.run.get("state")
    if state == "queued":
        since = _time(known.run.get("queued_at"))
        yield Cause(about, {"code": "dag_run_queued", "run_id": item.run_id}, since=since, workflow=item.workflow)
    if state == "failed":
        failed = sorted(name for name, task in known.tasks.items() if task.get("state") == "failed")
        reason = {"code": "dag_run_failed", "run_id": item.run_id, "tasks": failed}
        since = _time(known.run.get("end_date"))
        yield Cause(about, reason, "failed", since, workflow=item.workflow, group=item.group)
    for name, ledger_state in item.tasks.items():
        for task_id in _task_ids(item, name):
            if task_id == airflow_task_id(name) and task_id not in known.tasks and state in ("failed", "success"):
                reason = {"code": "task_not_in_dag_run", "run_id": item.run_id, "state": state, "task": task_id}
                about_task = f"{item.workflow}.{name} of {item.group}"
                yield Cause(about_task, reason, "waiting", None, None, item.workflow, item.group, name)
            if task_id in known.tasks:
                yield from _of_task(item, name, task_id, known.tasks[task_id], ledger_state, facts)


def _task_ids(item: DagRun, name: str) -> list[str]:
    task_id = airflow_task_id(name)
    return [GROUP_SENSOR, task_id, f"{name}.locks"] if item.forming else [task_id, f"{name}.locks"]


def _of_task(
    item: DagRun, name: str, task_id: str, task: Answer, ledger_state: str, facts: AirflowFacts
) -> Iterator[Cause]:
    state = task.get("state")
    is_sensor = task_id != airflow_task_id(name)
    since = _time(task.get("queued_when") or task.get("scheduled_when") or task.get("start_date"))
    reason: dict[str, object] | None = None
    if state in ("queued", "scheduled"):
        reason = _queued(task_id, task, facts)
    elif state == "up_for_retry":
        reason = {"code": "up_for_retry", "task": task_id, "try_number": task.get("try_number")}
        since = _time(task.get("end_date"))
    elif state == "upstream_failed":
        reason = {"code": "airflow_upstream_failed", "task": task_id}
    elif state in ("failed", "skipped", "removed") or (state == "success" and not is_sensor):
        reason = {"code": "airflow_task_ended", "task": task_id, "state": state, "ledger": ledger_state}
        since = _time(task.get("end_date"))
    if reason is not None:
        about = f"{item.workflow}.{name} of {item.group}"
        yield Cause(about, reason, "waiting", since, None, item.workflow, item.group, name)


def _queued(task_id: str, task: Answer, facts: AirflowFacts) -> dict[str, object]:
    pool = facts.pools.get(str(task.get("pool")), {})
    if pool.get("open_slots") == 0:
        name = task.get("pool")
        return {"code": "pool_full", "task": task_id, "state": task["state"], "pool": name, "slots": pool.get("slots")}
    return {"code": "task_queued", "task": task_id, "state": task["state"]}


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) and text else None
