"""The JSON Schema: as it is kept in docs, what it takes and what it refuses, beside what reading says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from airflow_calib_provider.domain.nodes import Mapping, Node, Sequence
from airflow_calib_provider.spec.positions import parse_document
from airflow_calib_provider.spec.schema import schema, schema_text
from tests.spec.test_cases import CASES, text_of

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "calib-v1.schema.json"
SPECS = sorted(
    file for folder in ("workflow_specs", "examples", "tests/spec/good") for file in (ROOT / folder).rglob("*.yaml")
)


def value_of(node: Node) -> Any:
    """A node as an editor has it, which reads YAML 1.2."""
    if isinstance(node, Sequence):
        return [value_of(item) for item in node.items]
    if isinstance(node, Mapping):
        return {name: value_of(entry.value) for name, entry in node.entries.items()}
    plain = {"null": lambda text: None, "bool": lambda text: text.lower() == "true", "int": int, "float": float}
    return plain.get(node.kind, str)(node.text)


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema())


def errors_of(validator: Draft202012Validator, text: str) -> list[str]:
    return [error.message for error in validator.iter_errors(value_of(parse_document(text, Path("w.yaml")).root))]


def test_the_kept_schema_is_that_of_the_declarations() -> None:
    assert KEPT.read_text() == schema_text(), "python -m airflow_calib_provider.spec.reference docs"


@pytest.mark.parametrize("file", SPECS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_example_is_valid(file: Path, validator: Draft202012Validator) -> None:
    assert errors_of(validator, file.read_text()) == []


# What lies between tasks, files, the fields of a source and in templates is no matter of structure; times are texts,
# and so are yes, on and numbers of old, as YAML 1.2 has them.
BEYOND = {
    "keys": {"an unknown source", "a task named like a node of its DAG"},
    "types": {
        "yes where a text is needed", "on as a key", "an octal number where a text is needed",
        "a time of the day where a text is needed", "a date where a text is needed", "a huge number", "since",
    },
    "jobs": {
        "two tasks publish one tag", "a shell line", "quotes that do not end",
        "an expression that does not end in a line", "more jobs than inputs",
        "inputs of several lines, and variables that every job has",
        "a number of jobs that is known before anything is rendered", "a number of jobs that is none",
        "one file as two products, and a product inside a file",
    },
    "group_by": {
        "a misspelt kind", "an unknown field", "a field that is no number", "sum of two fields",
        "sum of an unknown field", "left out without needs", "left out where needs disagree",
        "two policies of one name", "a source without fills",
    },
    "condor": {
        "a block for another backend", "names of submit commands", "what cannot be released",
        "a backslash in an attribute",
    },
    "needs_and_locks": {
        "an unknown task", "twice", "itself", "a circle", "a circle without group_by", "two locks on one tag",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_wrong_in_structure_is_refused(name: str, validator: Draft202012Validator) -> None:
    cases = yaml.safe_load((CASES / f"bad_{name}.yaml").read_text())
    assert {case["case"] for case in cases} >= BEYOND[name]
    taken = {
        case["case"] for case in cases if case["case"] not in BEYOND[name] and not errors_of(validator, text_of(case))
    }
    assert taken == set()
