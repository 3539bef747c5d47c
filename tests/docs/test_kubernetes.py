"""The page about Kubernetes: the connection's fields, the rights, the example, and what it says of jobs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

from airflow_calib_provider.backends.kubernetes.rights import RIGHTS
from airflow_calib_provider.operators.dag_jobs import DagJobsOperator
from airflow_calib_provider.operators.kubernetes import KubernetesJobsOperator
from airflow_calib_provider.spec.arguments import ArgumentsReader

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "kubernetes.md").read_text(encoding="utf-8")
EXAMPLE = TOP / "examples" / "kubernetes_dag.py"
MANIFESTS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
BLOCK = {"image": "calib/fit", "spool": {"pvc": "calib"}}


def test_every_field_of_the_connection_that_concerns_us_is_described() -> None:
    (form,) = [item for item in HookMetaService.hook_meta_data() if item.connection_type == "kubernetes"]
    labels = {name: field["schema"]["title"] for name, field in form.extra_fields.items() if "xcom" not in name}
    assert dict(re.findall(r"^\| `([a-z_]+)` \| ([^|`]+) \|", PAGE, re.M)) == labels
    assert f"*{form.hook_name}*" in PAGE


def rights_of(role: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from ((group, resource, verb) for verb in rule["verbs"])


def test_the_role_has_the_rights_that_are_asked_for_and_no_other() -> None:
    (role,) = [found for text in MANIFESTS if (found := yaml.safe_load(text)).get("kind") == "Role"]
    deployed = list(yaml.safe_load_all((TOP / "deploy" / "kubernetes" / "rights.yaml").read_text(encoding="utf-8")))
    assert [found["rules"] for found in deployed if found["kind"] == "Role"] == [role["rules"]]
    assert sorted(rights_of(role)) == sorted((right.group, right.resource, right.verb) for right in RIGHTS)
    optional = {right.resource for right in RIGHTS if right.without}
    assert {rule["resources"][0] for rule in role["rules"][-2:]} == optional, "the last two can be left out"


def test_the_example_on_the_page_is_the_file() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    assert block in EXAMPLE.read_text(encoding="utf-8")


def test_arguments_that_the_page_leaves_to_the_other_one() -> None:
    arguments = {*inspect.signature(KubernetesJobsOperator).parameters} - {
        *inspect.signature(DagJobsOperator).parameters
    }
    assert arguments == {"kubernetes", "kubernetes_conn_id"}
    assert all(f"`{name}`" in PAGE for name in arguments)


@pytest.mark.parametrize("text", [text for text in MANIFESTS if "kubernetes:" in text])
def test_what_the_page_says_of_jobs_is_right(text: str) -> None:
    read = yaml.safe_load(text)
    if "tasks" in read:
        assert read["defaults"]["backend"] == "kubernetes"
        jobs = read["tasks"]["fit"]["jobs"]
        read = {**jobs, **jobs["resources"], "kubernetes": {**read["defaults"]["kubernetes"], **jobs["kubernetes"]}}
    names = ("kubernetes", "timeout", "memory", "disk", "cpus")
    values = {name: read[name] for name in names if name in read}
    values["kubernetes"] = {**BLOCK, **values["kubernetes"]}
    reader = ArgumentsReader(values)
    reader.settings()
    assert reader.mistakes == []


@pytest.mark.parametrize("text", re.findall(r"^\|[^|]+\| `(\{\w+: .*?\})`", PAGE, re.M))
def test_every_spool_of_the_table_is_one(text: str) -> None:
    reader = ArgumentsReader({"kubernetes": {**BLOCK, "spool": yaml.safe_load(text)}})
    reader.settings()
    assert reader.mistakes == []
