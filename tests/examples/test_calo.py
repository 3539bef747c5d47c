"""The example of a whole iterative calibration recovers what was injected."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from airflow_calib_provider.spec.loader import load_workflow
from airflow_calib_provider.spec.overrides import overridden
from tests.examples.in_process import EXAMPLES, InProcess, program

WORKERS = 4
CALO = program("calo")


def recovers(constants: Mapping[str, float], preset: str) -> None:
    """The constants undo what was injected, as far as their accuracies say; four standard deviations for statistics."""
    truth, layers = CALO.DETECTORS[preset], {"CLD": 44, "CLIC": 60}[preset]
    calibrated = {part: constants[f"ecal_{part}"] * truth[part] for part in ("barrel", "endcap")}
    calibrated["hcal"] = constants["hcal"] * truth["hcal"]
    for part, product in calibrated.items():
        assert CALO.response(product) == pytest.approx(1, abs=0.02 + 0.004), part
    assert constants["mip_ecal"] == pytest.approx(CALO.MIP * calibrated["barrel"], rel=0.01)
    assert constants["mip_hcal"] == pytest.approx(CALO.MIP * calibrated["hcal"], rel=0.01)
    assert constants["photon_width"] == 0.5
    # Below a width of 0.5 photons have 2/9 in the mean, as few are that broad.
    barrel = 0.65 / 0.97
    seen = barrel * CALO.response(calibrated["barrel"]) + (1 - barrel) * CALO.response(calibrated["endcap"])
    assert constants["em"] * seen * (1 - CALO.LEAST - 0.1 * 2 / 9) == pytest.approx(1, abs=0.005 + 0.002)
    kept = 1 - truth["lost"]
    of_hcal = constants["hcal_to_had"] * CALO.response(calibrated["hcal"]) * CALO.containment(layers) * kept
    assert of_hcal == pytest.approx(1, abs=0.005 + 0.006)
    of_ecal = constants["ecal_to_had"] * CALO.response(calibrated["barrel"]) * truth["ecal_of_hadrons"] * kept
    assert (of_ecal + of_hcal) / 2 == pytest.approx(1, abs=0.005 + 0.006)


@pytest.mark.parametrize("preset", ["CLD", "CLIC"])
def test_the_whole_sequence_recovers_what_was_injected(preset: str, tmp_path: Path) -> None:
    start = EXAMPLES / "calo_start.json"
    workflow = overridden(load_workflow(EXAMPLES / "calo.yaml"), {"preset": preset})
    place = InProcess(workflow, "constants", start, tmp_path, CALO.main, 2, [()] * WORKERS)
    end = place.run()
    assert [(one.stage, one.phase) for one in end.ends] == list(place.iteration.legs)
    single = ("mip", "photons")
    assert {(one.phase in single, str(one.name)) for one in end.ends} == {(True, "single_pass"), (False, "converged")}
    visits = Counter(step.made.phase for step in place.steps)
    assert (visits["photons"], visits["mip"]) == (1, 2)
    assert 18 <= len(place.steps) <= 30
    recovers(place.constants(end), preset)
    with pytest.raises(AssertionError):
        recovers(json.loads(start.read_text()), preset)
