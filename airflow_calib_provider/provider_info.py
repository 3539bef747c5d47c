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
                    "airflow_calib_provider.operators.dag_jobs",
                    "airflow_calib_provider.operators.condor",
                    "airflow_calib_provider.operators.publish",
                    "airflow_calib_provider.operators.inject",
                    "airflow_calib_provider.operators.mirror",
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
                "python-modules": ["airflow_calib_provider.hooks.condor", "airflow_calib_provider.hooks.influxdb"],
            }
        ],
        "connection-types": [_condor_connection(), _influx_connection()],
    }


def _condor_connection() -> dict[str, Any]:
    """The form of a connection to an HTCondor pool; its fields are those of ``CondorSettings``."""
    return {
        "connection-type": "calib_condor",
        "hook-name": "HTCondor pool (calibration)",
        "hook-class-name": "airflow_calib_provider.hooks.condor.CondorHook",
        "ui-field-behaviour": {
            "hidden-fields": ["login", "schema", "extra"],
            "relabeling": {"host": "Collector", "port": "Collector's port", "password": "Token"},
            "placeholders": {"host": "collector.example.org; empty: as this machine is configured", "port": "9618"},
        },
        "conn-fields": {
            "schedd": _field("Schedd", "string", "Its name, as in condor_status -schedd; empty: this machine's."),
            "authentication": _field(
                "Authentication", "string", "IDTOKENS, SCITOKENS, FS, ...; several with commas, in order of preference."
            ),
            "token_file": _field("Token file", "string", "Instead of a token: a file on every Airflow machine."),
            "transfer": _field("HTCondor transfers files", "boolean", "Else jobs see the same file system."),
            "event_log": {
                **_field("Event log is shared", "boolean", "Switch off where the schedd's files cannot be seen."),
                "schema": {"type": ["boolean", "null"], "default": True},
            },
            "timeout": _field("Time-out of a call (s)", "number", "20 by default."),
            "query_interval": _field("Seconds between queries", "number", "Without an event log; 15 by default."),
            "defaults": _field("Defaults of jobs", "object", "What jobs.condor in a spec may say, for all tasks."),
            "configuration": _field("HTCondor configuration", "object", "Further settings of the client, by name."),
        },
    }


def _influx_connection() -> dict[str, Any]:
    """The form of a connection to an InfluxDB; its fields are those of ``InfluxTarget``."""
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
            "bucket": _field("Bucket", "string", "InfluxDB 2 and 3; of 1.8: database/retention policy."),
            "org": _field("Organization", "string", "InfluxDB 2."),
            "database": _field("Database", "string", "InfluxDB 1.x; with a bucket: its name in InfluxQL, if another."),
            "retention_policy": _field("Retention policy", "string", "InfluxDB 1.x; empty: the database's default."),
            "timeout": _field("Time-out of a call (s)", "number", "10 by default."),
            "verify": {
                **_field("Check the certificate", "boolean", "Switch off for a self-signed one."),
                "schema": {"type": ["boolean", "null"], "default": True},
            },
            "ca_file": _field("CA file", "string", "Trusted certificates; a file on every Airflow machine."),
            "routes": _field("Routes", "object", "Measurement to bucket (2, 3) or retention policy (1.x)."),
        },
    }


def _field(label: str, kind: str, description: str) -> dict[str, Any]:
    return {"label": label, "schema": {"type": [kind, "null"]}, "description": description}
