"""Names that people give: what the ledger has seen of workflows, tasks and tags, and which states there are.

A filter by a name that nobody ever used gives nothing, which reads like an answer; so it is an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sqlalchemy import Connection, select

from airflow_calib_provider.errors import NotFound
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.locks.base import parameter
from airflow_calib_provider.ledger.transitions import GRAPHS
from airflow_calib_provider.spec.problems import nearest

SHOWN = 30
"""How many known names a message lists."""


def states(*entities: str) -> tuple[str, ...]:
    """All states of these entities, each once."""
    graphs = [GRAPHS[entity] for entity in entities]
    begun = [state for graph in graphs for state in graph if state is not None]
    ends = sorted({state for graph in graphs for targets in graph.values() for state in targets})
    return tuple(dict.fromkeys([*begun, *ends]))


def known_as(name: str, known: Collection[str], none: str) -> str:
    """The hint that follows from an unknown name: the nearest one, and those that are known.

    :param none: what to say where no name is known.
    """
    if not known:
        return none
    listed = sorted(known)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return " ".join(part for part in (nearest(name, known), f"known: {', '.join(listed[:SHOWN])}{more}") if part)


def check_workflow(connection: Connection, name: str | None, also: Iterable[str] = ()) -> None:
    """Refuse the name of a workflow that nothing is known of.

    :param also: names that are known from elsewhere, such as YAML files.
    :raises NotFound: no workflow of this name was ever injected, or has groups.
    """
    if name is None or name in also:
        return
    seen = set(connection.execute(select(tables.workflow_seen.c.workflow)).scalars())
    if name not in seen:
        # A hand-written DAG has groups, but is no workflow that was injected.
        seen |= set(connection.execute(select(tables.run_group.c.workflow).distinct()).scalars())
    if name not in seen:
        none = "it knows none yet: calib_inject records them"
        raise NotFound(f"the ledger knows no workflow {name}", known_as(name, seen | set(also), none))


def check_task(connection: Connection, workflow: str | None, task: str | None, also: Iterable[str] = ()) -> None:
    """Refuse the name of a task that nothing is known of.

    :param workflow: where it is looked for; ``None``: in all.
    :param also: names that are known from elsewhere, such as YAML files.
    :raises NotFound: no group and no recorded spec has a task of this name.
    """
    if task is None or task in also:
        return
    group, group_task = tables.run_group, tables.group_task
    query = select(group_task.c.task).join(group, group.c.id == group_task.c.group_id)
    if workflow is not None:
        query = query.where(group.c.workflow == workflow)
    if connection.execute(query.where(group_task.c.task == task).limit(1)).first():
        return
    declared = {name for tasks in _recorded(connection, workflow) for name in tasks}
    if task not in declared:
        known = declared | set(also) | set(connection.execute(query.distinct()).scalars())
        where = f" in the workflow {workflow}" if workflow is not None else ""
        raise NotFound(
            f"the ledger knows no task {task}{where}",
            known_as(task, known, "it knows none yet: calib_inject records them"),
        )


def check_tag(connection: Connection, tag: str | None) -> None:
    """:raises NotFound: nothing was published under this tag, and no recorded spec publishes it or waits for it."""
    if tag is None:
        return
    known = set(connection.execute(select(tables.payload.c.tag).distinct()).scalars())
    if tag in known:
        return
    known |= set(connection.execute(select(parameter("tag")).where(parameter("tag").is_not(None)).distinct()).scalars())
    for tasks in _recorded(connection, None):
        for task in tasks.values():
            publish = task.get("publish") if isinstance(task, dict) else None
            if isinstance(publish, dict) and "tag" in publish:
                known.add(str(publish["tag"]))
    if tag not in known:
        raise NotFound(f"the ledger knows no tag {tag}", known_as(tag, known, "it knows none yet"))


def _recorded(connection: Connection, workflow: str | None) -> Iterator[dict[str, object]]:
    """The tasks of every text of a spec that was ever injected; all of these were checked before."""
    import yaml

    table = tables.spec_text
    query = select(table.c.text)
    if workflow is not None:
        query = query.where(table.c.workflow == workflow)
    for text in connection.execute(query).scalars():
        try:
            read = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        tasks = read.get("tasks") if isinstance(read, dict) else None
        if isinstance(tasks, dict):
            yield tasks
