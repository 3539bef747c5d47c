from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from airflow_calib_provider.domain.iteration.metrics import Metric, Within
from airflow_calib_provider.domain.iteration.mistakes import mistakes
from airflow_calib_provider.domain.iteration.phases import Phase
from airflow_calib_provider.domain.iteration.sequence import Corner, Iterate, Stage
from tests.domain.iteration.making import fit, metric
from tests.domain.iteration.test_sequence import CALORIMETER, PHASES, WHOLE

MIP, HCAL = Phase("mip", visits=1, needs=("hcal",)), fit(name="hcal")


def found(declared: Iterate) -> list[tuple[str, str]]:
    """Each mistake as its path, and its message."""
    return [(".".join(map(str, one.path)), one.message) for one in mistakes(declared)]


@pytest.mark.parametrize(
    "declared",
    [
        WHOLE,
        Iterate(PHASES),
        Iterate((fit(),)),
        replace(WHOLE, start=Corner(3), stop=Corner(3)),
        Iterate((MIP, HCAL), (Stage(1, ("hcal",)), Stage(2, ("mip",)))),
        Iterate((Phase("fit", verdict=True, max_steps=3, max_wall=60.0, accept=("max_steps",), result="measured"),)),
        Iterate(
            (fit(confirm=3, min_steps=3, max_steps=3, freeze=True, min_events=1, accept=("stalled", "diverging")),)
        ),
    ],
)
def test_nothing_is_wrong(declared: Iterate) -> None:
    assert found(declared) == []


@pytest.mark.parametrize(
    ("keys", "path", "said"),
    [
        ({"visits": 3}, "visits", "fit has visits and metrics"),
        ({"verdict": True}, "until", "fit has until: verdict and metrics"),
        ({"metrics": (), "verdict": True, "visits": 1}, "until", "fit has until: verdict and visits"),
        ({"metrics": ()}, "", "fit never ends"),
        ({"metrics": (), "visits": 0}, "visits", "fit.visits is 0"),
        ({"result": "best"}, "result", "fit.result is best"),
        ({"metrics": (), "visits": 2, "result": "measured"}, "result", "nothing measures what it ends with"),
        ({"confirm": 0}, "confirm", "fit.confirm is 0"),
        ({"metrics": (), "verdict": True, "max_steps": 0}, "max_steps", "fit.max_steps is 0"),
        ({"min_events": 0}, "min_events", "fit.min_events is 0"),
        ({"max_wall": 0.0}, "max_wall", "fit.max_wall is 0 s"),
        ({"max_wall": math.inf}, "max_wall", "fit.max_wall is inf s"),
        ({"confirm": 31}, "confirm", "fit cannot converge: confirm is 31, and max_steps 30"),
        ({"min_steps": 5, "max_steps": 4}, "min_steps", "fit cannot converge: min_steps is 5, and max_steps 4"),
        ({"max_steps": 1}, "max_steps", "fit cannot converge: min_steps is 2, and max_steps 1"),
        ({"metrics": (), "visits": 1, "confirm": 2}, "confirm", "fit.confirm means nothing without metrics"),
        ({"metrics": (), "visits": 1, "freeze": True}, "freeze", "fit.freeze means nothing without metrics"),
        ({"metrics": (), "verdict": True, "min_steps": 2}, "min_steps", "means nothing without metrics"),
        ({"metrics": (), "visits": 1, "max_steps": 2}, "max_steps", "means nothing without metrics or until: verdict"),
        ({"metrics": (), "visits": 1, "accept": ("max_steps",)}, "accept", "means nothing without metrics or until"),
        ({"accept": ("max_steps", "converged")}, "accept.1", "converged is published anyway"),
        ({"accept": ("not_finite",)}, "accept.0", "not_finite cannot be accepted"),
        ({"accept": ("max_step",)}, "accept.0", "max_step cannot be accepted"),
        ({"needs": ("hcal",)}, "needs.0", "fit needs hcal, which is no phase"),
        ({"needs": ("fit",)}, "needs.0", "fit in stage 1 needs fit, which is itself"),
        ({"metrics": (metric(), metric())}, "metrics.m", "the metric m of fit is declared 2 times"),
        ({"metrics": (metric("m", math.nan),)}, "metrics.m.target", "m.target is nan"),
        (
            {"metrics": (Metric("m", 0.0, Within(2, relative=True)),)},
            "metrics.m.within",
            "m.within: 2% of the target is nothing",
        ),
    ],
)
def test_a_phase(keys: dict[str, Any], path: str, said: str) -> None:
    (one,) = found(Iterate((replace(fit(), **keys),)))
    assert one[0] == f"phases.fit.{path}".strip(".")
    assert said in one[1]


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        (
            {"start": Corner(3), "stop": Corner(2)},
            "start",
            "it starts at stage 3, ecal_digi, after it stops: at stage 2, photons",
        ),
        (
            {"start": Corner(1, "mip"), "stop": Corner(1, "ecal_digi")},
            "start",
            "it starts at stage 1, mip, after it stops",
        ),
        ({"start": Corner(4)}, "start.stage", "start.stage is 4, which is no stage"),
        ({"stop": Corner(2, "mip")}, "stop.phase", "stop.phase is mip, which is not in stage 2"),
        ({"stop": Corner(phase="mips")}, "stop.phase", "stop.phase is mips, which is not in any stage"),
        ({"start": Corner(phase="mip")}, "start", "start.phase is mip, which is in 2 stages"),
        ({"start": Corner()}, "start", "start names nothing"),
        (
            {"start": Corner(1, "mip")},
            "phases.mip.needs.0",
            "mip in stage 1 needs hcal_digi, which is executed only after it",
        ),
        ({"start": Corner(1, "mip"), "stop": Corner(2)}, "phases.mip.needs.0", "which is not executed"),
        ({"sequence": ()}, "sequence", "the sequence is empty"),
        ({"sequence": (Stage(1, ()),)}, "sequence", "the sequence is empty"),
        ({"sequence": (Stage(1, CALORIMETER),)}, "phases.photons", "the phase photons is in no stage"),
        (
            {"sequence": (Stage(1, (*CALORIMETER, "photon")), Stage(2, ("photons",)))},
            "sequence.0.phases.5",
            "stage 1 has photon, which is no phase",
        ),
        (
            {"sequence": (Stage(1, (*CALORIMETER, "photons", "mip")),)},
            "sequence.0.phases.6",
            "stage 1 has mip twice",
        ),
        (
            {"sequence": (Stage(2, CALORIMETER), Stage(2, ("photons",)))},
            "sequence.1.stage",
            "stage 2 comes after stage 2",
        ),
        (
            {"sequence": (Stage(1, (*CALORIMETER, "photons")), Stage(2, ()))},
            "sequence.1.phases",
            "stage 2 has no phase",
        ),
    ],
)
def test_a_sequence(changes: dict[str, Any], path: str, said: str) -> None:
    (one,) = found(replace(WHOLE, **changes))
    assert one[0] == path
    assert said in one[1]


def test_without_any_phase() -> None:
    assert found(Iterate(())) == [("phases", "there is no phase")]


def test_a_phase_declared_twice() -> None:
    assert found(Iterate((fit(), fit()))) == [("phases.fit", "the phase fit is declared 2 times")]


def test_a_need_is_told_once_and_only_where_the_order_is_known() -> None:
    declared = Iterate((MIP, HCAL), (Stage(1, ("mip",)), Stage(2, ("mip", "hcal"))))
    assert found(declared) == [("phases.mip.needs.0", "mip in stage 1 needs hcal, which is executed only after it")]
    assert [path for path, _ in found(replace(declared, start=Corner(7)))] == ["start.stage"]


def test_all_mistakes_are_told_at_once_with_what_may_have_been_meant() -> None:
    phases = (fit(visits=2, accept=("oscilating",)), Phase("mip", visits=1, needs=("ft",)))
    told = mistakes(Iterate(phases, (Stage(1, ("fit",)),), start=Corner(1, "fitt")))
    assert [(one.path[-1], one.word) for one in told] == [
        ("visits", ""), (0, "oscilating"), (0, "ft"), ("mip", ""), ("phase", "fitt"),
    ]  # fmt: skip
    assert ("fit" in told[2].options, told[4].options) == (True, ("fit",))
    assert all(one.expected for one in told)
