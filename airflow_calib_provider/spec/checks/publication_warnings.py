"""What of a publication, and of what validates it, can be meant and does nothing."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.spec.models import Task, Workflow
from airflow_calib_provider.spec.positions import Document, Mapping, Node, Sequence
from airflow_calib_provider.spec.publications import approvers_of

Found = tuple[tuple[str | int, ...], str, str]
"""The keys that lead to it, what is wrong with it, and what to do."""


def of_publication(task: Task, workflow: Workflow, document: Document) -> Iterator[Found]:
    """What of a task has no effect."""
    if task.verdict and not any(
        one.publish and one.publish.validated_by == task.name for one in workflow.tasks.values()
    ):
        hint = f"publish: {{…, validated_by: {task.name}}} in the task that publishes"
        yield ("verdict",), f"no publication is validated by {task.name!r}: its verdict decides nothing", hint
    if task.publish is None:
        return
    if _is_empty(document, "tasks", task.name, "publish", "stores"):
        yield ("publish", "stores"), "stores is empty: nothing but the embedded store gets it", "leave it out"
    yield from _of_approvers(task, workflow)


def _of_approvers(task: Task, workflow: Workflow) -> Iterator[Found]:
    approval = task.publish.approve if task.publish is not None else None
    if approval is None or not (approval.users or approval.listed):
        return
    for number, user in enumerate(approval.users):
        if user in approval.users[:number]:
            yield ("publish", "approve", "by", number), f"{user!r} is there twice", "once is enough"
    try:
        users = set(approvers_of(approval, workflow.file))
    except CalibError:
        return
    if approval.four_eyes and len(users) == 1:
        said = f"four_eyes with {users.pop()!r} alone: nobody can approve what that person has triggered"
        yield ("publish", "approve", "four_eyes"), said, "name a second one in approve.by"


def _is_empty(document: Document, *keys: str) -> bool:
    node: Node = document.root
    for key in keys:
        if not isinstance(node, Mapping) or key not in node.entries:
            return False
        node = node.entries[key].value
    return isinstance(node, Sequence) and not node.items
