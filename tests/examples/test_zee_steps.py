"""The scales of Z → ee by iteration are those of the direct fit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from zee import steps
from zee.events import Selected, read_pairs, read_selected, select, write_selected
from zee.jobio import JobError
from zee.scale import measure

from airflow_calib_provider.spec.loader import load_workflow
from tests.examples.in_process import InProcess

SPECS = Path(__file__).parents[2] / "examples" / "zee" / "cms" / "steps"
TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def events(data_set: Path) -> Selected:
    """Those that CMS recorded; where these are not, simulated ones."""
    real = Path(os.environ.get("CALIB_ZEE_DATA") or TOP / "../shared/data/cms-open-data/Zee_Run2011A.csv")
    return select(read_pairs([real] if real.is_file() else sorted(data_set.glob("events/*.csv")), None))


def test_steps_end_where_the_direct_fit_is(events: Selected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_ZEE_EVENTS", str(tmp_path / "none.csv"))
    parts = [tmp_path / f"{part}.npz" for part in range(4)]
    for number, part in enumerate(parts):
        write_selected(part, events.take(events.event % 4 == number))
    assert len(read_selected(parts).run) == len(events.run)
    workflow = load_workflow(SPECS / "zee_steps.yaml")
    place = InProcess(workflow, "scale", SPECS / "ones.json", tmp_path, steps.main, 3, [[part] for part in parts])
    end = place.run()
    assert str(end.name) == "converged"
    assert 2 <= len(place.steps) <= 5
    scales = place.constants(end)["scales"]
    direct = measure(events)
    found = np.array([scales[region]["value"] for region in ("EB", "EE")])
    # Nothing is measured twice: what is left is the tolerance, and events that moved into the window.
    assert (np.abs(found / direct.values - 1) < [0.002, 0.005]).all()
    further = place.files[len(place.steps), True]
    again = np.array(list(_values(further)))
    assert (np.abs(again - direct.values) < 0.5 * direct.errors).all()


def _values(file: Path) -> list[float]:
    content = steps.read_json(file)
    return [content["scales"][region]["value"] for region in ("EB", "EE")]


def test_damping_is_a_part(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"--damping is 0\.0; it must be above 0"):
        steps.main(["update", "--inputs-file", "x", "--constants", "y", "--out", str(tmp_path), "--damping", "0"])
