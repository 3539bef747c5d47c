"""From a workflow's YAML file to its DAGs: one per grouping (rules 4, 30, 31)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, BaseOperator, TaskGroup, get_parsing_context

from airflow_calib_provider.dags.assets import RUNS
from airflow_calib_provider.dags.forms import by_hand_form, params_form
from airflow_calib_provider.hooks.group import AIRFLOW_RETRIES, airflow_retry_delay
from airflow_calib_provider.hooks.specs import served_workflow
from airflow_calib_provider.operators.jobs import JobsOperator
from airflow_calib_provider.operators.publish import PublishOperator
from airflow_calib_provider.sensors.ledger_sensor import LockSensor, RunGroupSensor
from airflow_calib_provider.settings import number
from airflow_calib_provider.spec.language import APPROVE_SUFFIX, CANDIDATE_SUFFIX, GROUP_SENSOR, LOCKS_SUFFIX
from airflow_calib_provider.spec.models import Task, Workflow

PROMPT_FIRST = "airflow_calib_provider.plugins.priority.PromptFirst"
"""The weight rule of all tasks of workflows, which Airflow knows by a plugin."""

START = datetime(2020, 1, 1, tzinfo=UTC)


def workflow_dags(stub: str, spec: str | None = None) -> dict[str, DAG]:
    """The DAGs of the workflow that belongs to a stub.

    In a worker only the DAG that is asked for is built.

    :param stub: ``__file__`` of the stub, ``dags/<name>.py``.
    :param spec: path of the YAML file, relative to the stub; ``../workflow_specs/<name>.yaml`` if left out. It is found
        from the stub, so that it comes from the same checkout or bundle.
    :returns: DAG id → DAG, for ``globals().update(...)``.
    :raises SpecErrors: the YAML file has mistakes and never was good; Airflow shows them as this stub's import error.
    """
    here = Path(stub).resolve()
    path = here.parent / (spec or f"../workflow_specs/{here.stem}.yaml")
    wanted = get_parsing_context().dag_id
    workflow = served_workflow(path.resolve(), worker=wanted is not None)
    return {
        workflow.dag_id(grouping): build_dag(workflow, grouping)
        for grouping in workflow.groupings()
        if wanted in (None, workflow.dag_id(grouping))
    }


def build_dag(workflow: Workflow, grouping: str) -> DAG:
    """One DAG of a workflow: the tasks that share a grouping."""
    policy = workflow.groupings()[grouping]
    max_open, window = number("MAX_OPEN"), number("WINDOW")
    dag = DAG(
        dag_id=workflow.dag_id(grouping),
        description=workflow.description.strip().split("\n")[0] or None,
        schedule=None,
        start_date=START,
        catchup=False,
        tags=sorted({"calib", workflow.name, *workflow.tags}),
        doc_md=_documentation(workflow, grouping),
        params={**by_hand_form(workflow, policy), **params_form(workflow)},
        # Waiting DAG runs count as active: the limit must lie above what the ledger opens (rule 27).
        max_active_runs=int(2 * (max_open + window)),
        max_active_tasks=int(2 * (max_open + window)),
        is_paused_upon_creation=False,
        # A clear is mostly done because the code was mended (rule 44).
        rerun_with_latest_version=True,
        default_args={
            "owner": workflow.owner,
            "retries": AIRFLOW_RETRIES,
            "retry_delay": timedelta(seconds=airflow_retry_delay()),
            **_weight(),
        },
    )
    with dag:
        closed = None if policy.is_single else RunGroupSensor(task_id=GROUP_SENSOR, workflow=workflow)
        operators: dict[str, BaseOperator] = {}
        for task in _in_order(workflow, grouping):
            before = [operators[need.task] for need in workflow.inside_needs(task)] or ([closed] if closed else [])
            operators[task.name] = _operator(workflow, task, before)
    return dag


def _weight() -> dict[str, str]:
    """Tasks of ``prompt`` come first (rule 26), where Airflow has loaded the plugin: without it no DAG could be stored.

    It has not where the package was installed, to be edited, before it had a plugin. A worker does not ask for weights.
    """
    if get_parsing_context().dag_id is not None:
        return {}
    from airflow.plugins_manager import get_priority_weight_strategy_plugins

    return {"weight_rule": PROMPT_FIRST} if PROMPT_FIRST in get_priority_weight_strategy_plugins() else {}


def _in_order(workflow: Workflow, grouping: str) -> list[Task]:
    """The grouping's tasks, each after those that it needs inside this DAG."""
    left = {task.name: task for task in workflow.tasks_of(grouping)}
    ordered: list[Task] = []
    while left:
        name = next(
            name for name, task in left.items() if all(need.task not in left for need in workflow.inside_needs(task))
        )
        ordered.append(left.pop(name))
    return ordered


def _operator(workflow: Workflow, task: Task, before: Sequence[BaseOperator]) -> BaseOperator:
    """The task's operator, behind a lock sensor if anything outside its DAG is awaited."""
    inlets = [_asset(need.workflow, need.task) for need in workflow.outside_needs(task)]
    inlets += [_payload_asset(tag) for tag in task.locked_tags]
    common: dict[str, Any] = {"workflow": workflow, "task": task.name, "inlets": inlets}
    asks = task.publish is not None and task.publish.asks_persons
    if not workflow.outside_needs(task) and not task.locks and not asks:
        operator = _of_kind(workflow, task, task.name, common)
        before and before >> operator
        return operator
    with TaskGroup(
        group_id=f"{task.name}{LOCKS_SUFFIX}",
        group_display_name=task.name,
        prefix_group_id=False,
        tooltip="what it waits for, then the task itself",
    ):
        chain: list[BaseOperator] = []
        if workflow.outside_needs(task) or task.locks:
            chain.append(LockSensor(task_id=f"{task.name}.locks", workflow=workflow, task=task.name))
        if asks:
            chain += _asking(workflow, task)
        chain.append(_of_kind(workflow, task, task.name, common))
        for one, following in pairwise(chain):
            one >> following
    before and before >> chain[0]
    return chain[-1]


def _asking(workflow: Workflow, task: Task) -> list[BaseOperator]:
    """What comes before a publication that persons approve."""
    from airflow_calib_provider.operators.approve import AskOperator, CandidateOperator

    of_task: dict[str, Any] = {"workflow": workflow, "task": task.name}
    return [
        CandidateOperator(task_id=f"{task.name}{CANDIDATE_SUFFIX}", **of_task),
        AskOperator(task_id=f"{task.name}{APPROVE_SUFFIX}", **of_task),
    ]


def _of_kind(workflow: Workflow, task: Task, task_id: str, common: Mapping[str, Any]) -> BaseOperator:
    if task.publish is not None:
        publishes: type[PublishOperator] = PublishOperator
        if task.publish.asks_persons:
            from airflow_calib_provider.operators.approve import ApprovedOperator as publishes
        return publishes(task_id=task_id, outlets=[_payload_asset(tag) for tag in task.publish.tags], **common)
    outlets = [_asset(workflow.name, task.name)]
    if any(policy.awaits == task.name for policy in workflow.groupings().values()):
        # The values of a run are news for calib_inject, which puts it into a group (rule 47).
        outlets.append(RUNS)
    return JobsOperator(task_id=task_id, outlets=outlets, **common)


def _asset(workflow: str, task: str) -> Asset:
    return Asset(name=f"{workflow}.{task}", uri=f"calib://task/{workflow}/{task}", group="calib")


def _payload_asset(tag: str) -> Asset:
    return Asset(name=f"payload {tag}", uri=f"calib://payload/{tag}", group="calib")


def _documentation(workflow: Workflow, grouping: str) -> str:
    """Description and YAML: Airflow's Code view shows only the stub. The hash makes every edit a new DAG version."""
    file = Path(workflow.file).name
    return inspect.cleandoc(workflow.description) + (
        f"\n\nGrouping `{grouping}` of workflow `{workflow.name}`, made from `{file}`, SHA-256 `{workflow.hash}`.\n\n"
        f"```yaml\n{workflow.text}\n```\n"
    )
