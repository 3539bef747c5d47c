"""A strategic merge patch of a pod template: what it must not touch, and how it is applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic_core import PydanticCustomError

from airflow_calib_provider.backends.kubernetes.names import JOB, OURS
from airflow_calib_provider.domain import nodes
from airflow_calib_provider.domain.keys import Where
from airflow_calib_provider.domain.scalars import WHAT, Reads, boolean, integer, mistake, number, unlike
from airflow_calib_provider.spec.templates import is_template

Found = Iterator[tuple[Where, PydanticCustomError]]
"""Mistakes, each with its place."""

MERGED_BY = {
    "containers": "name",
    "env": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "resourceClaims": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Lists of a pod whose elements are merged, and by which of their keys; all others are replaced as a whole."""

_OF_POD = {
    "restartPolicy": "the ledger starts jobs again",
    "activeDeadlineSeconds": "say it with jobs.timeout",
    "hostname": "",
    "subdomain": "",
    "automountServiceAccountToken": "say it with kubernetes.service_account",
    "serviceAccountName": "say it with kubernetes.service_account",
    "serviceAccount": "say it with kubernetes.service_account",
    "ephemeralContainers": "",
}
_OF_JOB = {
    "args": "say it with jobs.command",
    "command": "say it with jobs.command",
    "envFrom": "say it with jobs.environment or kubernetes.secret_environment",
    "image": "say it with kubernetes.image",
    "imagePullPolicy": "say it with kubernetes.image_pull_policy",
    "resources": "say it with jobs.resources and kubernetes.extended_resources",
    "terminationMessagePath": "",
    "terminationMessagePolicy": "",
    "workingDir": "a job runs in CALIB_OUT",
}
_LOOSE = ("hostIPC", "hostNetwork", "hostPID", "hostUsers", "securityContext", "shareProcessNamespace")
"""What a pod under the Pod Security Standard ``restricted`` has as it stands there."""


def _raw(value: object) -> Any:
    if isinstance(value, dict):
        return {str(key): _raw(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_raw(item) for item in value]
    if isinstance(value, nodes.Scalar):
        return _single(value)
    raise unlike(value, "values as in a manifest")


def _single(value: nodes.Scalar) -> Any:
    if value.kind == "null":
        return None
    if value.kind == "bool":
        return boolean(value)
    if value.kind == "int":
        return integer(value, -(2**63), 2**63 - 1)
    if value.kind == "float":
        return number(value)
    if value.kind != "text":
        raise mistake(f"{WHAT} has {value.text!r}, which YAML reads in several ways", f'"{value.text}" in quotes')
    if is_template(value.text):
        raise mistake(f"{WHAT} has a template", "plain text", "templates stand in command, inputs and environment")
    return value.text


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise unlike(value, "a mapping as in a manifest")
    found: dict[str, Any] = _raw(value)
    return found


Manifest = Annotated[dict[str, Any], Reads(_mapping, {"type": "object"}, "mapping as in a manifest")]


def mistakes_of(patch: Mapping[str, Any]) -> Found:
    """What a patch must not touch, each with its place in it."""
    yield from _directives(patch, ())
    for key in patch:
        if key != "spec":
            expected = "kubernetes.labels or kubernetes.annotations" if key == "metadata" else "patch: {spec: …}"
            yield (key,), mistake(f"a patch of the pod template has {key!r}", expected, at_key=True)
    spec = patch.get("spec", {})
    if not isinstance(spec, Mapping):
        yield ("spec",), mistake("the patch's spec is not a mapping", "patch: {spec: …}")
        return
    for key in spec:
        if key in _OF_POD:
            yield ("spec", key), _refused(key, _OF_POD[key])
    yield from _lists(spec, ("spec",))
    yield from _containers(spec)
    yield from _reserved(spec, "initContainers")
    yield from _reserved(spec, "volumes")


def _refused(key: str, hint: str) -> PydanticCustomError:
    return mistake(f"a patch cannot set {key}", "another key", hint, at_key=True)


def loose_in(patch: Mapping[str, Any]) -> Iterator[str]:
    """What a patch sets that a pod under the Pod Security Standard ``restricted`` has as it is."""
    spec = patch.get("spec")
    yield from (key for key in _LOOSE if isinstance(spec, Mapping) and key in spec)
    for containers in ("containers", "initContainers"):
        for _, item in elements(spec, containers):
            yield from (f"{key} of the container {item['name']}" for key in item if key in _LOOSE)


def _directives(value: object, where: Where) -> Found:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key.startswith("$"):
                said = f"{key!r} in a patch"
                yield (*where, key), mistake(said, "the values themselves; null removes one", at_key=True)
            yield from _directives(item, (*where, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _directives(item, (*where, position))


def _lists(value: Mapping[str, Any], where: Where) -> Found:
    """Elements without the key that says which one is meant."""
    for key, items in value.items():
        if isinstance(items, Mapping):
            yield from _lists(items, (*where, key))
        if key not in MERGED_BY:
            continue
        if not isinstance(items, list):
            yield (*where, key), mistake(f"{key} in a patch is not a list", f"a list; {MERGED_BY[key]} says of which")
            continue
        for position, item in enumerate(items):
            place = (*where, key, position)
            if not isinstance(item, Mapping) or not isinstance(item.get(MERGED_BY[key]), str | int):
                yield place, mistake(f"an element of {key} without {MERGED_BY[key]}", f"{{{MERGED_BY[key]}: …}}")
            else:
                yield from _lists(item, place)


def elements(above: object, key: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The elements of a list of :data:`MERGED_BY` that are as they should be, with their positions."""
    items = above.get(key) if isinstance(above, Mapping) else None
    for position, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, Mapping) and MERGED_BY[key] in item:
            yield position, item


def _containers(spec: Mapping[str, Any]) -> Found:
    for position, item in elements(spec, "containers"):
        where: Where = ("spec", "containers", position)
        if item["name"] != JOB:
            hint = "what runs beside it is an initContainer with restartPolicy: Always"
            yield (*where, "name"), mistake(f"the container {item['name']!r}", f"name: {JOB}", hint)
            continue
        for key in item:
            if key in _OF_JOB:
                yield (*where, key), _refused(key, _OF_JOB[key])
        yield from _contract(item, where)


def _contract(item: Mapping[str, Any], where: Where) -> Found:
    for number_, variable in elements(item, "env"):
        if str(variable["name"]).startswith("CALIB_"):
            said = f"{variable['name']} is set for every job, and cannot be set otherwise"
            yield (*where, "env", number_), mistake(said, "another name")


def _reserved(spec: Mapping[str, Any], key: str) -> Found:
    for position, item in elements(spec, key):
        if str(item["name"]).startswith(OURS):
            said = f"{item['name']!r} begins with {OURS!r}, as what this package adds does"
            yield ("spec", key, position, "name"), mistake(said, "another name")


def patched(value: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A value with a strategic merge patch applied: mappings key by key, lists of :data:`MERGED_BY` by that key.

    ``None`` removes a key. Neither argument is changed.
    """
    result = dict(value)
    for key, new in patch.items():
        old = result.get(key)
        if new is None:
            result.pop(key, None)
        elif isinstance(new, Mapping):
            result[key] = patched(old if isinstance(old, Mapping) else {}, new)
        elif key in MERGED_BY:
            result[key] = _merged(old if isinstance(old, list) else [], new, MERGED_BY[key])
        else:
            result[key] = new
    return result


def _merged(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], by: str) -> list[dict[str, Any]]:
    found = {item[by]: dict(item) for item in old}
    for item in new:
        found[item[by]] = patched(found.get(item[by], {}), item)
    return list(found.values())
