"""CondorJobsOperator: thousands of jobs on an HTCondor pool, from one task of a hand-written DAG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_calib_provider.operators.dag_jobs import DagJobsOperator


class CondorJobsOperator(DagJobsOperator):
    """A job set on an HTCondor pool; no YAML is needed.

    .. code-block:: python

        fit = CondorJobsOperator(
            task_id="fit",
            command=["/data/fit.sh", "{{ ds }}", "{{ job.index }}"],
            count=200,
            memory="2GB",
            products={"histogram": "histogram.root"},
        )

    All arguments but these are those of :class:`~airflow_calib_provider.operators.dag_jobs.DagJobsOperator`.

    :param condor: how the jobs run on the pool; the keys are those of ``condor`` in a spec, ``files`` are plain paths.
    :param condor_conn_id: the Airflow connection to the pool.
    """

    def __init__(
        self, *, condor: Mapping[str, object] | None = None, condor_conn_id: str = "calib_condor", **kwargs: Any
    ) -> None:
        self._condor = condor
        self.condor_conn_id = condor_conn_id
        super().__init__(**kwargs)

    @property
    def backend(self) -> str:
        """The pool of the connection, as a backend's name."""
        from airflow_calib_provider.backends.condor.settings import DEFAULT_CONNECTION

        return "condor" if self.condor_conn_id == DEFAULT_CONNECTION else f"condor:{self.condor_conn_id}"

    @property
    def options(self) -> Mapping[str, object]:
        """What the submit descriptions get."""
        return {"condor": self._condor}

    def _mistakes(self) -> list[str]:
        from airflow_calib_provider.domain.scalars import CONNECTION

        found = super()._mistakes()
        if not isinstance(self.condor_conn_id, str) or not CONNECTION.fullmatch(self.condor_conn_id):
            found.append(f"condor_conn_id is {self.condor_conn_id!r}; expected the id of an Airflow connection")
        return found
