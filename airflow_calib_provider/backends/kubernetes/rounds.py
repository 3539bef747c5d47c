"""From the jobs of a round to Jobs on a cluster: classes, names, manifests, and how they are created or found."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_calib_provider.backends.kubernetes import numbering, starting, static
from airflow_calib_provider.backends.kubernetes.client import Api, ApiRefusal, Object
from airflow_calib_provider.backends.kubernetes.folder import Part, Plan
from airflow_calib_provider.backends.kubernetes.template import (
    PodParts,
    in_pod,
    job_manifest,
    pod_template,
    spool_mount,
    start_within,
)
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import BackendError, SubmissionRefused

_BACKSTOP = 3600
"""Seconds after a job's time limit in which its pod may have been fetching its image, and is ended then."""

_NEVER = (400, 405, 413, 422)
"""What the server answers to what it will not have as it is."""


def classes(jobs: Sequence[JobSubmission]) -> list[list[JobSubmission]]:
    """Jobs that one Job can run: alike in what they ask for, and in their time limit."""
    found: dict[object, list[JobSubmission]] = {}
    for job in jobs:
        found.setdefault((job.resources, job.timeout), []).append(job)
    return list(found.values())


def plan(
    key: RoundKey,
    folder: Path,
    jobs: Sequence[Sequence[JobSubmission]],
    options: Mapping[str, Any],
    where: Mapping[str, str],
) -> Plan:
    """The Jobs of a round.

    :param folder: of the round.
    :param jobs: of :func:`classes`.
    :param options: the task's block ``kubernetes``.
    :param where: ``home``, ``installation``, ``connection``, ``namespace``, ``host``.
    :raises SubmissionRefused: the block does not say what is needed.
    """
    parts, manifests = [], []
    for number, of_class in enumerate(jobs):
        name = numbering.job_name(where["installation"], key, number)
        listed = [(job.index, job.attempt, job.folder) for job in of_class]
        parts.append(Part(number, name, listed, of_class[0].timeout))
        manifests.append(_manifest(key, folder, parts[-1], of_class[0], options, where))
    return Plan(parts, manifests, where["namespace"], start_within(options), where["host"])


def _manifest(
    key: RoundKey,
    folder: Path,
    part: Part,
    job: JobSubmission,
    options: Mapping[str, Any],
    where: Mapping[str, str],
) -> dict[str, Any]:
    labels = {
        numbering.INSTALLATION: where["installation"],
        numbering.CONNECTION: numbering.connection_label(where["connection"]),
        numbering.ROUND: numbering.digest(where["installation"], key),
        **numbering.about(key),
    }
    annotations = {numbering.KEY: str(key)}
    pod = PodParts(
        command=starting.command(in_pod(str(folder), options, where["home"]), part.number, _program(options, where)),
        home=where["home"],
        user=os.getuid(),
        group=os.getgid(),
        fields={"CALIB_NODE": "spec.nodeName", "CALIB_POD": "metadata.uid"},
        labels=labels,
        annotations=annotations,
        deadline=None if job.timeout is None else math.ceil(job.timeout) + _BACKSTOP,
    )
    template = pod_template(options, job.resources, pod)
    return job_manifest(
        part.name,
        where["namespace"],
        template,
        options,
        completions=len(part.jobs),
        labels=labels,
        annotations=annotations,
    )


def _program(options: Mapping[str, Any], where: Mapping[str, str]) -> str | None:
    """The static starter as the pods see it, where there is no shell."""
    if has_shell(options):
        return None
    return in_pod(str(static.program(Path(where["home"]))), options, where["home"])


def has_shell(options: Mapping[str, Any]) -> bool:
    """Whether the image has one."""
    return bool(options.get("shell", True))


def check(options: Mapping[str, Any], home: Path) -> None:
    """:raises SubmissionRefused: the block lacks what no pod can do without."""
    for key, example in (("image", "image: registry.example.org/fit:1.2"), ("spool", "spool: {pvc: calib}")):
        if key not in options:
            raise SubmissionRefused(f"the block kubernetes has no {key}", f"kubernetes: {{{example}}}")
    if not has_shell(options):
        static.check(home)


def for_pods(jobs: Sequence[JobSubmission], options: Mapping[str, Any], home: str) -> list[JobSubmission]:
    """Jobs with the paths that the pods have."""
    return list(map(starting.mapped(home, spool_mount(options, home)), jobs))


def create(api: Api, manifest: Object) -> tuple[Object, list[str]]:
    """Create a Job, or find the one that was created before; returns it, and what the server warns of.

    :raises SubmissionRefused: the server will not have it as it is.
    :raises BackendError: it cannot be created now, or a Job of this name is somebody else's.
    """
    name = manifest["metadata"]["name"]
    try:
        # A misspelt key of a patch would be left out without a word, and the jobs run as nobody meant them to.
        return api.create("jobs", manifest, fieldValidation="Strict")
    except ApiRefusal as error:
        if error.status in _NEVER:
            raise SubmissionRefused(error.message, "correct the block kubernetes of the task") from error
        if error.status != 409:
            raise
        there = api.get(f"jobs/{name}")
    except BackendError as error:
        # There was no answer: it may have been created all the same.
        try:
            there = api.get(f"jobs/{name}")
        except BackendError:
            raise error from None
    return _own(there, manifest), []


def _own(there: Object, manifest: Object) -> Object:
    about, name = there["metadata"], there["metadata"]["name"]
    wanted = manifest["metadata"]
    key, owner = numbering.KEY, numbering.INSTALLATION
    said = about.get("annotations", {}).get(key), about.get("labels", {}).get(owner)
    if said != (wanted["annotations"][key], wanted["labels"][owner]):
        raise BackendError(f"the Job {name} is there, and is not this round's: {said[0] or 'it has no key'}")
    if "deletionTimestamp" in about:
        raise BackendError(f"the Job {name} is being deleted", "it is created when it is gone")
    return there
