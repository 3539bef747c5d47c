"""The language reference says something about every key, and its examples load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_calib_provider.spec.filters import FILTERS
from airflow_calib_provider.spec.language import KEYS
from airflow_calib_provider.spec.loader import load_folder
from airflow_calib_provider.spec.models import FieldType
from airflow_calib_provider.spec.variables import JOB

TEXT = (Path(__file__).parents[2] / "docs" / "specification.md").read_text()


@pytest.mark.parametrize(("place", "key"), [(place, key) for place, keys in KEYS.items() for key in keys])
def test_every_key_has_a_row(place: str, key: str) -> None:
    headings = {
        "the workflow": "Workflow", "runs": "runs", "defaults": "defaults", "a task": "tasks", "group_by": "group_by",
        "a lock": "locks", "payload": "locks", "inputs": "inputs", "the sources file": "Sources", "a source": "Sources",
    }  # fmt: skip
    heading = headings.get(place, place)
    section = re.search(rf"^#+ `?{re.escape(heading)}`?\n(.*?)(?=^#|\Z)", TEXT, re.M | re.S)
    assert section, f"no section on {heading}"
    assert re.search(rf"^\| `{key}`", section[1], re.M), f"no row for {key} in the section on {heading}"


def test_types_filters_and_variables_are_named() -> None:
    for word in [*FieldType, *FILTERS, *(f"job.{name}" for name in JOB)]:
        assert f"`{word}`" in TEXT, word


def test_the_examples_load(tmp_path: Path) -> None:
    examples = re.findall(r"^```yaml\n# (\S+\.yaml)\n(.*?)^```", TEXT, re.M | re.S)
    assert [name for name, _ in examples] == ["sources.yaml", "ecal_zee_scale.yaml"]
    for name, text in examples:
        (tmp_path / name).write_text(text)
    workflows, errors = load_folder(tmp_path)
    assert errors == []
    assert list(workflows) == ["ecal_zee_scale"]
