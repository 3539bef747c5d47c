"""Presets: which params hold, and what a campaign or a DAG run chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.jobsets.begin import stated_params
from airflow_calib_provider.spec import overrides
from airflow_calib_provider.spec.loader import load_sources, load_workflow
from airflow_calib_provider.spec.models import Workflow

CASES = Path(__file__).parent / "cases"
PRESETS = """\
workflow: w
params: {damping: 0.5}
presets:
  CLD: {layers: 44, barrel: [0.0, 0.643]}
  CLIC: {layers: 60, barrel: [0.0, 0.65]}
preset: CLD
"""


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    text = (CASES / "iteration.yaml").read_text().replace("workflow: w\n", PRESETS)
    (tmp_path / "w.yaml").write_text(text)
    return load_workflow(tmp_path / "w.yaml", sources=load_sources(CASES / "sources.yaml"))


def chosen(workflow: Workflow, **settings: object) -> Workflow:
    found, wrong = overrides.sorted_out(settings, {"w": workflow})
    assert wrong == []
    assert overrides.mistakes_of(workflow, found["w"], None) == []
    return overrides.overridden(workflow, found["w"])


def test_a_campaign_chooses(workflow: Workflow) -> None:
    assert workflow.params == {"damping": 0.5, "layers": 44, "barrel": [0.0, 0.643]}
    assert chosen(workflow, preset="CLIC").params == {"damping": 0.5, "layers": 60, "barrel": [0.0, 0.65]}
    # Its value is set in the preset that holds then, whatever is written first.
    other = chosen(workflow, layers="50", preset="CLIC")
    assert other.params == {"damping": 0.5, "layers": 50, "barrel": [0.0, 0.65]}
    assert other.presets["CLD"]["layers"] == 44


def test_what_no_campaign_can_choose(workflow: Workflow) -> None:
    found, _ = overrides.sorted_out({"preset": "CLICK"}, {"w": workflow})
    assert overrides.mistakes_of(workflow, found["w"], None) == [
        "w: preset is 'CLICK', which is none of the presets; expected one of CLD, CLIC; did you mean 'CLIC'?"
    ]
    assert overrides.unfit(workflow, found["w"]) == ["w has no preset CLICK any more, which the campaign sets"]
    _, wrong = overrides.sorted_out({"layers": "many"}, {"w": workflow})
    assert wrong == ["layers: 'many' is no whole number, as the declared 44 is"]


def test_a_dag_run_chooses(workflow: Workflow) -> None:
    """Airflow fills in all that the form has; what is as in the file is nobody's wish."""
    assert stated_params(workflow, {"preset": "CLD", "damping": 0.5, "runs": "1"}) == {}
    stated = stated_params(workflow, {"preset": "CLIC", "damping": 0.5, "runs": "1"})
    assert workflow.params_with(stated) == {"damping": 0.5, "layers": 60, "barrel": [0.0, 0.65]}
    assert stated_params(workflow, stated) == stated
    with pytest.raises(RenderError, match="w has no preset ILD; it has CLD, CLIC"):
        workflow.params_with({"preset": "ILD"})
    with pytest.raises(RenderError, match="w has no preset"):
        workflow.params_with({"preset": ["CLD"]})


def test_resources_of_all_phases(workflow: Workflow) -> None:
    iteration = chosen(workflow, **{"resources.memory": "3GB"}).tasks["scale"].iteration
    assert iteration is not None
    asked = {jobs.resources.memory for phase in iteration.phases.values() for jobs in (phase.measure, phase.update)}
    assert asked == {3_000_000_000}
