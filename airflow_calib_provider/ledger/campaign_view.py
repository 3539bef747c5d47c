"""A workflow as a campaign runs it: of its own spec, with its overrides, from its first tasks on (rules 53–55)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sqlalchemy import Connection

from airflow_calib_provider.domain.reasons import RELEASES, Reason, render
from airflow_calib_provider.errors import CalibError, NotOpen
from airflow_calib_provider.ledger import spec_files
from airflow_calib_provider.ledger.rows import Campaign
from airflow_calib_provider.spec.models import Need, Task, Workflow


def is_as_written(campaign: Campaign, workflow: Workflow) -> bool:
    """Whether a campaign runs a workflow as its file is now, in all."""
    return (
        not campaign.overrides.get(workflow.name)
        and not campaign.first_tasks
        and not _comes_short(campaign)
        and _own_hash(campaign, workflow) in (None, workflow.hash)
    )


def as_run(connection: Connection, campaign: Campaign, workflow: Workflow) -> Workflow:
    """A workflow as a campaign runs it.

    :param workflow: as its file is now, and so its DAGs.
    :raises NotOpen: the campaign's own spec has other tasks than the DAGs; what is to be done stands in it.
    """
    if is_as_written(campaign, workflow):
        return workflow
    own = own_spec(connection, campaign, workflow)
    if changes := differences(own, workflow):
        raise changed(spec_changed(campaign, workflow.name, changes))
    return applied(campaign, own)


def applied(campaign: Campaign, workflow: Workflow) -> Workflow:
    """A workflow with the overrides of a campaign, and without what it takes from its base.

    :raises CalibError: the workflow does not declare any more what the campaign sets.
    """
    found = workflow
    if overrides := campaign.overrides.get(workflow.name):
        from airflow_calib_provider.spec.overrides import overridden, unfit  # which reads YAML

        # A streamed campaign follows the file: what it sets must not go without a word.
        if said := unfit(workflow, overrides):
            raise CalibError(
                "; ".join(said),
                f"{campaign.name} goes on when the file declares it again; or close it, and create another campaign",
            )
        found = overridden(workflow, overrides)
    return from_its_first_tasks(campaign, found)


def from_its_first_tasks(campaign: Campaign, workflow: Workflow) -> Workflow:
    """A workflow without what a campaign takes from its base."""
    if campaign.base_campaign is None or not (campaign.first_tasks or _comes_short(campaign)):
        return workflow
    taken = frozenset(_from_base(campaign, workflow))
    return workflow.model_copy(update={"base": campaign.base_campaign, "from_base": taken})


def in_campaign(campaign: Campaign, workflows: Mapping[str, Workflow]) -> dict[str, Workflow]:
    """Those of the workflows that a campaign has, without what it takes from its base."""
    return {
        name: from_its_first_tasks(campaign, workflow)
        for name, workflow in workflows.items()
        if not campaign.spec_hashes or name in campaign.spec_hashes
    }


def _comes_short(campaign: Campaign) -> bool:
    """Whether a finite campaign with a base has some workflows only: those that it lacks, its base has."""
    return campaign.kind == "finite" and campaign.base_campaign is not None and bool(campaign.spec_hashes)


def _from_base(campaign: Campaign, workflow: Workflow) -> Iterator[str]:
    for name, begin in campaign.first_tasks.items():
        yield from (f"{name}.{before}" for before in begin["before"])
    for task in workflow.tasks.values():
        for need in task.needs:
            if need.workflow != workflow.name and need.workflow not in campaign.spec_hashes:
                yield f"{need.workflow}.{need.task}"


def taken_from(campaign: Campaign, workflow: str, task: str) -> str | None:
    """The base campaign that has a task of this one; ``None``: it is run here."""
    if _comes_short(campaign) and workflow not in campaign.spec_hashes:
        return campaign.base_campaign
    begin = campaign.first_tasks.get(workflow)
    return campaign.base_campaign if begin is not None and task in begin["before"] else None


def _own_hash(campaign: Campaign, workflow: Workflow) -> str | None:
    return campaign.spec_hashes.get(workflow.name) if campaign.kind == "finite" else None


def own_spec(connection: Connection, campaign: Campaign, workflow: Workflow) -> Workflow:
    """A workflow as a finite campaign has it from its creation on; as it is now, if that text is not known."""
    own = _own_hash(campaign, workflow)
    if own is None or own == workflow.hash:
        return workflow
    text = spec_files.text_of(connection, own)
    if text is None:
        return workflow
    from airflow_calib_provider.spec.loader import load_text

    found = load_text(text, Path(workflow.file), workflow.runs.categories)
    labels = {(need.workflow, need.task): need.grouping for task in workflow.tasks.values() for need in task.needs}

    def filled(need: Need) -> Need:
        label = need.grouping or labels.get((need.workflow, need.task))
        return need.model_copy(update={"grouping": label})

    tasks = {
        name: task.model_copy(update={"needs": tuple(map(filled, task.needs))}) for name, task in found.tasks.items()
    }
    return found.model_copy(update={"tasks": tasks})


def differences(own: Workflow, now: Workflow) -> list[str]:
    """In what the DAGs of a workflow, as it is now, are others than those of a campaign's own spec."""
    if own.hash == now.hash:
        return []
    found = [f"the task {name} is gone" for name in own.tasks if name not in now.tasks]
    found += [f"the task {name} is new" for name in now.tasks if name not in own.tasks]
    for name in own.tasks:
        if name not in now.tasks:
            continue
        one, other = own.tasks[name], now.tasks[name]
        if one.policy.label != other.policy.label:
            found.append(f"{name} is grouped by {other.policy.label}, and was by {one.policy.label}")
        elif _edges(own, one) != _edges(now, other):
            found.append(f"{name} waits for other tasks than before")
        if (one.jobs is None) != (other.jobs is None):
            found.append(f"{name} {'publishes' if other.jobs is None else 'has jobs'} now")
    return found


def _edges(workflow: Workflow, task: Task) -> tuple[set[str], bool]:
    """What Airflow knows of a task: those before it in its DAG, and whether a sensor stands before it."""
    return set(workflow.names_inside(task)), bool(workflow.outside_needs(task) or task.locks)


def spec_changed(campaign: Campaign, workflow: str, changes: list[str]) -> dict[str, object]:
    """Why tasks of a campaign wait for a person."""
    return {"code": "spec_changed", "campaign": campaign.name, "workflow": workflow, "changes": changes[:20]}


def changed(reason: Reason) -> NotOpen:
    """The error of a task that waits for ``calib campaign update``."""
    return NotOpen(render(reason), RELEASES["spec_changed"], {"code": "not_open", "reason": dict(reason)})
