"""Bad files and what is said about them: each case of ``cases/bad_*.yaml``."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.spec.loader import load_sources, load_workflow

CASES = Path(__file__).parent / "cases"


def cases() -> list[Any]:
    found = []
    for file in sorted(CASES.glob("bad_*.yaml")):
        for case in yaml.safe_load(file.read_text()):
            found.append(pytest.param(case, id=f"{file.stem.removeprefix('bad_')}-{case['case'].replace(' ', '_')}"))
    return found


def text_of(case: dict[str, Any]) -> str:
    if "text" in case:
        return str(case["text"])
    text = (CASES / "base.yaml").read_text()
    for before, after in case["edit"]:
        assert before in text
        text = text.replace(before, after)
    return text


@pytest.mark.parametrize("case", cases())
def test_every_mistake_is_named_with_its_place(case: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(text_of(case))
    with pytest.raises(SpecErrors) as caught:
        load_workflow(file, sources=load_sources(CASES / "sources.yaml"))
    assert [str(error).removeprefix(f"{file}:") for error in caught.value.errors] == case["errors"]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_base_of_the_cases_is_good() -> None:
    workflow = load_workflow(CASES / "base.yaml")
    assert list(workflow.tasks) == ["skim", "fit", "deliver"]
    assert workflow.tasks["deliver"].policy == workflow.tasks["fit"].policy


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "workflow: w",
            f"workflow: w\ntags: [a, {'t' * 101}]",
            "3:11: an element of tags has 101 characters; expected",
        ),
        ("workflow: w", f"workflow: w\nowner: {'o' * 501}", "3:8: owner has 501 characters; expected at most 500"),
        (
            "command: [fit]",
            f"command: [fit, {'x' * 100_001}]",
            "15:16: command[1] has 100,001 bytes, of which 100,000 may be passed on",
        ),
        ("pairs.csv", "é" * 128, "has a name of more than 255 bytes; expected a file relative to CALIB_OUT"),
    ],
    ids=["a tag", "an owner", "an argument", "a file"],
)
def test_what_airflow_or_linux_would_not_take(before: str, after: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text((CASES / "base.yaml").read_text().replace(before, after))
    with pytest.raises(SpecErrors) as caught:
        load_workflow(file, sources=load_sources(CASES / "sources.yaml"))
    (error,) = caught.value.errors
    assert said in str(error)
