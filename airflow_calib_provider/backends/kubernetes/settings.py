"""What a connection says of a cluster, and the configuration of a client of one's own that follows from it."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_calib_provider.backends.kubernetes.names import DNS_LABEL
from airflow_calib_provider.errors import BackendError

DEFAULT_CONNECTION = "kubernetes_default"

_PLUGIN_SECONDS = 20
"""For a program of a kubeconfig that makes credentials."""

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class KubernetesSettings:
    """One way to reach an API server: with no word about it the pod's own service account, else the usual kubeconfig.

    :ivar name: the connection's id.
    :ivar in_cluster: the service account of the pod that this process runs in.
    :ivar kube_config_path: a kubeconfig file on every Airflow machine.
    :ivar kube_config: the content of one.
    :ivar cluster_context: which of its contexts; empty: its current one.
    :ivar namespace: where the jobs run; empty: that of the context or the pod, else ``default``.
    :ivar verify: whether the server's certificate is checked.
    :ivar keep_alive: whether idle connections are probed, so that a dead one is seen.
    """

    name: str = DEFAULT_CONNECTION
    in_cluster: bool = False
    kube_config_path: str = ""
    kube_config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    cluster_context: str = ""
    namespace: str = ""
    verify: bool = True
    keep_alive: bool = True

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", self.name):
            raise self._wrong(f"its id {self.name!r} is not a name", "use letters, digits, '_', '-' and '.'")
        stated = [key for key in ("in_cluster", "kube_config_path", "kube_config") if getattr(self, key)]
        if len(stated) > 1:
            raise self._wrong(
                f"it has {' and '.join(stated)}", "one of them; without any, what is usual there is taken"
            )
        if self.in_cluster and self.cluster_context:
            raise self._wrong("it has a cluster_context and is in_cluster", "a context is one of a kubeconfig")
        if self.namespace and not DNS_LABEL.fullmatch(self.namespace):
            raise self._wrong(f"its namespace {self.namespace!r} is not a name", "small letters, digits and '-'")

    def _wrong(self, what: str, hint: str = "") -> BackendError:
        return BackendError(f"the connection {self.name}: {what}", hint)

    def access(self) -> ClusterAccess:
        """Where the API server is, as whom one speaks to it, and the namespace of the jobs.

        What the connection says is read now; a token that a file or a program renews is renewed by the client. Nothing
        is set for the process as a whole: another connection may lead to another cluster.

        :raises BackendError: it leads nowhere: no such file or context, or not in a cluster.
        """
        from kubernetes.client import Configuration
        from kubernetes.config import ConfigException
        from yaml import YAMLError

        # Calling the class gives a copy of what others have made the process's default.
        configuration = type.__call__(Configuration)
        try:
            namespace = self._load(configuration)
        except (ConfigException, OSError, YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
            # Of these the client raises the last five for a kubeconfig of another shape.
            raise self._wrong(f"its configuration cannot be used: {_said(error)}", self._hint(error)) from (
                error if _is_known(error) else None
            )
        if not self.verify:
            configuration.verify_ssl = False
        return ClusterAccess(configuration, self.namespace or namespace or "default")

    def _hint(self, error: Exception) -> str:
        if self.in_cluster:
            return "in_cluster is for an Airflow in the cluster; elsewhere it is kube_config_path or kube_config"
        if self.cluster_context and _is_known(error) and self.cluster_context in str(error):
            return f"cluster_context is {self.cluster_context!r}; `kubectl config get-contexts` lists those of a file"
        return "say in_cluster, kube_config_path or kube_config in the connection"

    def _load(self, configuration: Any) -> str:
        """Fill a client's configuration in; returns the namespace that goes with it, if any."""
        from kubernetes import config

        if self.in_cluster or (not self.kube_config_path and not self.kube_config and _in_a_pod()):
            config.load_incluster_config(client_configuration=configuration)
            return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else ""
        source: dict[str, Any] = {"filename": self.kube_config_path or config.KUBE_CONFIG_DEFAULT_LOCATION}
        if self.kube_config:
            source = {"config_dict": copy.deepcopy(dict(self.kube_config))}
        elif self.kube_config_path and not Path(self.kube_config_path).is_file():
            raise FileNotFoundError(f"there is no file {self.kube_config_path}")
        loader = config.kube_config._get_kube_config_loader(active_context=self.cluster_context or None, **source)
        _bound_plugin(loader)
        loader.load_and_set(configuration)
        return str(loader.current_context.get("context", {}).get("namespace") or "")


@dataclass(frozen=True)
class ClusterAccess:
    """How to speak to a cluster.

    :ivar configuration: a ``kubernetes.client.Configuration`` of its own, with credentials.
    :ivar namespace: where the jobs run.
    """

    configuration: Any = field(repr=False)
    namespace: str


def _in_a_pod() -> bool:
    return _OWN_NAMESPACE.with_name("token").is_file()


def _bound_plugin(loader: Any) -> None:
    """Give the program of a kubeconfig that makes credentials a time limit: it may wait for a person who logs in."""
    user = getattr(loader._user, "value", None)
    plugin = user.get("exec") if isinstance(user, dict) else None
    limiter = shutil.which("timeout")
    if limiter and isinstance(plugin, dict) and isinstance(plugin.get("command"), str):
        plugin["args"] = ["-k", "1", f"{_PLUGIN_SECONDS}", plugin["command"], *(plugin.get("args") or ())]
        plugin["command"] = limiter


def _said(error: Exception) -> str:
    """Without what the kubeconfig holds: messages of the client quote parts of it only for these."""
    return str(error) if _is_known(error) else f"it is not a kubeconfig ({type(error).__name__})"


def _is_known(error: Exception) -> bool:
    from kubernetes.config import ConfigException

    return isinstance(error, ConfigException | OSError)
