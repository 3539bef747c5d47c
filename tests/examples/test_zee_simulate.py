"""The simulator: reproducible, run by run, and what its files hold."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from zee import simulate
from zee.events import in_window, read_pairs, select
from zee.generator import Sample, record
from zee.simulate import Plan, schedule, simulate_run, simulate_runs


def ones(when: np.ndarray) -> np.ndarray:
    return np.ones((len(when), 2))


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        simulate.main(["--out", str(tmp_path / name), "--runs", "2", "--events", "200", "--short", "0", "--seed", seed])
    a, b, c = ((tmp_path / name / "events" / "1001.csv").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert (tmp_path / "a/truth.json").read_bytes() == (tmp_path / "b/truth.json").read_bytes()


def test_runs_made_one_at_a_time_are_the_same() -> None:
    plan = Plan(runs=5, events=100, seed=9)
    fourth = simulate_run(plan, schedule(plan)[3])
    streamed = list(simulate_runs(plan))[3]
    np.testing.assert_array_equal(fourth.pairs.pt, streamed.pairs.pt)
    assert fourth.log_scales == streamed.log_scales
    assert fourth.laser == streamed.laser


def test_upto_releases_runs_progressively(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path), "--runs", "4", "--events", "50", "--short", "0"]
    simulate.main([*options, "--upto", "2"])
    early = (tmp_path / "runs.csv").read_text().splitlines()
    simulate.main([*options, "--upto", "4"])
    late = (tmp_path / "runs.csv").read_text().splitlines()
    assert len(early) == 3
    assert late[:3] == early
    assert len(late) == 5


def test_files(data_set: Path) -> None:
    with (data_set / "runs.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    truth = json.loads((data_set / "truth.json").read_text())
    assert [row["run"] for row in rows] == ["1001", "1002", "1003", "1004"] == list(truth["runs"])
    assert len({row["fill"] for row in rows}) == 2
    ends = None
    for row in rows:
        start, end = datetime.fromisoformat(row["start"]), datetime.fromisoformat(row["end"])
        assert start < end
        assert ends is None or ends < start
        ends = end
        assert row["completed"] == "true"
        assert float(row["luminosity"]) > 0
        assert Path(row["files"]).is_absolute()
        assert len(read_pairs([Path(row["files"])], int(row["run"]))) == int(row["events"])
        for region in ("EB", "EE"):
            measured, true = float(row[f"laser_{region.lower()}"]), truth["runs"][row["run"]]["transparency"][region]
            assert measured == pytest.approx(true, abs=1e-3)
            assert abs(truth["runs"][row["run"]]["ln_s"][region]) < 0.02
    assert min(int(row["events"]) for row in rows) < 500 < max(int(row["events"]) for row in rows)


def test_scales_drift_by_several_tenths_of_a_percent() -> None:
    for seed in range(1, 6):
        plan = Plan(seed=seed)
        last = schedule(plan)[-1].end
        curve = simulate.injected_log_scales(plan, np.linspace(0, (last - plan.start).total_seconds() / 3600, 300))
        assert (np.ptp(curve, axis=0) > 0.003).all()


def test_the_recorded_sample_looks_like_data() -> None:
    sample = record(np.random.default_rng(1), 20_000, ones)
    pairs = sample.pairs
    assert len(pairs) == 20_000
    assert pairs.pt.min() > 25.0
    assert (np.diff(sample.when) >= 0).all()
    assert 0.17 < 1.0 - pairs.opposite_sign().mean() < 0.27
    chosen = select(pairs)
    peak = chosen.mass[in_window(chosen.mass, (85, 95))]
    assert 89.5 < np.median(peak) < 91.2  # below m_Z: electrons radiate


def test_the_cut_is_on_the_measured_momentum() -> None:
    def low(when: np.ndarray) -> np.ndarray:
        return np.full((len(when), 2), 0.9)

    pairs = record(np.random.default_rng(2), 5_000, low, Sample(background=0.0)).pairs
    assert pairs.pt.min() > 25.0
    chosen = select(pairs)
    assert 80.0 < np.median(chosen.mass) < 83.5


def test_a_group_of_four_runs_has_enough_endcap_pairs() -> None:
    runs = [select(run.pairs) for run in simulate_runs(Plan(seed=1))]
    for first in range(0, len(runs), 4):
        group = runs[first : first + 4]
        assert sum(int((in_window(run.mass, (70, 110)) & (run.category == 2)).sum()) for run in group) >= 300
