"""What Airflow's provider manager asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_calib_provider import __version__
from airflow_calib_provider.spec.kinds import Integration, form_field

CALIBRATION = Integration("Calibration", "https://airflow.apache.org/docs/apache-airflow/stable/")
INFLUXDB = Integration("InfluxDB", "https://docs.influxdata.com/influxdb/")
NOPAYLOADDB = Integration("nopayloaddb", "https://hepsoftwarefoundation.org/activities/conditionsdb.html")

OPERATORS = ("approve", "folder", "backfill", "campaign", "jobs", "dag_jobs", "publish", "inject", "mirror", "messages")
LINKS = ("AwaitedLink", "SpecLink")
TRIGGERS = ("job_set", "ledger_wait", "mirror", "messages")


def get_provider_info() -> dict[str, Any]:
    """Provider metadata, after Airflow's ``provider_info.schema.json``; a backend of another package brings its own."""
    from airflow_calib_provider.kinds import BACKENDS, CHANNELS
    from airflow_calib_provider.spec.kinds import backend_kind, channel_kind

    operators = {CALIBRATION: [f"airflow_calib_provider.operators.{name}" for name in OPERATORS]}
    hooks = {
        INFLUXDB: ["airflow_calib_provider.hooks.influxdb"],
        CALIBRATION: ["airflow_calib_provider.hooks.connections"],
        NOPAYLOADDB: ["airflow_calib_provider.hooks.nopayloaddb"],
    }
    forms = [_influx_connection(), _http_connection(), _nopayloaddb_connection()]
    for kind in (backend_kind(name) for name in BACKENDS.own):
        connection = kind.connection
        integration = connection.integration if connection and connection.integration else CALIBRATION
        operators.setdefault(integration, []).extend(kind.operators)
        if connection:
            hooks.setdefault(integration, []).append(connection.hook.rpartition(".")[0])
            if not connection.of:
                forms.append(connection.form())
    for name in CHANNELS.own:
        connection = channel_kind(name).connection_type
        if connection:
            hooks.setdefault(connection.integration or CALIBRATION, []).append(connection.hook.rpartition(".")[0])
            forms.append(connection.form())
    sensors = {CALIBRATION: ["airflow_calib_provider.sensors.ledger_sensor"]}
    triggers = {CALIBRATION: [f"airflow_calib_provider.triggers.{name}" for name in TRIGGERS]}
    return {
        "package-name": "airflow-calib-provider",
        "name": "Calibration",
        "description": "Detector calibration workflows: run grouping, payload locks, job sets, published constants.",
        "versions": [__version__],
        "integrations": [integration.entry() for integration in {**operators, **hooks}],
        "operators": _modules(operators),
        "sensors": _modules(sensors),
        "triggers": _modules(triggers),
        "hooks": _modules(hooks),
        "connection-types": forms,
        "extra-links": [f"airflow_calib_provider.hooks.links.{name}" for name in LINKS],
    }


def _modules(of: Mapping[Integration, Sequence[str]]) -> list[dict[str, Any]]:
    return [
        {"integration-name": integration.name, "python-modules": list(modules)}
        for integration, modules in of.items()
        if modules
    ]


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


def _http_connection() -> dict[str, Any]:
    """The form of a connection to a service that answers with JSON; its fields are those of ``HttpService``."""
    return {
        "connection-type": "calib_http",
        "hook-name": "JSON by HTTP (calibration)",
        "hook-class-name": "airflow_calib_provider.hooks.connections.JsonServiceHook",
        "ui-field-behaviour": {
            "hidden-fields": ["extra"],
            "relabeling": {"host": "Address", "schema": "http or https", "password": "Password, or token"},
            "placeholders": {
                "host": "https://runs.example.org/api",
                "login": "empty: the password is a token",
                "schema": "where the address has none",
                "port": "where the address has none",
            },
        },
        "conn-fields": _http_fields(),
    }


def _http_fields() -> dict[str, Any]:
    return {
        "auth": form_field("Login by", "string", "basic, bearer or header; by default basic where there is a login."),
        "header": form_field("Header", "string", "With header: its name, such as X-API-Key."),
        "verify": form_field("Check the certificate", "boolean", "Switch off for a self-signed one.", True),
        "ca_file": form_field("CA file", "string", "Trusted certificates; a file on every Airflow machine."),
    }


def _nopayloaddb_connection() -> dict[str, Any]:
    """The form of a connection to a nopayloaddb; its fields are those of its client's ``Server``."""
    files = "Absolute path of the folder of payloads, on every Airflow machine; required."
    return {
        "connection-type": "calib_nopayloaddb",
        "hook-name": "nopayloaddb (calibration constants)",
        "hook-class-name": "airflow_calib_provider.hooks.nopayloaddb.NopayloaddbHook",
        "ui-field-behaviour": {
            "hidden-fields": ["extra"],
            "relabeling": {"host": "Address", "schema": "http or https", "password": "Token"},
            "placeholders": {
                "host": "https://npdb.example.org",
                "login": "empty: the password is a token",
                "schema": "where the address has none",
                "port": "where the address has none",
            },
        },
        "conn-fields": {"files": form_field("Files", "string", files), **_http_fields()},
    }
