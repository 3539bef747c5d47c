"""A component of Airflow that forks for each task, or for each look at a file: what those need is imported once.

``python -m airflow_calib_provider.dags.component scheduler`` is ``airflow scheduler``, but that each start of a task
costs a fifth of a second less.
"""

from __future__ import annotations

from importlib import import_module

_NEEDED = (
    "airflow.dag_processing.dagbag",
    "airflow.sdk.execution_time.task_runner",
    "airflow_calib_provider.backends.local.backend",
    "airflow_calib_provider.dags.factory",
    "airflow_calib_provider.dags.system",
    "airflow_calib_provider.injection.inject",
    "airflow_calib_provider.jobsets.advance",
    "airflow_calib_provider.jobsets.begin",
    "airflow_calib_provider.jobsets.publish",
    "airflow_calib_provider.ledger.planner",
    "airflow_calib_provider.spec.loader",
)


def main() -> None:
    """Run it."""
    # First of all of Airflow, as it asks for: the configuration is read on the way.
    airflow = import_module("airflow.__main__")
    for name in _NEEDED:
        import_module(name)
    airflow.main()


if __name__ == "__main__":
    main()
