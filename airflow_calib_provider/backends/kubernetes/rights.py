"""What one may do on a cluster: the rights that are needed, and asking the API server for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_calib_provider.backends.kubernetes.client import ApiRefusal
from airflow_calib_provider.errors import BackendError

if TYPE_CHECKING:
    from airflow_calib_provider.backends.kubernetes.client import Api


@dataclass(frozen=True)
class Right:
    """A right in the namespace of the jobs.

    :ivar group: of the API; empty: the core's.
    :ivar resource: with its subresource.
    :ivar without: what is missing without it; empty: it is needed.
    """

    group: str
    resource: str
    verb: str
    without: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    @property
    def attributes(self) -> dict[str, str]:
        """As a SelfSubjectAccessReview asks for it."""
        resource, _, subresource = self.resource.partition("/")
        return {"group": self.group, "resource": resource, "subresource": subresource, "verb": self.verb}


RIGHTS = (
    *(Right("batch", "jobs", verb) for verb in ("create", "get", "list", "delete")),
    *(Right("", "pods", verb) for verb in ("list", "delete")),
    Right("", "pods/log", "get", "what a container said that died before it wrote anything is not told"),
    Right("", "events", "list", "why a pod cannot be made is not told"),
)


def check(api: Api) -> str:
    """Who answers, as whom one is known there, and what is not told for want of a right.

    :raises BackendError: the server does not answer, a right is missing, or the namespace.
    """
    namespace = api.namespace
    version = api.get("/version").get("gitVersion", "of an unknown version")
    user = _user(api)
    refused = [right for right in RIGHTS if not _may(api, right, namespace)]
    if needed := [right for right in refused if not right.without]:
        raise BackendError(
            f"{user} may not {_listed(needed)} in the namespace {namespace} of {api.host}",
            "docs/kubernetes.md has the Role that is needed",
        )
    _there(api, namespace)
    notes = "".join(f"; may not {right}: {right.without}" for right in refused)
    return f"{api.host} answers as Kubernetes {version}; {user} may run jobs in the namespace {namespace}{notes}"


def _there(api: Api, namespace: str) -> None:
    """:raises BackendError: there is no such namespace.

    Who may do everything may do it in one that does not exist, too, and only whoever may see namespaces could ask for
    it: so a Job is made that the server does not keep. What it says of that Job otherwise is not about the connection.
    """
    container = {"name": "job", "image": "none"}
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "calib-check"}, "spec": spec}
    try:
        api.create("jobs", job, dryRun="All")
    except ApiRefusal as error:
        if error.status == 404:
            hint = f"kubectl create namespace {namespace}; or name another one in the connection"
            raise BackendError(f"there is no namespace {namespace} in {api.host}", hint) from error


def _user(api: Api) -> str:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    made, _ = api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    return str(made.get("status", {}).get("userInfo", {}).get("username") or "an unknown user")


def _may(api: Api, right: Right, namespace: str) -> bool:
    review: dict[str, Any] = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {**right.attributes, "namespace": namespace}},
    }
    made, _ = api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool(made.get("status", {}).get("allowed"))


def _listed(rights: list[Right]) -> str:
    words = list(_by_resource(rights))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _by_resource(rights: list[Right]) -> Iterator[str]:
    """``create and get jobs``, ``list pods``."""
    for resource in dict.fromkeys(right.resource for right in rights):
        *most, last = [right.verb for right in rights if right.resource == resource]
        yield f"{', '.join(most)} and {last} {resource}" if most else f"{last} {resource}"
