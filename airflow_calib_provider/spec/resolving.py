"""What the tasks of a workflow are to each other: needs, circles, groupings, and the variables of their templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.nodes import Node
from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.spec.models import Need, RunSource, locks_of_tags
from airflow_calib_provider.spec.problems import Problems, nearest
from airflow_calib_provider.spec.task_keys import grouping_forms
from airflow_calib_provider.spec.tasks import RawTask
from airflow_calib_provider.spec.variables import (
    ANY,
    JOB,
    Leaf,
    check_template,
    lock_variables,
    phase_variables,
    task_variables,
)

AwaitedTask = tuple[str, Node]
"""A task without whose values no run is put into groups, and where it is named."""


@dataclass
class Resolved:
    """Groupings and needs of all tasks, complete as far as one file can tell."""

    policies: dict[str, Grouping] = field(default_factory=dict)
    needs: dict[str, list[Need]] = field(default_factory=dict)


def resolve(
    tasks: Mapping[str, RawTask], workflow: str, awaited: Mapping[str, AwaitedTask], problems: Problems
) -> Resolved | None:
    """Resolve needs and groupings inside one workflow.

    :param awaited: by the labels of the groupings that wait for values.
    :returns: ``None`` when that is not possible; why was reported.
    """
    before = len(problems.errors)
    _check_needs(tasks, workflow, problems)
    _check_awaited(tasks, awaited, problems)
    cycle = find_cycle(
        {name: [*_inside(task, workflow, tasks), *_awaited_of(task, tasks)] for name, task in tasks.items()}
    )
    if cycle:
        task = tasks[cycle[0]]
        needs = [node for need, node in task.needs if need.task == cycle[1] and need.workflow == workflow]
        node = needs[0] if needs or task.policy is None else awaited[task.policy.label][1]
        problems.add(f"the tasks need each other in a circle: {' → '.join(cycle)}", node, expected="no circle")
        return None
    result = Resolved()
    for name in needed_first(tasks, workflow):
        _resolve_grouping(name, tasks, workflow, result, problems)
    _check_labels(tasks, result, problems)
    _check_awaited_groupings(tasks, awaited, result, problems)
    _check_tags(tasks, problems)
    if len(problems.errors) > before or len(result.policies) < len(tasks):
        return None
    for name, task in tasks.items():
        result.needs[name] = [
            need.model_copy(update={"grouping": result.policies[need.task].label})
            if need.workflow == workflow
            else need
            for need, _ in task.needs
        ]
    return result


def find_cycle(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """A closed path of names (first = last), or an empty list. Takes time linear in the edges."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.pop()
                done.add(name)
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                stack.append((name, True))
                stack.extend((other, False) for other in edges.get(name, ()))
    return []


def needed_first(tasks: Mapping[str, RawTask], workflow: str) -> list[str]:
    """The tasks, each after those of this workflow that it needs; in their own order otherwise."""
    found: dict[str, None] = {}
    for start in tasks:
        stack = [(start, False)]
        begun: set[str] = set()
        while stack:
            name, leaving = stack.pop()
            if leaving:
                found[name] = None
            elif name not in found and name not in begun:
                begun.add(name)
                stack.append((name, True))
                stack.extend((other, False) for other in reversed(_inside(tasks[name], workflow, tasks)))
    return list(found)


def check_templates(
    tasks: Mapping[str, RawTask],
    workflow: str,
    source: RunSource | None,
    params: Mapping[str, object],
    problems: Problems,
) -> None:
    """Report every variable of a template that will not be there."""
    seen: dict[tuple[int, str], None] = {}
    policies = effective_policies(tasks, workflow)
    of_locks = lock_variables(source, params)
    for name, task in tasks.items():
        outside = [(need.workflow, need.task) for need, _ in task.needs if need.workflow != workflow]
        products = {
            other: _products(tasks[other], is_inside=_share_grouping(policies[name], policies[other]))
            for other in _inside(task, workflow, tasks)
        }
        if task.needs_wrong:
            products[ANY] = {ANY: Leaf.VALUE}
            outside.append((ANY, ANY))
        validated = [one.publish.tag for one in tasks.values() if one.publish and one.publish.validated_by == name]
        tags = locks_of_tags(task.locks)
        known = task_variables(policies[name], source, params, products, outside, tags, validated)
        for template in task.templates:
            variables = {**known, "job": JOB} if template.with_job else of_locks if template.of_lock else known
            if template.of_phase:
                variables = {**variables, **phase_variables(task.iteration, template.of_phase)}
            check_template(template.scalar, template.text, variables, problems, one_text=template.one_text, seen=seen)


def effective_policies(tasks: Mapping[str, RawTask], workflow: str) -> dict[str, Grouping | None]:
    """The tasks' groupings, found through their needs where left out; ``None`` where that cannot be told."""
    found: dict[str, Grouping | None] = {}
    for name in needed_first(tasks, workflow):
        task = tasks[name]
        if task.policy_node is not None:
            found[name] = task.policy
            continue
        through = [policy for need in _inside(task, workflow, tasks) if (policy := found.get(need)) is not None]
        # Where they disagree that is the mistake, and nothing that would follow from any of them.
        agree = len({policy.label for policy in through}) == 1
        found[name] = through[0] if agree else None
    return found


def _share_grouping(one: Grouping | None, other: Grouping | None) -> bool:
    return one is None or other is None or one.label == other.label


def _products(task: RawTask, *, is_inside: bool) -> dict[str, Leaf]:
    """A product is one file where the needed task is one job for the same group, else a list of files."""
    is_one_job = task.jobs is None or (task.jobs.split.count is None and task.jobs.split.per_job is None)
    names = [*task.products, ANY] if task.products_wrong else list(task.products)
    return dict.fromkeys(names, Leaf.TEXT if is_inside and is_one_job else Leaf.TEXTS)


def _inside(task: RawTask, workflow: str, tasks: Mapping[str, RawTask]) -> list[str]:
    return [need.task for need, _ in task.needs if need.workflow == workflow and need.task in tasks]


def _awaited_of(task: RawTask, tasks: Mapping[str, RawTask]) -> list[str]:
    """The task whose values its own grouping waits for."""
    name = task.policy.awaits if task.policy is not None else ""
    return [name] if name in tasks else []


def _check_awaited(tasks: Mapping[str, RawTask], awaited: Mapping[str, AwaitedTask], problems: Problems) -> None:
    """Values are reported by jobs of a task of this file."""
    for name, node in awaited.values():
        if name not in tasks:
            problems.add(
                f"unknown task {name!r}",
                node,
                expected=partial(one_of, tasks),
                hint=partial(nearest, name, tasks),
            )
        elif tasks[name].publish is not None:
            said = f"the task {name!r} publishes, and reports no values"
            problems.add(said, node, expected="a task whose jobs report them")


def _check_awaited_groupings(
    tasks: Mapping[str, RawTask], awaited: Mapping[str, AwaitedTask], result: Resolved, problems: Problems
) -> None:
    """A run has values of its own where it is a group."""
    for name, node in awaited.values():
        policy = result.policies.get(name)
        if policy is not None and not policy.is_single:
            said = f"the task {name!r} is grouped by {policy.label}, and has no values of each run"
            others = [other for other, one in result.policies.items() if one.is_single and tasks[other].publish is None]
            problems.add(said, node, expected=f"a task that is grouped by run{': ' * bool(others)}{one_of(others)}")


def _check_needs(tasks: Mapping[str, RawTask], workflow: str, problems: Problems) -> None:
    for name, task in tasks.items():
        for need, node in task.needs:
            if need.workflow == workflow and need.task not in tasks:
                task.needs_wrong = True
                _report_unknown(need.task, node, tasks, name, problems)


def _report_unknown(wanted: str, node: Node, tasks: Mapping[str, RawTask], own: str, problems: Problems) -> None:
    def others() -> Iterable[str]:
        return (other for other in tasks if other != own)

    problems.add(
        f"unknown task {wanted!r}",
        node,
        expected=lambda: one_of(others()),
        hint=lambda: nearest(wanted, others()) or "a task of another workflow is written workflow.task",
    )


def _resolve_grouping(
    name: str, tasks: Mapping[str, RawTask], workflow: str, result: Resolved, problems: Problems
) -> None:
    """The grouping of a task, after those of the tasks that it needs."""
    task = tasks[name]
    if task.policy_node is not None:
        if task.policy is not None:
            result.policies[name] = task.policy
        return
    needs = _inside(task, workflow, tasks)
    if not needs:
        # Where a need is misspelt, that is the mistake to report.
        if not task.needs_wrong:
            problems.add(
                f"the key 'group_by' is missing in the task {name!r}",
                task.key,
                expected=grouping_forms(),
                hint="it may be left out where the task needs others of this workflow",
            )
        return
    found = {need: result.policies.get(need) for need in needs}
    if any(policy is None for policy in found.values()):
        return
    if len({policy.label for policy in found.values() if policy is not None}) > 1:
        listed = ", ".join(f"{need} by {policy.label}" for need, policy in found.items() if policy)
        problems.add(
            f"the key 'group_by' is missing in the task {name!r}, and what it needs is grouped differently",
            task.key,
            expected=f"group_by, because of {listed}",
        )
        return
    if (policy := found[needs[0]]) is not None:
        result.policies[name] = policy


def _check_labels(tasks: Mapping[str, RawTask], result: Resolved, problems: Problems) -> None:
    first: dict[str, str] = {}
    for name, task in tasks.items():
        policy = result.policies.get(name)
        if policy is None:
            continue
        other = first.setdefault(policy.label, name)
        if result.policies[other] != policy and task.policy_node is not None:
            problems.add(
                f"the tasks {other!r} and {name!r} are grouped differently under the same name {policy.label!r}",
                task.policy_node,
                expected="one policy for each name",
                hint=f"name one of them, such as {{{policy.kind}: {{name: {policy.label}2, …}}}}",
            )


def _check_tags(tasks: Mapping[str, RawTask], problems: Problems) -> None:
    publishers: dict[str, str] = {}
    for name, task in tasks.items():
        if task.publish is None or task.publish_tag is None:
            continue
        for tag in task.publish.tags:
            other = publishers.setdefault(tag, name)
            if other != name:
                problems.add(
                    f"the tasks {other!r} and {name!r} publish the same tag {tag!r}",
                    task.publish_tag,
                    expected="one task for each tag",
                )
