"""A Kubernetes API server, as tests talk to it: with every right, or with a service account's."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

CALL_SECONDS = 30.0
WAIT_SECONDS = 60.0
TOKEN_SECONDS = 7200
CORE = "/api/v1"
RIGHTS = Path(__file__).parents[2] / "deploy" / "kubernetes" / "rights.yaml"


def until(condition: Callable[[], Any], seconds: float = WAIT_SECONDS, what: str = "it") -> Any:
    """Wait for a condition, and give what it gave.

    Raises:
        TimeoutError: it did not come.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.1)
    return found


class Api:
    """Calls to an API server.

    Args:
        kubeconfig: the file of a client's settings.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._client: ApiClient | None = None

    @property
    def client(self) -> ApiClient:
        """Kubernetes' own Python client, for more than :meth:`call` can."""
        if self._client is None:
            from kubernetes.config import new_client_from_config  # takes 2 s

            self._client = new_client_from_config(str(self.kubeconfig))
            self._client.configuration.retries = False
        return self._client

    def call(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", **query: Any
    ) -> dict[str, Any]:
        """Make one call.

        Args:
            method: GET, POST, …
            path: with ``/api/v1`` or ``/apis/GROUP/VERSION``.
            body: an object, or a text.
            kind: the body's type; patches have types of their own.
            query: parameters.

        Raises:
            kubernetes.client.ApiException: it was refused.
        """
        found: dict[str, Any] = json.loads(self.read(method, path, body, kind=kind, **query))
        return found

    def read(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        seconds: float = CALL_SECONDS,
        **query: Any,
    ) -> bytes:
        """Make one call, and give what was answered as it is; else as :meth:`call`.

        Args:
            seconds: how long it may take.
        """
        answer: bytes = self.client.call_api(
            path,
            method,
            query_params=list(query.items()),
            header_params={"Content-Type": kind, "Accept": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=(seconds, seconds),
        ).data
        return answer

    def items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """A whole list."""
        found: list[dict[str, Any]] = self.call("GET", path, **query)["items"]
        return found

    def answers(self) -> bool:
        """Whether the server is there and ready."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return self.read("GET", "/readyz", seconds=2) == b"ok"
        except (ApiException, HTTPError, OSError):
            return False

    # --- For one test

    @contextmanager
    def namespace(self, security: str = "privileged") -> Iterator[Namespace]:
        """A new namespace, which goes with all that is in it.

        Args:
            security: what its pods may do, by the standards of Pod Security: privileged, baseline or restricted.
        """
        name = f"test-{secrets.token_hex(4)}"
        labels = {"pod-security.kubernetes.io/enforce": security, "pod-security.kubernetes.io/warn": security}
        self.call("POST", f"{CORE}/namespaces", {"metadata": {"name": name, "labels": labels}})
        made = Namespace(self, name)
        try:
            until(made.account_exists, what="the service account")
            yield made
        finally:
            made.remove()


class Namespace:
    """A namespace of one test, and what it has.

    Attributes:
        api: with every right.
        name: of the namespace.
    """

    def __init__(self, api: Api, name: str) -> None:
        self.api, self.name = api, name
        self.volumes: list[str] = []

    def path(self, resource: str, name: str = "") -> str:
        """The path of a resource, or of one object: jobs, pods, configmaps, …"""
        groups = {"jobs": "/apis/batch/v1", "roles": "/apis/rbac.authorization.k8s.io/v1"}
        groups |= {"rolebindings": groups["roles"], "poddisruptionbudgets": "/apis/policy/v1"}
        whole = f"{groups.get(resource, CORE)}/namespaces/{self.name}/{resource}"
        return f"{whole}/{name}" if name else whole

    def create(self, resource: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create one object."""
        return self.api.call("POST", self.path(resource), manifest)

    def get(self, resource: str, name: str) -> dict[str, Any]:
        """One object as it is."""
        return self.api.call("GET", self.path(resource, name))

    def list(self, resource: str, **query: Any) -> list[dict[str, Any]]:
        """All objects of a kind; ``labelSelector`` and ``fieldSelector`` choose."""
        return self.api.items(self.path(resource), **query)

    def delete(self, resource: str, name: str, **query: Any) -> None:
        """Delete one object, and what belongs to it."""
        self.api.call("DELETE", self.path(resource, name), **{"propagationPolicy": "Background", **query})

    def log(self, pod: str) -> str:
        """What a pod has written so far."""
        return self.api.read("GET", self.path("pods", f"{pod}/log")).decode(errors="replace")

    def events(self) -> list[str]:
        """Reasons and messages of all events so far."""
        return [f"{event['reason']}: {event['message']}" for event in self.list("events")]

    def claim(self, folder: Path, name: str = "spool") -> str:
        """A claim on a volume that is a folder of this machine; its name is returned."""
        volume = f"{self.name}-{name}"
        size = {"storage": "10Gi"}
        spec = {
            "capacity": size,
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": self.name, "name": name},
            "hostPath": {"path": str(folder), "type": "Directory"},
        }
        self.api.call("POST", f"{CORE}/persistentvolumes", {"metadata": {"name": volume}, "spec": spec})
        self.volumes.append(volume)
        wanted = {"accessModes": ["ReadWriteMany"], "resources": {"requests": size}, "storageClassName": ""}
        self.create("persistentvolumeclaims", {"metadata": {"name": name}, "spec": wanted | {"volumeName": volume}})
        return name

    def account(self, name: str = "default") -> Path:
        """The settings of a client that has the rights of a service account and no more, as a file.

        Args:
            name: the account's, which is there.
        """
        ask = {"spec": {"expirationSeconds": TOKEN_SECONDS}}
        token = self.api.call("POST", self.path("serviceaccounts", f"{name}/token"), ask)["status"]["token"]
        settings = yaml.safe_load(self.api.kubeconfig.read_text())
        settings["users"] = [{"name": one["name"], "user": {"token": token}} for one in settings["users"]]
        for context in settings["contexts"]:
            context["context"]["namespace"] = self.name
        file = self.api.kubeconfig.with_name(f"{self.name}-{name}.json")
        file.touch(mode=0o600)
        file.write_text(json.dumps(settings))
        return file

    def airflow(self) -> Path:
        """The settings of a client with the rights that deploy/kubernetes gives to Airflow, and no more, as a file."""
        plurals = {"ServiceAccount": "serviceaccounts", "Role": "roles", "RoleBinding": "rolebindings"}
        for manifest in yaml.safe_load_all(RIGHTS.read_text()):
            self.create(plurals[manifest["kind"]], manifest)
        return self.account("calib-airflow")

    def account_exists(self) -> bool:
        """Whether pods may be made already."""
        return "default" in [one["metadata"]["name"] for one in self.list("serviceaccounts")]

    def remove(self) -> None:
        """Remove it, without waiting for the end of its pods."""
        for file in self.api.kubeconfig.parent.glob(f"{self.name}-*.json"):
            file.unlink()
        self.api.call("DELETE", f"{CORE}/namespaces/{self.name}")
        for volume in self.volumes:
            self.api.call("DELETE", f"{CORE}/persistentvolumes/{volume}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
