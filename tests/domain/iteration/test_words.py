from __future__ import annotations

import json
import math

import pytest

from airflow_calib_provider.domain import reasons
from airflow_calib_provider.domain.iteration.detectors import judge
from airflow_calib_provider.domain.iteration.endings import ADVANCES, EndingName, PhaseEnd
from airflow_calib_provider.domain.iteration.metrics import Fault, Reported
from airflow_calib_provider.domain.iteration.phases import Phase
from airflow_calib_provider.domain.iteration.words import RELEASES, TEXTS, to_try, tolerances
from tests.domain.iteration.making import fit, judged, made, reported
from tests.domain.iteration.test_detectors import geometric

SAME = {"constants_in": "x", "constants_out": "x"}


def end(phase: Phase, values: list[object]) -> PhaseEnd:
    found = judged(phase, values)[-1].ended  # type: ignore[arg-type]
    assert found is not None
    return found


def unchanged(value: float) -> PhaseEnd:
    found = judge(fit(), [], made(1, value, **SAME)).ended
    assert found is not None
    return found


SAID = [
    (
        end(fit(), [reported(9.0, 0.1), reported(0.5, 0.1)]),
        "stage 1, fit, step 2: converged: m is 0.5 ± 0.1, 0.5 tolerances off",
    ),
    (
        end(fit(), [9.0, 0.5]),
        "converged: m is 0.5, 0.5 tolerances off; no error is known of m, so that luck may have decided",
    ),
    (
        end(fit("a", "b", freeze=True), [{"a": 0.5, "b": 9.0}, {"a": 0.5, "b": 9.0}, {"a": 3.0, "b": 0.1}]),
        "moved outside after it was frozen: a (3 tolerances off)",
    ),
    (end(Phase("fit", verdict=True), [Reported({}, "done")]), "converged: its update says done"),
    (end(Phase("fit", visits=1), [Reported()]), "stage 1, fit, step 1: its one visit is made"),
    (end(Phase("fit", visits=3), [Reported()] * 3), "its 3 visits are made"),
    (unchanged(0.5), "nothing to change: it is good enough with the constants with which it began"),
    (
        unchanged(2.0),
        "stalled: the update makes the very constants that it was given, and they are not good: m is 2, 2 tol",
    ),
    (
        end(fit(max_steps=3), [9.0, 4.0, 5.0]),
        "not good after 3 steps, the most that it may take: m is 5, 5 tolerances off; the best was step 2, 4 off",
    ),
    (end(fit(max_steps=2, accept=("max_steps",)), [9.0, 4.0]), "4 tolerances off; accepted by the spec"),
    (
        end(fit(), [20.0] * 6),
        "stalled: the last five steps brought it no closer: m is 20, 20 tolerances off; the best was step 1",
    ),
    (
        end(fit(), geometric(-1.0)),
        "oscillating from side to side, with 1.00 of the error left after each step: m is -20",
    ),
    (end(fit(), geometric(1.3)), "diverging: further off in each of the last three steps: m is 43.94"),
    (end(fit(), [5.0, 60.0, 60.0]), "diverging: more than 10 times as far off as it was"),
    (
        end(fit(), [Fault(EndingName.NOT_FINITE, "metric m: value is nan")]),
        "not a finite number: metric m: value is nan",
    ),
    (end(fit(), [Fault(EndingName.FAILED, "no report")]), "failed: no report"),
    (end(Phase("fit", verdict=True), [Reported({}, "failed")]), "failed, says its update"),
    (end(Phase("fit", verdict=True), [Reported({}, "not_enough_data")]), "not enough data, says its update"),
    (
        end(fit(), [reported(0.5, 0.9)]),
        "the error of m, 0.9, is more than half of its tolerance, 1, so that luck would decide",
    ),
    (end(fit(min_events=5), [9.0]), "not enough data: nobody counted the events, of 5 at least"),
    (
        PhaseEnd(EndingName.KILLED, 3, "scale", 19, 2, numbers={"said": "Airflow's state is failed"}),
        "stage 3, scale, step 19 (visit 2): ended by a person",
    ),
]


@pytest.mark.parametrize(("ending", "said"), SAID, ids=[f"{one.name}-{n}" for n, (one, _) in enumerate(SAID)])
def test_what_is_said(ending: PhaseEnd, said: str) -> None:
    reason = json.loads(json.dumps(ending.reason(), allow_nan=False))
    assert said in reasons.render(reason)


def test_the_time_and_the_events_are_said() -> None:
    late = judge(fit(max_wall=60.0), [], made(1, 20.0, seconds=61.0)).ended
    few = judge(fit(min_events=5), [], made(1, 20.0, events=4)).ended
    assert late is not None
    assert few is not None
    assert "not good after 61 s, of 60 s that it may take" in reasons.render(late.reason())
    assert "not enough data: 4 events, of 5 at least" in reasons.render(few.reason())


def test_every_ending_has_its_words_and_every_bad_one_what_to_try() -> None:
    assert set(TEXTS) == {f"iteration_{name}" for name in EndingName}
    assert set(RELEASES) == {f"iteration_{name}" for name in EndingName if name not in ADVANCES}
    assert {str(one.reason()["code"]) for one, _ in SAID} == set(TEXTS)


def test_what_is_hardly_outside_does_not_look_good() -> None:
    assert tolerances(1.00003, "+.{}f", 2) == "+1.00003"
    assert tolerances(-1.00003, "+.{}f", 2) == "-1.00003"
    assert tolerances(1.0, "+.{}f", 2) == "+1.00"
    assert tolerances(3.14159, ".{}g", 3) == "3.14"
    assert tolerances(math.nextafter(1, 2), ".{}g", 3) == "1.0000000000000002"
    assert "m is 1.0003, 1.0003 tolerances off" in reasons.render(end(fit(max_steps=2), [9.0, 1.0003]).reason())


def test_what_to_try() -> None:
    assert to_try(end(fit(), geometric(-0.95)).reason()).startswith(
        "an update that corrects 0.51 times what it does now, as by a damping: it corrects too much; then"
    )
    assert "which finds nothing to change" in to_try(unchanged(2.0).reason())
    assert "else kept it there" in to_try(end(fit(), [20.0] * 6).reason())
    assert to_try(end(fit(), [9.0, 0.5]).reason()) == ""
    assert to_try({"code": "jobs_failed"}) == ""
    best = end(fit(), [5.0, 3.0, 60.0, 60.0]).reason()
    assert "`calib retry --from-step 2`, which goes on from the best step" in to_try(best)
    assert "`calib retry --all`: no other retry takes them" in to_try(best)
    assert to_try({}) == ""
