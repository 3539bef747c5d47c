"""What Airflow learns of this provider: as its schemas want it, complete, and drawn by its UI as it is meant."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, Connection
from airflow.triggers.base import BaseTrigger

import airflow_calib_provider
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.hooks.condor import condor_settings
from airflow_calib_provider.hooks.connections import http_service
from airflow_calib_provider.hooks.influxdb import influx_target
from airflow_calib_provider.hooks.mattermost import mattermost_webhook
from airflow_calib_provider.hooks.nopayloaddb import NopayloaddbHook, nopayloaddb_server
from airflow_calib_provider.outside.nopayloaddb_client import Server
from airflow_calib_provider.provider_info import get_provider_info
from tests.outside.nopayloaddb import nopayloaddb


class Flat:
    """A server and its folder, as the fields of the form have them."""

    def __init__(self, server: Server) -> None:
        self.server, self.files = server, str(server.files)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.server.service, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Flat) and self.server == other.server


INFO = get_provider_info()
AIRFLOW = Path(airflow.__file__).parent
SETTINGS = {
    "calib_condor": condor_settings,
    "calib_http": http_service,
    "calib_influxdb": influx_target,
    "calib_mattermost": mattermost_webhook,
    "calib_nopayloaddb": lambda connection: Flat(nopayloaddb_server(connection)),
}
VALUES: dict[str, dict[str, Any]] = {
    "calib_condor": {
        "schedd": "s1.example.org",
        "authentication": "IDTOKENS, FS",
        "token_file": "/etc/token",
        "transfer": True,
        "event_log": False,
        "timeout": 30,
        "query_interval": 5.5,
        "defaults": {"max_idle": 100},
        "configuration": {"SEC_CLIENT_ENCRYPTION": "REQUIRED"},
    },
    "calib_http": {"auth": "header", "header": "X-API-Key", "verify": False, "ca_file": "/etc/ca.pem"},
    "calib_influxdb": {
        "bucket": "calib",
        "org": "cms",
        "database": "calib",
        "retention_policy": "",
        "timeout": 2.5,
        "verify": False,
        "ca_file": "/etc/ca.pem",
        "routes": {"value": "longer"},
    },
    "calib_mattermost": {"ca_file": "/etc/ca.pem", "plain_http": True},
    "calib_nopayloaddb": {
        "files": "/data/payloads",
        "auth": "header",
        "header": "X-API-Key",
        "verify": False,
        "ca_file": "/etc/ca.pem",
    },
}
LEAST: dict[str, dict[str, Any]] = {"calib_influxdb": {"bucket": "calib"}, "calib_nopayloaddb": {"files": "/data"}}
"""What must be filled in."""


def schema(name: str) -> Any:
    return json.loads((AIRFLOW / name).read_text())


class TestSchema:
    def test_of_installed_providers(self) -> None:
        jsonschema.validate(INFO, schema("provider_info.schema.json"))

    @pytest.mark.parametrize(
        "part", ["integrations", "operators", "sensors", "hooks", "triggers", "connection-types", "extra-links"]
    )
    def test_the_stricter_one_of_sources(self, part: str) -> None:
        assert INFO[part]
        stricter = schema("provider.yaml.schema.json")
        only = {"properties": stricter["properties"], "definitions": stricter.get("definitions", {})}
        jsonschema.validate({part: INFO[part]}, only)

    def test_every_link_is_there(self) -> None:
        for name in INFO["extra-links"]:
            module, _, of = name.rpartition(".")
            assert issubclass(getattr(importlib.import_module(module), of), BaseOperatorLink)

    def test_every_integration_is_described(self) -> None:
        described = [item["integration-name"] for item in INFO["integrations"]]
        named = {
            item["integration-name"] for part in ("operators", "sensors", "hooks", "triggers") for item in INFO[part]
        }
        assert sorted(described) == sorted(named)

    def test_an_unknown_tag_would_be_seen(self) -> None:
        wrong = {"integrations": [{**INFO["integrations"][0], "tags": ["no-such-tag"]}]}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, {"properties": schema("provider.yaml.schema.json")["properties"]})


@pytest.mark.parametrize(
    ("part", "base"),
    [("operators", BaseOperator), ("sensors", BaseOperator), ("triggers", BaseTrigger), ("hooks", BaseHook)],
)
def test_every_class_is_in_a_module_that_is_named(part: str, base: type) -> None:
    named = {module for item in INFO[part] for module in item["python-modules"]}
    folder = Path(airflow_calib_provider.__file__).parent / part
    having = set()
    for found in pkgutil.iter_modules([str(folder)], f"airflow_calib_provider.{part}."):
        module = importlib.import_module(found.name)
        own = [item for _, item in inspect.getmembers(module, inspect.isclass) if item.__module__ == found.name]
        having |= {found.name for item in own if issubclass(item, base)}
    assert named == having


def drawn(name: str) -> Any:
    """The form that Airflow's UI draws for a connection of this type."""
    (form,) = [item for item in HookMetaService.hook_meta_data() if item.connection_type == name]
    return form


def connection(name: str, extra: dict[str, Any]) -> Connection:
    secret = "https://chat.example.org/hooks/abcdef" if name == "calib_mattermost" else None
    return Connection(conn_id=name, conn_type=name, host="http://server:8086", password=secret, extra=json.dumps(extra))


@pytest.mark.parametrize("name", sorted(SETTINGS))
class TestForm:
    def test_all_types_are_tried_here(self, name: str) -> None:
        assert {item["connection-type"] for item in INFO["connection-types"]} == set(SETTINGS)

    def test_its_fields_are_those_that_are_read(self, name: str) -> None:
        fields = drawn(name).extra_fields
        assert set(fields) == set(VALUES[name])
        with pytest.raises(CalibError) as raised:
            SETTINGS[name](connection(name, {"no_such_field": 1, "bucket": "calib"}))
        said = f"{raised.value} {raised.value.hint}"
        assert all(field in said for field in fields), said

    def test_each_has_a_schema_that_takes_its_values(self, name: str) -> None:
        for field, drawing in drawn(name).extra_fields.items():
            jsonschema.Draft7Validator.check_schema(drawing["schema"])
            jsonschema.validate(VALUES[name][field], drawing["schema"])
            jsonschema.validate(None, drawing["schema"])
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate([VALUES[name][field]], drawing["schema"])
            assert drawing["schema"]["title"]
            assert drawing["description"]

    def test_a_form_that_is_filled_in_is_accepted(self, name: str) -> None:
        made = SETTINGS[name](connection(name, VALUES[name]))
        for field, value in VALUES[name].items():
            assert getattr(made, field) == value

    @pytest.mark.parametrize("empty", [None, ""])
    def test_one_that_nobody_touched_says_the_defaults(self, name: str, empty: str | None) -> None:
        shown = {field: drawing["value"] for field, drawing in drawn(name).extra_fields.items()}
        least = LEAST.get(name, {})
        untouched = {field: empty if value is None else value for field, value in shown.items()}
        assert SETTINGS[name](connection(name, {**untouched, **least})) == SETTINGS[name](connection(name, least))

    def test_airflows_own_fields_are_hidden_where_they_mean_nothing(self, name: str) -> None:
        fields = drawn(name).standard_fields
        # All of a webhook's address is secret: it stands in place of a password.
        assert fields.host.hidden if name == "calib_mattermost" else fields.host.title
        assert fields.password.title
        hidden = {"login", "url_schema"} if name in ("calib_condor", "calib_mattermost") else set()
        for field in ("login", "url_schema"):
            shown = getattr(fields, field)
            assert (shown is not None and bool(shown.hidden)) == (field in hidden), field


def test_the_button_of_a_nopayloaddb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with nopayloaddb() as server:
        server.token = "let-me-in"
        server.make("PROMPT", "Scale", "Errors")
        said = {"conn_type": "calib_nopayloaddb", "host": server.url, "password": "let-me-in"}
        for files, works in ((str(tmp_path), True), (str(tmp_path / "away"), False)):
            monkeypatch.setenv("AIRFLOW_CONN_NPDB", json.dumps({**said, "extra": {"files": files}}))
            found = NopayloaddbHook("npdb").test_connection()
            assert found[0] == works, found
            assert ("answers, and" if works else "away is not there") in found[1]


def test_types_without_a_form_of_ours_that_the_docs_name_are_airflows_own() -> None:
    """For git, the butler, the secret of actions from chat; and for mail, where the package of `smtp` is not there."""
    assert {"generic", "email"} <= {item.connection_type for item in HookMetaService.hook_meta_data()}
