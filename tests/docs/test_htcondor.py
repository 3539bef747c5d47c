"""The page about HTCondor: the connection's fields, the example, and the sizes that are stated."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from airflow_calib_provider.backends.condor.settings import AUTHENTICATION, CondorSettings
from airflow_calib_provider.domain.quantities import parse_duration
from airflow_calib_provider.operators.condor import CondorJobsOperator
from airflow_calib_provider.operators.dag_jobs import MANY_JOBS, DagJobsOperator
from airflow_calib_provider.provider_info import get_provider_info
from airflow_calib_provider.spec.arguments import ArgumentsReader

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "htcondor.md").read_text(encoding="utf-8")
EXAMPLE = TOP / "examples" / "condor_dag.py"
ROWS = {
    name: (label, default) for name, label, default in re.findall(r"^\| `(\w+)` \| ([^|`]+) \| ([^|]+) \|", PAGE, re.M)
}


def test_every_field_of_the_connection_is_described() -> None:
    of_airflow = {"name", "collector", "token"}  # the connection's id, host and port, password
    assert set(ROWS) == {item.name for item in fields(CondorSettings)} - of_airflow | {"password"}
    (form,) = [item for item in get_provider_info()["connection-types"] if item["connection-type"] == "calib_condor"]
    labels = {name: field["label"] for name, field in form["conn-fields"].items()}
    labels["password"] = form["ui-field-behaviour"]["relabeling"]["password"]
    assert {name: label for name, (label, _) in ROWS.items()} == labels
    assert f"{form['ui-field-behaviour']['relabeling']['host']}, " in PAGE
    assert f"*{form['hook-name']}*" in PAGE
    assert all(f"`{method}`" in PAGE for method in AUTHENTICATION)


def test_defaults_of_the_connection_are_those_of_the_code() -> None:
    stated = {name: default.strip("` ") for name, (_, default) in ROWS.items()}
    for item in fields(CondorSettings):
        if item.default is not MISSING and isinstance(item.default, bool | float):
            assert yaml.safe_load(stated[item.name]) == item.default, item.name


def test_every_argument_of_the_operator_is_described() -> None:
    table = PAGE.partition("| argument |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:])))
    arguments = {*inspect.signature(DagJobsOperator).parameters, *inspect.signature(CondorJobsOperator).parameters}
    assert named == arguments - {"kwargs"}
    assert f"{MANY_JOBS:,} jobs the products" in PAGE


def test_the_example_on_the_page_is_the_file() -> None:
    block = re.search(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    assert block
    assert block[1] in EXAMPLE.read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S))
def test_what_the_page_says_of_jobs_is_right(block: str) -> None:
    read = yaml.safe_load(block)
    if "tasks" in read:
        assert read["defaults"]["backend"] == "condor"
        read = {**read["tasks"]["fit"]["jobs"], **read["tasks"]["fit"]["jobs"]["resources"]}
    values = {name: read[name] for name in ("failures", "condor", "timeout", "memory", "disk", "cpus") if name in read}
    assert values
    reader = ArgumentsReader(values)
    reader.settings()
    assert reader.mistakes == []
    if "timeout" in values:
        assert parse_duration(values["timeout"])
