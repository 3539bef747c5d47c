"""The page about the mirror: the connection's fields, and every measurement with its tags and fields."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_calib_provider.mirror.schema import MEASUREMENTS, STATE_CODES
from airflow_calib_provider.mirror.target import InfluxTarget
from airflow_calib_provider.provider_info import get_provider_info

PAGE = (Path(__file__).parents[2] / "docs" / "mirror.md").read_text(encoding="utf-8")


def test_every_measurement_is_described() -> None:
    parts = re.split(r"^### `(\w+)`$", PAGE.partition("## How it works")[0], flags=re.M)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(sections) == list(MEASUREMENTS)
    for name, about in MEASUREMENTS.items():
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", sections[name], re.M)
        fields = [(field, kind.__name__) for field, kind in about.fields.items()]
        assert rows == [*((tag, "tag") for tag in about.tags), *fields], name


def test_states_are_in_the_order_of_their_codes() -> None:
    [row, *_] = re.findall(r"^\| `state` \| str \| (.*) \|$", PAGE, re.M)
    assert re.findall(r"`(\w+)`", row) == sorted(STATE_CODES, key=lambda state: STATE_CODES[state])


def test_every_field_of_the_connection_is_described() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|`]+) \| [^|]+ \| [^|]+ \|", PAGE, re.M))
    [form] = [item for item in get_provider_info()["connection-types"] if item["connection-type"] == "calib_influxdb"]
    labels = {name: field["label"] for name, field in form["conn-fields"].items()}
    relabelled = form["ui-field-behaviour"]["relabeling"]
    labels |= {"host": relabelled["host"], "password": relabelled["password"], "login": "Login"}
    assert rows == labels
    assert set(form["conn-fields"]) == set(InfluxTarget.model_fields) - {"name", "url", "token", "user", "password"}
    assert f"*{form['hook-name']}*" in PAGE
