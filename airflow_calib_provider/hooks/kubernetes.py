"""Airflow's connection to a Kubernetes cluster, whose form is that of the provider ``cncf.kubernetes``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_calib_provider.backends.kubernetes.backend import KubernetesBackend
    from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings

CONNECTION_TYPE = "kubernetes"
_OLD_PREFIX = "extra__kubernetes__"


def kubernetes_settings(connection: Connection) -> KubernetesSettings:
    """What a connection says of a cluster.

    Its extra fields are those of the provider ``cncf.kubernetes``, also with their prefix of Airflow before 2.3; what
    they say of that provider's own pods is not read.

    :raises BackendError: it is of another type, or fields contradict each other or have no meaning.
    """
    from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings
    from airflow_calib_provider.errors import BackendError

    name = str(connection.conn_id or "kubernetes_default")
    if connection.conn_type != CONNECTION_TYPE:
        raise BackendError(
            f"the connection {name} has the type {connection.conn_type!r}", f"give it the type {CONNECTION_TYPE!r}"
        )
    fields = _Fields(name, connection.extra_dejson)
    return KubernetesSettings(
        name,
        in_cluster=fields.flag("in_cluster"),
        kube_config_path=fields.text("kube_config_path"),
        kube_config=fields.config(),
        cluster_context=fields.text("cluster_context"),
        namespace=fields.text("namespace"),
        verify=not fields.flag("disable_verify_ssl"),
        keep_alive=not fields.flag("disable_tcp_keepalive"),
    )


class _Fields:
    """Extra fields, of which an empty one is as if it were not there."""

    def __init__(self, name: str, extra: Mapping[str, Any]) -> None:
        self.name = name
        self.extra = extra

    def value(self, field: str) -> Any:
        return self.extra.get(field, self.extra.get(_OLD_PREFIX + field))

    def flag(self, field: str) -> bool:
        value = self.value(field)
        if value is None or value == "":
            return False
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        raise self._wrong(f"{field} is {value!r}", "true or false")

    def text(self, field: str) -> str:
        value = self.value(field)
        if value is None:
            return ""
        if not isinstance(value, str) or not value.isprintable():
            raise self._wrong(f"{field} is no text of one line", "text")
        return value.strip()

    def config(self) -> Mapping[str, Any]:
        value = self.value("kube_config")
        if isinstance(value, str) and value.strip():
            try:
                value = json.loads(value)
            except ValueError:
                # Not said why: the decoder's words would be kept with the text, which holds credentials.
                raise self._wrong("kube_config is not JSON", "a kubeconfig as JSON") from None
        if value is None or value == "":
            return {}
        if not isinstance(value, Mapping):
            raise self._wrong("kube_config is no mapping", "a kubeconfig as JSON")
        return value

    def _wrong(self, what: str, expected: str) -> Exception:
        from airflow_calib_provider.errors import BackendError

        return BackendError(f"the connection {self.name}: {what}", f"expected {expected}")


class KubernetesJobsHook(BaseHook):
    """A Kubernetes cluster for job sets, for code in a task of one's own.

    :param kubernetes_conn_id: the connection.
    """

    conn_name_attr = "kubernetes_conn_id"
    default_conn_name = "kubernetes_default"
    conn_type = CONNECTION_TYPE
    hook_name = "Kubernetes Cluster Connection"

    def __init__(self, kubernetes_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kubernetes_conn_id = kubernetes_conn_id

    def get_conn(self) -> KubernetesBackend:
        """The cluster, to submit to, look at and remove from.

        :raises BackendError: the connection's fields are not what they should be.
        """
        from airflow_calib_provider.backends.kubernetes.backend import KubernetesBackend

        return KubernetesBackend(kubernetes_settings(self.get_connection(self.kubernetes_conn_id)))

    def test_connection(self) -> tuple[bool, str]:
        """Whether the API server answers, as whom, and which right is missing; else what is wrong."""
        from airflow_calib_provider.errors import CalibError

        try:
            cluster = self.get_conn()
            try:
                return True, cluster.check()
            finally:
                cluster.close()
        except CalibError as error:
            return False, str(error)
