"""What Airflow's provider manager asks for."""

from __future__ import annotations

from typing import Any

from airflow_calib_provider import __version__


def get_provider_info() -> dict[str, Any]:
    """Provider metadata, after Airflow's ``provider_info.schema.json``; a backend of another package brings its own."""
    from airflow_calib_provider.kinds import BACKENDS
    from airflow_calib_provider.spec.kinds import backend_kind

    backends = [backend_kind(name) for name in BACKENDS.own]
    connections = [kind.connection for kind in backends if kind.connection]
    hooks = [connection.hook.rpartition(".")[0] for connection in connections]
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
                    "airflow_calib_provider.operators.dag_jobs",
                    "airflow_calib_provider.operators.publish",
                    "airflow_calib_provider.operators.inject",
                    "airflow_calib_provider.operators.mirror",
                    *(module for kind in backends for module in kind.operators),
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
                    "airflow_calib_provider.triggers.mirror",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": "Calibration",
                "python-modules": [*hooks, "airflow_calib_provider.hooks.influxdb"],
            }
        ],
        "connection-types": [*(connection.form() for connection in connections), _influx_connection()],
    }


def _influx_connection() -> dict[str, Any]:
    """The form of a connection to an InfluxDB; its fields are those of ``InfluxTarget``."""
    from airflow_calib_provider.spec.kinds import form_field

    return {
        "connection-type": "calib_influxdb",
        "hook-name": "InfluxDB (calibration mirror)",
        "hook-class-name": "airflow_calib_provider.hooks.influxdb.InfluxHook",
        "ui-field-behaviour": {
            "hidden-fields": ["extra"],
            "relabeling": {"host": "Address", "schema": "http or https", "password": "Token, or the user's password"},
            "placeholders": {
                "host": "http://influxdb.example.org:8086",
                "login": "empty: the password is a token",
                "schema": "where the address has none",
                "port": "where the address has none",
            },
        },
        "conn-fields": {
            "bucket": form_field("Bucket", "string", "InfluxDB 2 and 3; of 1.8: database/retention policy."),
            "org": form_field("Organization", "string", "InfluxDB 2."),
            "database": form_field(
                "Database", "string", "InfluxDB 1.x; with a bucket: its name in InfluxQL, if another."
            ),
            "retention_policy": form_field(
                "Retention policy", "string", "InfluxDB 1.x; empty: the database's default."
            ),
            "timeout": form_field("Time-out of a call (s)", "number", "10 by default."),
            "verify": form_field("Check the certificate", "boolean", "Switch off for a self-signed one.", True),
            "ca_file": form_field("CA file", "string", "Trusted certificates; a file on every Airflow machine."),
            "routes": form_field("Routes", "object", "Measurement to bucket (2, 3) or retention policy (1.x)."),
        },
    }
