"""Pod templates and Jobs as manifests: pure functions of what a spec says and of what a round needs.

The block ``kubernetes`` comes as it is kept with a generation (only what is stated, as JSON has it), and was checked
when the spec was loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow_calib_provider.backends.kubernetes.names import GPU, JOB, OURS, QUEUE
from airflow_calib_provider.backends.kubernetes.patch import patched
from airflow_calib_provider.domain.submission import Resources
from airflow_calib_provider.errors import SubmissionRefused

SPOOL = f"{OURS}spool"
"""The volume that ``CALIB_HOME`` is."""
PARALLELISM = 1000
"""So many pods of a round exist at a time unless a spec says otherwise."""
GRACE = 10
"""Seconds between SIGTERM and SIGKILL: a shell as process 1 ignores the first."""
START_WITHIN = 600.0
"""Seconds after which a pod that does not start on its node is given up, unless a spec says otherwise."""
DAYS_KEPT = 14
"""An ended Job that nobody has forgotten by then is removed by the cluster."""

Manifest = dict[str, Any]


@dataclass(frozen=True)
class PodParts:
    """What of a pod is not the spec's.

    :ivar command: of the container ``job``: the starter and its arguments; ``$(JOB_COMPLETION_INDEX)`` is the index.
    :ivar home: ``CALIB_HOME`` on this machine, absolute.
    :ivar user: who this process is, :ivar group: and its group: the pods' unless the spec says otherwise.
    :ivar environment: variables of the starter, :ivar fields: and those that are fields of the pod itself.
    :ivar labels: of the pods, :ivar annotations: likewise.
    :ivar volumes: further volumes, :ivar mounts: where the container has them,
    :ivar init_containers: and what runs before it, as manifests; names begin with ``calib-``.
    :ivar deadline: seconds from the pod's acceptance by a node, with the fetching of its image, after which the
        cluster ends it.
    """

    command: Sequence[str]
    home: str
    user: int
    group: int
    environment: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[Mapping[str, Any]] = ()
    mounts: Sequence[Mapping[str, Any]] = ()
    init_containers: Sequence[Mapping[str, Any]] = ()
    deadline: int | None = None


def spool_mount(options: Mapping[str, Any], home: str) -> str:
    """Where the pods have ``CALIB_HOME``.

    :param home: where it is on this machine.
    """
    return str(options["spool"].get("mount", home))


def in_pod(path: str, options: Mapping[str, Any], home: str) -> str:
    """A path of this machine as the pods have it; what lies outside of ``CALIB_HOME`` is the same.

    :param home: where ``CALIB_HOME`` is on this machine.
    """
    mount = spool_mount(options, home)
    if path == home or path.startswith(f"{home}/"):
        return mount + path[len(home) :]
    return path


def start_within(options: Mapping[str, Any]) -> float:
    """Seconds within which a pod that is on its node must start.

    :param options: the task's block.
    """
    from pydantic import TypeAdapter

    said = options.get("start_within")
    return START_WITHIN if said is None else TypeAdapter(timedelta).validate_python(said).total_seconds()


def pod_template(options: Mapping[str, Any], resources: Resources, parts: PodParts) -> Manifest:
    """The template of the pods of a Job.

    :param options: the task's block.
    :param resources: what each of its jobs asks for.
    :raises SubmissionRefused: the jobs would be root's, which the block does not allow.
    """
    spec: Manifest = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        "automountServiceAccountToken": "service_account" in options,
        "enableServiceLinks": False,
        "securityContext": _security(options, parts),
        "containers": [_container(options, resources, parts)],
        "volumes": [*_volumes(options), *map(dict, parts.volumes)],
        **_placement(options),
    }
    if parts.init_containers:
        spec["initContainers"] = [_secured(item, options, resources) for item in parts.init_containers]
    if parts.deadline is not None:
        spec["activeDeadlineSeconds"] = parts.deadline
    if secrets := options.get("image_pull_secrets"):
        spec["imagePullSecrets"] = [{"name": name} for name in secrets]
    template = {"metadata": _metadata(options, parts.labels, parts.annotations), "spec": spec}
    for patch in options.get("patch", ()):
        template = patched(template, patch)
    for item in template["spec"].get("initContainers", ()):
        # Those of a patch are no less restricted.
        item |= {**_capabilities(options), **item}
    return template


def job_manifest(
    name: str,
    namespace: str,
    template: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    completions: int,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> Manifest:
    """An Indexed Job that runs each of its indexes once: the ledger decides what is tried again.

    :param template: of :func:`pod_template`.
    :param options: the task's block.
    :param completions: how many indexes it has.
    :param labels: of this package; Kueue's is added. :param annotations: likewise.
    """
    metadata = _metadata(options, labels, annotations)
    if queue := options.get("queue"):
        metadata["labels"][QUEUE] = queue
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": min(completions, options.get("parallelism", PARALLELISM)),
            "backoffLimitPerIndex": 0,
            "ttlSecondsAfterFinished": DAYS_KEPT * 86_400,
            "template": dict(template),
        },
    }


def _metadata(options: Mapping[str, Any], labels: Mapping[str, str], annotations: Mapping[str, str]) -> Manifest:
    return {
        "labels": {**options.get("labels", {}), **labels},
        "annotations": {**options.get("annotations", {}), **annotations},
    }


def _security(options: Mapping[str, Any], parts: PodParts) -> Manifest:
    user = options.get("run_as_user", parts.user)
    restricted = options.get("restricted", True)
    if restricted and user == 0:
        raise SubmissionRefused(
            "Airflow runs as root here, and restricted pods do not",
            "say kubernetes: {restricted: false}; or run_as_user, a user who may write into what Airflow's root makes",
        )
    found: Manifest = {"runAsUser": user, "runAsGroup": options.get("run_as_group", parts.group)}
    if groups := options.get("supplemental_groups"):
        found["supplementalGroups"] = list(groups)
    if "fs_group" in options:
        # Without OnRootMismatch every pod would walk through the whole spool.
        found |= {"fsGroup": options["fs_group"], "fsGroupChangePolicy": "OnRootMismatch"}
    if restricted:
        found |= {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return found


def _secured(container: Mapping[str, Any], options: Mapping[str, Any], resources: Resources) -> Manifest:
    """A container as Pod Security and quotas want each."""
    return {"resources": _resources(options, resources), **container, **_capabilities(options)}


def _capabilities(options: Mapping[str, Any]) -> Manifest:
    if not options.get("restricted", True):
        return {}
    return {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}


def _container(options: Mapping[str, Any], resources: Resources, parts: PodParts) -> Manifest:
    environment: list[Manifest] = [{"name": name, "value": value} for name, value in parts.environment.items()]
    environment += [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in parts.fields.items()
    ]
    secrets = options.get("secret_environment", {})
    environment += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": item["secret"], "key": item["key"]}}}
        for name, item in secrets.items()
    ]
    container: Manifest = {
        "name": JOB,
        "image": options["image"],
        "command": list(parts.command),
        "env": environment,
        "volumeMounts": [
            *_mounts(options, parts.home),
            *map(dict, parts.mounts),
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if policy := options.get("image_pull_policy"):
        container["imagePullPolicy"] = policy
    return _secured(container, options, resources)


def _resources(options: Mapping[str, Any], resources: Resources) -> Manifest:
    """Requests and limits: only CPUs may be more than was asked for, where the node has some left."""
    limits = {name: str(amount) for name, amount in options.get("extended_resources", {}).items()}
    if resources.memory is not None:
        limits["memory"] = str(resources.memory)
    if resources.disk is not None:
        limits["ephemeral-storage"] = str(resources.disk)
    if resources.gpus:
        limits[options.get("gpu_resource", GPU)] = str(resources.gpus)
    cpus = str(options.get("cpu_request", resources.cpus))
    return {"requests": {"cpu": cpus, **limits}, **({"limits": limits} if limits else {})}


def _mount(name: str, volume: Mapping[str, Any]) -> Manifest:
    found: Manifest = {"name": name, "mountPath": volume["mount"]}
    if "sub_path" in volume:
        found["subPath"] = volume["sub_path"]
    if volume.get("read_only"):
        found["readOnly"] = True
    return found


def _shared(options: Mapping[str, Any]) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
    """Source → its names and what is said of it: a pod that has one claim as two volumes never starts."""
    found: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for name, volume in ((SPOOL, options["spool"]), *options.get("volumes", {}).items()):
        found.setdefault(json.dumps(_source(volume), sort_keys=True), []).append((name, volume))
    return found


def _volumes(options: Mapping[str, Any]) -> list[Manifest]:
    return [{"name": same[0][0], **_source(same[0][1])} for same in _shared(options).values()]


def _mounts(options: Mapping[str, Any], home: str) -> Iterator[Manifest]:
    for (first, _), *more in _shared(options).values():
        if first == SPOOL:
            yield _mount(first, {**options["spool"], "mount": spool_mount(options, home)})
        else:
            yield _mount(first, options["volumes"][first])
        yield from (_mount(first, volume) for _, volume in more)


def _source(volume: Mapping[str, Any]) -> Manifest:
    if "pvc" in volume:
        return {"persistentVolumeClaim": {"claimName": volume["pvc"]}}
    if "host_path" in volume:
        # Without a type a missing folder would be made, on the node's own disk.
        return {"hostPath": {"path": volume["host_path"], "type": "Directory"}}
    if "nfs" in volume:
        return {"nfs": dict(volume["nfs"])}
    if "config_map" in volume:
        return {"configMap": {"name": volume["config_map"]}}
    return {"secret": {"secretName": volume["secret"]}}


def _placement(options: Mapping[str, Any]) -> Manifest:
    names = {
        "priority_class": "priorityClassName",
        "scheduler": "schedulerName",
        "runtime_class": "runtimeClassName",
        "service_account": "serviceAccountName",
        "node_selector": "nodeSelector",
        "affinity": "affinity",
    }
    found = {theirs: options[ours] for ours, theirs in names.items() if ours in options}
    if tolerations := options.get("tolerations"):
        found["tolerations"] = [_toleration(item) for item in tolerations]
    return found


def _toleration(item: Mapping[str, Any]) -> Manifest:
    found = {key: item[key] for key in ("key", "operator", "value", "effect") if key in item}
    if "seconds" in item:
        found["tolerationSeconds"] = item["seconds"]
    return found
