"""The language reference says something about every key, and its examples load."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_calib_provider.spec.condition_language import FUNCTIONS, MACROS
from airflow_calib_provider.spec.condition_text import MAX_DEPTH, MAX_LENGTH
from airflow_calib_provider.spec.condition_tree import MAX_PATTERN, MAX_TEXT, MAX_WORK
from airflow_calib_provider.spec.conditions import Condition
from airflow_calib_provider.spec.filters import FILTERS
from airflow_calib_provider.spec.loader import load_folder
from airflow_calib_provider.spec.models import FieldType
from airflow_calib_provider.spec.reference import tables, written
from airflow_calib_provider.spec.variables import JOB

TEXT = (Path(__file__).parents[2] / "docs" / "specification.md").read_text()


def test_the_tables_are_those_of_the_declarations() -> None:
    assert written(TEXT) == TEXT, "python -m airflow_calib_provider.spec.reference docs"


def test_every_key_says_what_it_means() -> None:
    for heading, table in tables().items():
        for row in table.splitlines()[2:]:
            cells = [cell.strip() for cell in row.strip().strip("|").replace("| |", "|  |").split(" | ")]
            assert len(cells) == 4, (heading, row)
            assert cells[3] not in ("", "None"), (heading, row)


def test_types_filters_and_variables_are_named() -> None:
    for word in [*FieldType, *FILTERS, *(f"job.{name}" for name in JOB)]:
        assert f"`{word}`" in TEXT, word


CONDITIONS = TEXT.partition("\n## Conditions\n")[2].partition("\n## ")[0]


def test_the_functions_and_limits_of_conditions_are_named() -> None:
    for name in [*FUNCTIONS, *MACROS]:
        assert re.search(rf"`\.?{name}(\(…?\))?`|\.{name}\(", CONDITIONS), name
    for limit in (MAX_LENGTH, MAX_DEPTH, MAX_WORK, MAX_PATTERN, MAX_TEXT):
        assert re.search(rf"\b{limit:,}\b", CONDITIONS), limit


def test_the_examples_of_conditions_hold() -> None:
    types = {"fill": "int", "lumi_pb": "float", "ecal_status": "string", "start": "time", "end": "time"}
    run = {"fill": 8000, "lumi_pb": 2.5, "ecal_status": "good", "start": "2026-04-01T00:00", "end": "2026-04-01T02:00"}
    examples = re.findall(r'^where: "(.*)"$', CONDITIONS, re.M)
    examples += [code for code in re.findall(r"`([^`\n]+)`", CONDITIONS) if "run." in code and "<field>" not in code]
    assert len(examples) >= 6
    for text in examples:
        assert Condition(text, {name: FieldType(kind) for name, kind in types.items()}).evaluate(run), text


def test_the_examples_load(tmp_path: Path) -> None:
    examples = re.findall(r"^```yaml\n# (\S+\.yaml)\n(.*?)^```", TEXT, re.M | re.S)
    assert [name for name, _ in examples] == ["sources.yaml", "ecal_zee_scale.yaml"]
    for name, text in examples:
        (tmp_path / name).write_text(text)
    workflows, errors = load_folder(tmp_path)
    assert errors == []
    assert list(workflows) == ["ecal_zee_scale"]
