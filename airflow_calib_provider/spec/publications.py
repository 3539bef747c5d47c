"""Publications with what must hold before: who validates and who approves them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from airflow_calib_provider.domain.locks.deadlines import NEAR
from airflow_calib_provider.domain.quantities import parse_duration
from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.errors import PayloadError
from airflow_calib_provider.spec.language import SOURCES_FILE
from airflow_calib_provider.spec.models import Approval, Publish, PublishBy
from airflow_calib_provider.spec.problems import Problems, nearest
from airflow_calib_provider.spec.publish_keys import ApproveKeys, ByKeys, PublishKeys
from airflow_calib_provider.spec.task_keys import WorkflowKeys
from airflow_calib_provider.spec.written import Read

if TYPE_CHECKING:
    from airflow_calib_provider.spec.tasks import RawTask


_PROTECTED: dict[str | None, Literal["", "refuse", "move"]] = {None: "", "processed": "refuse", "move": "move"}


def publication(keys: PublishKeys) -> Publish:
    """From what is written to what it means."""
    files = files_of(keys)
    stores = [one.target() for one in keys.stores if one.store and not one.crossed() and not one.unreadable()]
    return Publish(
        tag=files[0][0],
        file=files[0][1],
        more=tuple(files[1:]),
        stores=tuple(one for one in stores if one is not None),
        after=keys.after or "next",
        default_file=keys.default or "",
        protect=_PROTECTED[keys.protect],
        refuse_gaps=keys.gaps == "refuse",
        no_change=keys.no_change,
        store=keys.store,
        validated_by=keys.validated_by,
        approve=_approval(keys.approve),
        by=_by(keys.by, keys.fallback),
    )


def _by(keys: str | ByKeys | None, fallback: str | None) -> PublishBy | None:
    then: Literal["alarm", "fallback"] = "alarm" if fallback is None else "fallback"
    if keys is None:
        return None
    if isinstance(keys, str):
        since, _, lasts = keys.partition("+")
        at_most = parse_duration(lasts.strip())
        return PublishBy(at_most=at_most, since=since.strip(), warn_before=at_most / NEAR, then=then)
    at_most = keys.at_most or timedelta()
    return PublishBy(at_most=at_most, since=keys.since, warn_before=keys.near or at_most / NEAR, then=then)


def files_of(keys: PublishKeys) -> list[tuple[str, str]]:
    """The tags with the templates of their files, as far as they can be read."""
    stated = [(one.tag, one.file) for one in keys.together] or [(keys.tag, keys.file)]
    return [(tag, file) for tag, file in stated if tag and file]


def _approval(keys: str | ApproveKeys | None) -> Approval | None:
    if keys is None:
        return None
    if isinstance(keys, str):
        return Approval()
    listed = keys.by if isinstance(keys.by, str) else ""
    users = () if isinstance(keys.by, str) else keys.by
    return Approval(users=users, listed=listed, four_eyes=keys.four_eyes, remind=keys.remind, expires=keys.expires)


def check_publications(
    written: Read[WorkflowKeys],
    tasks: Mapping[str, RawTask],
    workflow: str,
    approvers: Mapping[str, tuple[str, ...]] | None,
    problems: Problems,
) -> None:
    """Who validates is a needed task with a verdict, and who approves is somebody.

    :param approvers: the lists of ``sources.yaml``; ``None``: they are not looked at.
    """
    for name, task in tasks.items():
        if task.publish is None:
            continue
        if task.publish.validated_by is not None:
            _check_validation(written, tasks, workflow, task, task.publish.validated_by, problems)
        listed = task.publish.approve.listed if task.publish.approve is not None else ""
        if listed and approvers is not None and listed not in approvers:
            node = written.at("tasks", name, "publish", "approve", "by")
            known = one_of(sorted(approvers)) or f"a list of `approvers` in {SOURCES_FILE}, which has none"
            near = partial(_nearest_list, listed, approvers)
            problems.add(f"unknown list of approvers {listed!r}", node, expected=known, hint=near)


def _nearest_list(listed: str, approvers: Mapping[str, tuple[str, ...]]) -> str:
    """A list that is meant, or how a user is named: one without brackets reads as the name of a list."""
    return nearest(listed, approvers) or f"a user of that id is put into brackets: [{listed}]"


def _check_validation(
    written: Read[WorkflowKeys],
    tasks: Mapping[str, RawTask],
    workflow: str,
    task: RawTask,
    by: str,
    problems: Problems,
) -> None:
    node = written.at("tasks", task.name, "publish", "validated_by")
    needed = [need.task for need, _ in task.needs if need.workflow == workflow]
    if by not in tasks:
        problems.add(
            f"unknown task {by!r}", node, expected="one of `needs`, with a verdict", hint=lambda: nearest(by, tasks)
        )
    elif by not in needed and not task.needs_wrong:
        problems.add(f"{task.name!r} is validated by {by!r} and does not need it", node, expected=f"{by} in needs")
    elif not tasks[by].verdict and written.find("tasks", by, "verdict") is None:
        said = f"{task.name!r} is validated by {by!r}, which has no verdict"
        problems.add(said, node, expected=f"a task with a verdict, such as verdict: {{jump: {{below: 0.05}}}} in {by}")


def approvers_of(approval: Approval, spec_file: str) -> tuple[str, ...]:
    """The users who may approve, of a list as ``sources.yaml`` has it now.

    :param spec_file: the path of the workflow's file.
    :raises PayloadError: there is no such list, or nobody in it.
    """
    if not approval.listed:
        return approval.users
    from airflow_calib_provider.spec.positions import read_document
    from airflow_calib_provider.spec.sources_file import SourcesFile

    path = Path(spec_file).resolve().parent / SOURCES_FILE
    try:
        users = SourcesFile(read_document(path)).approvers.get(approval.listed, ())
    except OSError as error:
        raise PayloadError(f"{path} cannot be read: {error.strerror}", "who may approve stands there") from error
    if not users:
        raise PayloadError(f"{path} has no approvers {approval.listed!r}", "put their user ids there")
    return users
