"""What only the files of a folder together show: names, tags, needs and circles across workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise

from airflow_calib_provider.domain.advice import PROMPT
from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.spec.models import Need, Task, Workflow
from airflow_calib_provider.spec.positions import Node
from airflow_calib_provider.spec.problems import nearest
from airflow_calib_provider.spec.resolving import find_cycle
from airflow_calib_provider.spec.tasks import RawTask
from airflow_calib_provider.spec.templates import uses_of
from airflow_calib_provider.spec.workflow_file import Loaded


def connect(files: Sequence[Loaded]) -> dict[str, Workflow]:
    """Check the files against each other, reporting into each file's problems.

    :returns: the workflows without mistakes, by name, with the grouping of every need.
    """
    named = _by_name(files)
    _check_tags(files)
    # A workflow that needs a broken one is broken too, which is known only after that one was looked at.
    while True:
        good = _good(named)
        for loaded in good.values():
            _check_needs(loaded, good, named)
        if len(_good(named)) == len(good) and not _check_cycles(good):
            return {name: _filled_in(loaded.workflow, good) for name, loaded in good.items() if loaded.workflow}


def _good(named: dict[str, Loaded]) -> dict[str, Loaded]:
    return {name: loaded for name, loaded in named.items() if loaded.workflow and not loaded.problems.errors}


def _by_name(files: Sequence[Loaded]) -> dict[str, Loaded]:
    """The files by the name of their workflow. Of several with one name none is right, as nobody knows which one."""
    named: dict[str, Loaded] = {}
    of_name: dict[str, list[Loaded]] = {}
    for loaded in files:
        if loaded.name is not None:
            named.setdefault(loaded.name, loaded)
            of_name.setdefault(loaded.name, []).append(loaded)
    for name, several in of_name.items():
        if len(several) == 1:
            continue
        places = {
            id(loaded): str(loaded.problems.place(loaded.name_node or loaded.document.root)) for loaded in several
        }
        for loaded in several:
            others = " and ".join(place for key, place in places.items() if key != id(loaded))
            loaded.clashes = True
            loaded.problems.add(
                f"the workflow {name!r} is also in {others}",
                loaded.name_node or loaded.document.root,
                expected="one file for each workflow",
                hint="move one of them away, or give it another name",
            )
    return named


def _check_tags(files: Sequence[Loaded]) -> None:
    """Of several workflows that publish one tag each is told of the others: none of them is the first."""
    publishers: dict[str, list[tuple[Loaded, Node]]] = {}
    for loaded in files:
        for task in loaded.raw_tasks.values():
            if task.publish is not None and task.publish_tag is not None:
                for tag in task.publish.tags:
                    publishers.setdefault(tag, []).append((loaded, task.publish_tag))
    for tag, several in publishers.items():
        for loaded, node in several:
            others = [item for item in several if item[0].name != loaded.name]
            if others:
                listed = " and ".join(f"{item.name!r} ({item.problems.place(where)})" for item, where in others)
                loaded.problems.add(
                    f"the tag {tag!r} is also published by the workflow {listed}",
                    node,
                    expected="one task for each tag",
                )


def _check_needs(loaded: Loaded, good: dict[str, Loaded], named: dict[str, Loaded]) -> None:
    for task in loaded.raw_tasks.values():
        for need, node in task.needs:
            if need.workflow == loaded.name:
                continue
            if need.workflow not in named:
                others = named.keys() - {loaded.name} if loaded.problems.is_told else ()
                loaded.problems.add(
                    f"unknown workflow {need.workflow!r}",
                    node,
                    expected=partial(one_of, sorted(others)),
                    hint=partial(nearest, need.workflow, sorted(others)),
                )
            elif need.task not in named[need.workflow].raw_tasks and named[need.workflow].raw_tasks:
                tasks = named[need.workflow].raw_tasks
                loaded.problems.add(
                    f"the workflow {need.workflow!r} has no task {need.task!r}",
                    node,
                    expected=partial(one_of, tasks),
                    hint=partial(nearest, need.task, tasks),
                )
            elif need.workflow not in good:
                file = named[need.workflow].document.file.name
                loaded.problems.add(f"the needed workflow {need.workflow!r} has mistakes of its own", node,
                                    hint=f"see {file}")  # fmt: skip
    _check_products(loaded, named)


def _check_products(loaded: Loaded, named: dict[str, Loaded]) -> None:
    for task in loaded.raw_tasks.values():
        for template in task.templates:
            try:
                uses = uses_of(template.text)
            except RenderError:
                continue
            for use in uses:
                if len(use.path) != 6 or use.path[0] != "workflows" or use.path[1] not in named:
                    continue
                other = named[use.path[1]].raw_tasks.get(use.path[3])
                if other is not None and use.path[5] not in other.products:
                    loaded.problems.add(
                        f"the task {'.'.join((use.path[1], use.path[3]))!r} has no product {use.path[5]!r}",
                        loaded.problems.inside(template.scalar, use.expression, use.offset),
                        expected=one_of(other.products) or "a task with products",
                        hint=partial(nearest, use.path[5], other.products),
                    )


def _check_cycles(good: dict[str, Loaded]) -> bool:
    of_locks = {
        f"{name}.{task}": awaited
        for name, loaded in good.items()
        for task, raw in loaded.raw_tasks.items()
        if (awaited := _awaited_by_locks(raw, good))
    }
    edges = {
        f"{name}.{task}": [f"{need.workflow}.{need.task}" for need, _ in raw.needs]
        + list(of_locks.get(f"{name}.{task}", ()))
        + ([f"{name}.{raw.policy.awaits}"] if raw.policy is not None and raw.policy.awaits else [])
        for name, loaded in good.items()
        for task, raw in loaded.raw_tasks.items()
    }
    found = False
    while cycle := find_cycle(edges):
        edges[cycle[0]] = [name for name in edges[cycle[0]] if name != cycle[1]]
        if len({step.split(".")[0] for step in cycle}) == 1 and not _by_product(cycle, good):
            continue  # by its needs it is an error of the file; by a payload it may be there in a base campaign
        found = True
        said = _circle(cycle, of_locks)
        for step, following in pairwise(cycle):
            workflow, task = step.split(".")
            raw = good[workflow].raw_tasks[task]
            needs = (node for need, node in raw.needs if f"{need.workflow}.{need.task}" == following)
            is_lock = following in of_locks.get(step, ())
            if following.split(".")[0] != workflow or is_lock:
                good[workflow].problems.add(said, next(needs, raw.key), expected="no circle")
    return found


def _by_product(cycle: list[str], good: dict[str, Loaded]) -> bool:
    """Whether a part of a circle is a lock on a product, which no base campaign has for the group's own."""
    for step, following in pairwise(cycle):
        workflow, task = step.split(".")
        waits = [lock.parameters for lock in good[workflow].raw_tasks[task].locks if lock.holds_for_ever]
        own = [names for names in waits if _is_product_here(names)]
        if any(f"{names['workflow']}.{names['task']}" == following for names in own):
            return True
    return False


def _is_product_here(names: Mapping[str, object]) -> bool:
    """Whether a lock is on a product of the campaign that waits, which may be ``prompt``: it runs every workflow."""
    return "product" in names and names.get("campaign", PROMPT) == PROMPT


def _awaited_by_locks(raw: RawTask, good: dict[str, Loaded]) -> dict[str, str]:
    """The tasks for which the locks of a task wait for ever, each with the words for it."""
    publishers = {
        tag: f"{name}.{label}"
        for name, loaded in good.items()
        for label, task in loaded.raw_tasks.items()
        if task.publish is not None
        for tag in task.publish.tags
    }
    found = {}
    for lock in raw.locks:
        names = lock.parameters
        if not lock.holds_for_ever or "store" in names:
            continue
        if "tag" in names and names["tag"] in publishers:
            found[publishers[str(names["tag"])]] = f"lock on {names['tag']}"
        elif _is_product_here(names) and names["workflow"] in good:
            found[f"{names['workflow']}.{names['task']}"] = f"lock on {names['product']}"
    return found


def _circle(cycle: list[str], of_locks: dict[str, dict[str, str]]) -> str:
    """A circle, with what is waited for by locks."""
    parts = [cycle[0]]
    for step, following in pairwise(cycle):
        words = of_locks.get(step, {}).get(following)
        parts.append(f"{following} ({words})" if words else following)
    if not any(following in of_locks.get(step, {}) for step, following in pairwise(cycle)):
        return f"the workflows need each other in a circle: {' → '.join(parts)}"
    return f"tasks wait for each other in a circle: {' → '.join(parts)}"


def _filled_in(workflow: Workflow, good: dict[str, Loaded]) -> Workflow:
    tasks = {name: _with_groupings(task, workflow, good) for name, task in workflow.tasks.items()}
    return workflow.model_copy(update={"tasks": tasks})


def _with_groupings(task: Task, workflow: Workflow, good: dict[str, Loaded]) -> Task:
    def fill_in(need: Need) -> Need:
        other = good[need.workflow].workflow
        if need.workflow == workflow.name or other is None:
            return need
        return need.model_copy(update={"grouping": other.tasks[need.task].policy.label})

    return task.model_copy(update={"needs": tuple(fill_in(need) for need in task.needs)})
