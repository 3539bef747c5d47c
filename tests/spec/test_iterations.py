"""What is wrong with a block ``iterate``, and where it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.spec.loader import load_sources, load_workflow
from airflow_calib_provider.spec.models import Iteration

CASES = Path(__file__).parent / "cases"
SPEC = (CASES / "iteration.yaml").read_text()


@pytest.mark.parametrize(
    "case", yaml.safe_load((CASES / "iteration_mistakes.yaml").read_text()), ids=lambda case: case["case"]
)
def test_every_mistake_is_named_with_its_place(case: dict[str, Any], tmp_path: Path) -> None:
    text = SPEC
    for before, after in case["edit"]:
        assert before in text
        text = text.replace(before, after, 1)
    file = tmp_path / "w.yaml"
    file.write_text(text)
    with pytest.raises(SpecErrors) as caught:
        load_workflow(file, sources=load_sources(CASES / "sources.yaml"))
    assert [str(error).removeprefix(f"{file}:") for error in caught.value.errors] == case["errors"]


def iteration(text: str, folder: Path) -> Iteration:
    (folder / "w.yaml").write_text(text)
    sources = load_sources(CASES / "sources.yaml")
    found = load_workflow(folder / "w.yaml", sources=sources).tasks["scale"].iteration
    assert found is not None
    return found


def test_phases_in_their_order(tmp_path: Path) -> None:
    whole = iteration(SPEC, tmp_path)
    assert whole.legs == ((1, "a"), (1, "b"), (2, "a"))
    assert (whole.file, whole.start.file, whole.phases["a"].measured) == ("c.txt", "start.txt", {"hist": "h.txt"})
    needless = SPEC.replace("needs: [a]", "needs: []").replace(', "{{ phases.a.products.mip }}"', "")
    assert iteration(needless.replace("start: {stage: 1}", "start: {phase: b}"), tmp_path).legs == ((1, "b"), (2, "a"))
