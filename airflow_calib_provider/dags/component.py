"""``python -m airflow_calib_provider.dags.component scheduler`` is ``airflow scheduler``, on a machine of few cores.

Each start of a task costs a fifth of a second less.
"""

from __future__ import annotations

import sys
from importlib import import_module

FORKING = ("scheduler", "dag-processor")
"""Components that fork for each task, or for each look at a file."""

_NEEDED = (
    "airflow.dag_processing.dagbag",
    "airflow.sdk.execution_time.task_runner",
    "airflow_calib_provider.dags.factory",
    "airflow_calib_provider.dags.system",
    "airflow_calib_provider.injection.inject",
    "airflow_calib_provider.jobsets.advance",
    "airflow_calib_provider.jobsets.begin",
    "airflow_calib_provider.jobsets.kill",
    "airflow_calib_provider.jobsets.publish",
    "airflow_calib_provider.ledger.planner",
    "airflow_calib_provider.plugins.plugin",
    "airflow_calib_provider.spec.loader",
)
"""What a task imports."""


def main() -> None:
    """Run what the arguments say."""
    # First of all of Airflow, as it asks for: the configuration is read on the way.
    airflow = import_module("airflow.__main__")
    if sys.argv[1] in FORKING:
        # Once, and not in each process that is forked.
        for name in _NEEDED:
            import_module(name)
    airflow.main()


if __name__ == "__main__":
    main()
