"""The example of an alignment in three visits recovers what was injected."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_calib_provider.spec.loader import load_workflow
from tests.examples.in_process import EXAMPLES, InProcess, program

ALIGN = program("align")


def furthest(found: list[list[float]]) -> tuple[float, float]:
    """How far off the shifts are, in mm, and the rotations."""
    pairs = list(zip(found, ALIGN.INJECTED, strict=True))
    shifts = [abs(one[i] - true[i]) for one, true in pairs for i in (0, 1)]
    return max(shifts), max(abs(one[2] - true[2]) for one, true in pairs)


def test_three_visits_recover_what_was_injected(tmp_path: Path) -> None:
    start = EXAMPLES / "align_start.json"
    workflow = load_workflow(EXAMPLES / "align.yaml")
    place = InProcess(workflow, "alignment", start, tmp_path, ALIGN.main, 2, [()] * 4)
    end = place.run()
    assert (str(end.name), len(place.steps)) == ("fixed_count", 3)
    # 800 tracks with 0.01 mm: 0.0005 mm, and as much over 40 mm of a plane.
    shift, rotation = furthest(place.constants(end))
    assert shift < 0.003
    assert rotation < 0.0001
    after_one = furthest(json.loads(place.files[1, True].read_text()))
    assert after_one[0] > 0.01, "one visit is not enough, as rotations are not linear"
    # Of each track (6 planes, 2 coordinates) 8 degrees of freedom are left.
    squares = [one.made.outcome.metrics["squares"].value for one in place.steps]  # type: ignore[union-attr]
    assert 0.9 < squares[2] / (800 * 8 * ALIGN.RESOLUTION**2) < 1.1
    assert squares[0] > 1000 * squares[2]
