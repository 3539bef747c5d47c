"""Names, labels, paths and quantities as Kubernetes takes them, and those that a spec cannot set: this package does."""

from __future__ import annotations

import re
from posixpath import normpath
from typing import Annotated

from airflow_calib_provider.domain import nodes
from airflow_calib_provider.domain.scalars import WHAT, Reads, Schema, filled, integer, mistake, text, unlike
from airflow_calib_provider.spec.templates import is_template

PREFIX = "airflow-calib-provider/"
"""Of the labels and annotations that this package sets."""
OURS = "calib-"
"""How the names of our own volumes and containers of a pod begin."""
JOB = "job"
"""The container of a pod in which the job runs."""
QUEUE = "kueue.x-k8s.io/queue-name"
"""The label of a Job by which Kueue finds its queue."""
GPU = "nvidia.com/gpu"
"""The resource that ``resources.gpus`` asks for unless a spec says otherwise."""

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
DNS_LABEL = re.compile(_LABEL, re.ASCII)
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_QUALIFIED = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*/)?{_WORD}", re.ASCII)
LABEL_VALUE = re.compile(rf"(?:{_WORD})?", re.ASCII)
_KEY_OF_DATA = re.compile(r"(?!\.{1,2}$)[-._A-Za-z0-9]{1,253}", re.ASCII)
_IMAGE = re.compile(
    r"(?:[A-Za-z0-9][-A-Za-z0-9.]*(?::[0-9]{1,5})?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(?::[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(?:@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
_QUANTITY = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?(?:m|k|[KMGTPE]i?)?", re.ASCII)
_HINTS = {
    "cpu": "jobs.resources.cpus",
    "memory": "jobs.resources.memory",
    "ephemeral-storage": "jobs.resources.disk",
}
_TAKEN = ("batch.kubernetes.io/", "controller-uid", "job-name", PREFIX)


def plain_text(value: object) -> str:
    """A text that is no template."""
    found = text(value)
    if is_template(found):
        raise mistake(f"{WHAT} is a template", "plain text", "templates stand in command, inputs and environment")
    return found


def _matching(pattern: re.Pattern[str], called: str, expected: str, longest: int) -> Reads:
    def read(value: object) -> str:
        found = plain_text(value)
        if not pattern.fullmatch(found) or len(found) > longest:
            raise mistake(f"{WHAT} {found[:80]!r} is not {called}", expected)
        return found

    return Reads(read, {"type": "string", "pattern": f"^{pattern.pattern}$", "maxLength": longest}, "name")


_IN_LABELS = "letters, digits, '-', '_' and '.', at most 63, a letter or digit at both ends"
_QUALIFIED_WORDS = f"{_IN_LABELS}; before it a DNS name and '/' if you like"


def _qualified(value: object, called: str) -> str:
    found = plain_text(value)
    prefix, slash, _ = found.rpartition("/")
    if not _QUALIFIED.fullmatch(found) or len(prefix) > 253 or (slash and not prefix):
        raise mistake(f"{found[:80]!r} is no key of {called}", _QUALIFIED_WORDS)
    return found


def _label_key(value: object) -> str:
    found = _qualified(value, "a label")
    if found == QUEUE:
        raise mistake(f"the label {found!r} is Kueue's", "kubernetes.queue")
    return _own(found, "label")


def _own(found: str, what: str) -> str:
    if found.startswith(_TAKEN):
        raise mistake(f"{found!r} is set by Kubernetes or this package", f"a {what} of your own")
    return found


def _image(value: object) -> str:
    found = plain_text(value)
    if not _IMAGE.fullmatch(found) or len(found) > 500:
        said = f"{WHAT} {found[:80]!r} is no image"
        raise mistake(said, "such as registry.example.org/calib/fit:1.2, or with @sha256:…", _image_hint(found))
    return found


def _image_hint(found: str) -> str:
    bare = found.removeprefix("docker://")
    if bare != found:
        return f"without the protocol: {bare!r}"
    return f"in small letters: {found.lower()!r}" if _IMAGE.fullmatch(found.lower()) else ""


def _absolute(value: object) -> str:
    found = _path(value)
    if not found.startswith("/"):
        raise mistake(f"{WHAT} {found[:80]!r} is relative", "an absolute path")
    if normpath(found) == "/" or found.startswith("//"):
        raise mistake(f"{WHAT} is {found[:80]!r}", "a folder below /")
    return normpath(found)


def _relative(value: object) -> str:
    found = _path(value)
    if found.startswith("/"):
        raise mistake(f"{WHAT} {found[:80]!r} is absolute", "a path relative to the volume")
    return normpath(found)


def _path(value: object) -> str:
    found = plain_text(value)
    if not found.strip():
        raise mistake(f"{WHAT} is empty", "a path")
    if ".." in found.split("/"):
        raise mistake(f"{WHAT} {found[:80]!r} goes up with '..'", "a path without '..'")
    if ":" in found or not found.isprintable() or "$(" in found:
        raise mistake(f"{WHAT} {found[:80]!r} has a character that Kubernetes does not take there", "another path")
    return found


def _server(value: object) -> str:
    found = filled(plain_text(value) and value)
    if re.search(r"[\s/]", found):
        raise mistake(f"{WHAT} {found[:80]!r} is no host", "a host name or an address")
    return found


def _resource(value: object) -> str:
    found = _qualified(value, "a resource")
    if found in _HINTS:
        raise mistake(f"{found!r} stands elsewhere", _HINTS[found])
    if ("/" not in found and not found.startswith("hugepages-")) or found.startswith("requests."):
        raise mistake(f"{found!r} is no extended resource", "a name with a domain, such as example.org/fpga")
    return found


def _amount(value: object) -> int | str:
    if isinstance(value, nodes.Scalar) and value.kind == "int":
        return integer(value, 1, 10**9)
    found = text(value, "a whole number, or a quantity such as 64Mi")
    if not _QUANTITY.fullmatch(found):
        raise unlike(value, "a whole number, or a quantity such as 64Mi")
    return found


_TEXT: Schema = {"type": "string", "pattern": r"\S"}
_PATH: Schema = {"type": "string", "pattern": r"^[^:]+$"}

DnsLabel = Annotated[
    str,
    _matching(DNS_LABEL, "a name", "small letters, digits and '-', a letter or digit at both ends, at most 63", 63),
]
DnsName = Annotated[
    str,
    _matching(_DNS_NAME, "a name of Kubernetes", "small letters, digits, '-' and '.', at most 253", 253),
]
LabelValue = Annotated[str, _matching(LABEL_VALUE, "a value of a label", f"{_IN_LABELS}, or nothing", 63)]
DataKey = Annotated[str, _matching(_KEY_OF_DATA, "a key of a Secret", "letters, digits, '-', '_' and '.'", 253)]
LabelKey = Annotated[str, Reads(_label_key, _TEXT, "name")]
NodeLabel = Annotated[str, Reads(lambda value: _qualified(value, "a label"), _TEXT, "name")]
AnnotationKey = Annotated[str, Reads(lambda value: _own(_qualified(value, "an annotation"), "name"), _TEXT, "name")]
PlainText = Annotated[str, Reads(plain_text, {"type": "string", "not": {"pattern": r"\{\{"}}, "text")]
Image = Annotated[str, Reads(_image, _TEXT, "image")]
Absolute = Annotated[str, Reads(_absolute, {**_PATH, "pattern": "^/[^:]+$"}, "absolute path")]
Relative = Annotated[str, Reads(_relative, _PATH, "relative path")]
Server = Annotated[str, Reads(_server, _TEXT, "host")]
ResourceName = Annotated[str, Reads(_resource, _TEXT, "name")]
Amount = Annotated[int | str, Reads(_amount, {"type": ["integer", "string"]}, "whole number or quantity")]
