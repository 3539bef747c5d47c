"""What Airflow's provider manager asks for."""

from __future__ import annotations

from typing import Any

from airflow_calib_provider import __version__


def get_provider_info() -> dict[str, Any]:
    """Provider metadata, after Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-calib-provider",
        "name": "Calibration",
        "description": "Detector calibration workflows: run grouping, payload locks, job sets, published constants.",
        "versions": [__version__],
        "operators": [
            {
                "integration-name": "Calibration",
                "python-modules": [
                    "airflow_calib_provider.operators.jobs",
                    "airflow_calib_provider.operators.publish",
                    "airflow_calib_provider.operators.inject",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "Calibration",
                "python-modules": ["airflow_calib_provider.sensors.ledger_sensor"],
            }
        ],
        "triggers": [
            {
                "integration-name": "Calibration",
                "python-modules": [
                    "airflow_calib_provider.triggers.job_set",
                    "airflow_calib_provider.triggers.ledger_wait",
                ],
            }
        ],
    }
