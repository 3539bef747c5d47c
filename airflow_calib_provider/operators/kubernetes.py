"""KubernetesJobsOperator: thousands of jobs on a Kubernetes cluster, from one task of a hand-written DAG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_calib_provider.operators.dag_jobs import DagJobsOperator


class KubernetesJobsOperator(DagJobsOperator):
    """A job set on a Kubernetes cluster, as Indexed Jobs; no YAML is needed.

    .. code-block:: python

        fit = KubernetesJobsOperator(
            task_id="fit",
            command=["/software/fit", "{{ ds }}", "{{ job.index }}"],
            count=200,
            memory="2GB",
            products={"histogram": "histogram.root"},
            kubernetes={"image": "registry.example.org/calib/fit:1.2", "spool": {"pvc": "calib"}},
        )

    All arguments but these are those of :class:`~airflow_calib_provider.operators.dag_jobs.DagJobsOperator`.

    :param kubernetes: how the jobs run on the cluster; the keys are those of ``kubernetes`` in a spec, of which
        ``image`` and ``spool`` must be there.
    :param kubernetes_conn_id: the Airflow connection to the cluster.
    """

    def __init__(
        self, *, kubernetes: Mapping[str, object], kubernetes_conn_id: str = "kubernetes_default", **kwargs: Any
    ) -> None:
        self._kubernetes = kubernetes
        self.kubernetes_conn_id = kubernetes_conn_id
        super().__init__(**kwargs)

    @property
    def backend(self) -> str:
        """The cluster of the connection, as a backend's name."""
        from airflow_calib_provider.backends.kubernetes.settings import DEFAULT_CONNECTION

        own = self.kubernetes_conn_id == DEFAULT_CONNECTION
        return "kubernetes" if own else f"kubernetes:{self.kubernetes_conn_id}"

    @property
    def options(self) -> Mapping[str, object]:
        """What the Jobs and their pods get."""
        return {"kubernetes": self._kubernetes}

    def _mistakes(self) -> list[str]:
        from airflow_calib_provider.domain.scalars import CONNECTION

        found = super()._mistakes()
        if not isinstance(self.kubernetes_conn_id, str) or not CONNECTION.fullmatch(self.kubernetes_conn_id):
            found.append(f"kubernetes_conn_id is {self.kubernetes_conn_id!r}; expected the id of an Airflow connection")
        return found
