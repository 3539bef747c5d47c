"""The jobs as a batch system runs them: files in, files out, reported values, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from zee import closure, laser, plots, scale, select, validate
from zee.events import Selected, read_selected
from zee.jobio import JobError, read_list, run_job
from zee.report import compare, table

from tests.examples.conftest import EXAMPLES

RUNS = (1001, 1002, 1003, 1004)


@pytest.fixture(scope="module")
def group(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the selected events of the data set in two jobs per run, their list and laser corrections."""
    folder = tmp_path_factory.mktemp("group")
    outputs = []
    for run in RUNS:
        for job in (0, 1):
            out = folder / f"{run}-{job}"
            block = ["--job", str(job), "--jobs", "2", "--out", str(out)]
            select.main(["--run", str(run), "--input", str(data_set / f"events/{run}.csv"), *block])
            outputs.append(out / "events.npz")
    (folder / "list").write_text("\n".join(map(str, outputs)) + "\n")
    laser.main(["--runs-file", str(data_set / "runs.csv"), "--run", *map(str, RUNS), "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def constants(group: Path) -> Path:
    out = group / "scale"
    scale.main([*arguments(group), "--out", str(out), "--windows"])
    return out / "constants.json"


def arguments(group: Path) -> list[str]:
    return ["--inputs-file", str(group / "list"), "--laser", str(group / "corrections.json")]


def reported(path: Path) -> dict[str, dict[str, float]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(line.pop("type") == "value" for line in lines)
    return {line.pop("name"): line for line in lines}


class TestSelect:
    def test_counts_add_up(self, group: Path, data_set: Path) -> None:
        jobs = [json.loads((group / f"1001-{job}/counts.json").read_text()) for job in (0, 1)]
        assert sum(job["read"] for job in jobs) == len((data_set / "events/1001.csv").read_text().splitlines()) - 1
        for job in jobs:
            assert (
                job["read"] > job["opposite_sign"] > job["kept"] > job["in_window"] == sum(job["categories"].values())
            )

    def test_jobs_join_to_the_run(self, group: Path, data_set: Path, tmp_path: Path) -> None:
        select.main(["--run", "1001", "--input", str(data_set / "events/1001.csv"), "--out", str(tmp_path)])
        whole = read_selected([tmp_path])
        joined = read_selected([group / "1001-0", group / "1001-1"])
        np.testing.assert_array_equal(whole.event, joined.event)
        np.testing.assert_array_equal(whole.mass, joined.mass)

    def test_reports(self, data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CALIB_REPORT", str(tmp_path / "report"))
        select.main(["--run", "1001", "--input", str(data_set / "events/1001.csv"), "--out", str(tmp_path)])
        values = reported(tmp_path / "report")
        assert values["events_selected"]["value"] == len(read_selected([tmp_path]))

    @pytest.mark.parametrize(
        ("options", "attempt", "code"),
        [
            (["--fail"], None, 3),
            (["--fail-attempt", "1"], "1", 3),
            (["--fail-attempt", "1"], "2", 0),
            (["--fail-attempt", "1"], None, 0),
            (["--flaky-run", "1001"], "1", 3),
            (["--flaky-run", "1001"], "2", 0),
            (["--flaky-run", "1001", "--job", "1", "--jobs", "2"], "1", 0),
            (["--flaky-run", "1002", "1003"], "1", 0),
            (["--broken-run", "1002", "1001"], "4", 3),
            (["--broken-run", "1002"], "1", 0),
        ],
    )
    def test_fails_when_asked_to(
        self,
        data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        options: list[str], attempt: str | None, code: int,
    ) -> None:  # fmt: skip
        monkeypatch.delenv("CALIB_ATTEMPT", raising=False)
        if attempt:
            monkeypatch.setenv("CALIB_ATTEMPT", attempt)
        line = ["--run", "1001", "--input", str(data_set / "events/1001.csv"), "--out", str(tmp_path), *options]
        assert run_job(select.main, line) == code
        assert (tmp_path / "events.npz").exists() == (code == 0)
        assert ("as it was asked to" in capsys.readouterr().err) == (code == 3)

    def test_as_a_process(self, tmp_path: Path) -> None:
        (tmp_path / "bad.csv").write_bytes(b"Run,Event\n\xff\n")
        options = ["--run", "1", "--input", str(tmp_path / "bad.csv"), "--out", str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-m", "zee.select", *options],
            env={**os.environ, "PYTHONPATH": str(EXAMPLES)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert "bad.csv:2: is not UTF-8" in done.stderr
        assert "Traceback" not in done.stderr


def test_jobs_import_no_more_than_they_need() -> None:
    code = "import sys, zee.{0}; sys.exit(bool({{'matplotlib', 'iminuit', 'scipy', 'airflow'}} & set(sys.modules)))"
    for module in ("select", "laser", "report", "simulate", "plots"):
        environment = {**os.environ, "PYTHONPATH": str(EXAMPLES)}
        assert subprocess.run([sys.executable, "-c", code.format(module)], env=environment, check=False).returncode == 0


class TestLaser:
    def test_corrections_undo_the_loss(self, group: Path, data_set: Path) -> None:
        truth = json.loads((data_set / "truth.json").read_text())["runs"]
        content = json.loads((group / "corrections.json").read_text())["runs"]
        assert set(content) == set(truth)
        for run, factors in content.items():
            for region in ("EB", "EE"):
                assert factors[region] * truth[run]["transparency"][region] == pytest.approx(1.0, abs=6e-4)

    def test_mass_scales_with_the_root(self) -> None:
        events = Selected(np.array([1, 1, 1]), np.arange(3), np.full(3, 90.0), np.array([0, 1, 2]))
        corrected = laser.apply_corrections(events, {1: {"EB": 1.01, "EE": 1.03}})
        np.testing.assert_allclose(corrected.mass, 90.0 * np.array([1.01, np.sqrt(1.01 * 1.03), 1.03]))

    def test_unknown_run(self, data_set: Path, tmp_path: Path) -> None:
        with pytest.raises(JobError, match="has no run 4711"):
            laser.main(["--runs-file", str(data_set / "runs.csv"), "--run", "4711", "--out", str(tmp_path)])
        events = Selected(np.array([5]), np.array([1]), np.array([90.0]), np.array([0]))
        with pytest.raises(JobError, match="no laser correction for run 5"):
            laser.apply_corrections(events, {})

    def test_runs_from_a_list(self, group: Path, data_set: Path, tmp_path: Path) -> None:
        (tmp_path / "runs").write_text("\n".join(map(str, RUNS)))
        options = ["--runs-file", str(data_set / "runs.csv"), "--runs-list", str(tmp_path / "runs")]
        laser.main([*options, "--out", str(tmp_path)])
        assert (tmp_path / "corrections.json").read_bytes() == (group / "corrections.json").read_bytes()


class TestScale:
    def test_constants(self, constants: Path) -> None:
        content = json.loads(constants.read_text())
        covariance = np.array(content["covariance"])
        for index, region in enumerate(("EB", "EE")):
            entry = content["scales"][region]
            assert entry["error"] == pytest.approx(np.sqrt(covariance[index, index]))
            assert entry["systematic"] == max(abs(shift[region]) for shift in content["window_shifts"].values())
        assert content["runs"] == list(RUNS)
        assert sum(content["events_per_run"].values()) == sum(content["events"].values())
        assert content["warnings"] == []
        spectrum = json.loads((constants.parent / "spectrum.json").read_text())
        assert {name: sum(category["data"]) for name, category in spectrum.items()} == content["events"]

    def test_recovers_what_was_injected(self, constants: Path, data_set: Path) -> None:
        rows = compare(data_set / "truth.json", [constants])
        assert [row.region for row in rows] == ["EB", "EE"]
        assert all(abs(row.pull) < 4 for row in rows)
        assert "1001–1004" in table(rows)

    def test_the_laser_correction_matters(self, group: Path, constants: Path, tmp_path: Path) -> None:
        scale.main(["--inputs-file", str(group / "list"), "--out", str(tmp_path)])
        with_laser, without = (
            json.loads((path / "constants.json").read_text()) for path in (constants.parent, tmp_path)
        )
        for region in ("EB", "EE"):
            assert with_laser["scales"][region]["value"] > without["scales"][region]["value"]

    def test_reproducible(self, group: Path, constants: Path, tmp_path: Path) -> None:
        scale.main([*arguments(group), "--out", str(tmp_path), "--windows"])
        assert (tmp_path / "constants.json").read_bytes() == constants.read_bytes()

    def test_applied_to_the_same_events_is_one(self, group: Path, constants: Path, tmp_path: Path) -> None:
        """A tautology, up to events that cross the window's edges: it checks the direction in which constants apply."""
        scale.main([*arguments(group), "--out", str(tmp_path), "--apply", str(constants)])
        content = json.loads((tmp_path / "constants.json").read_text())
        for entry in content["scales"].values():
            assert entry["value"] == pytest.approx(1.0, abs=0.3 * entry["error"])

    def test_reports(self, group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CALIB_REPORT", str(tmp_path / "report"))
        scale.main([*arguments(group), "--out", str(tmp_path)])
        values = reported(tmp_path / "report")
        content = json.loads((tmp_path / "constants.json").read_text())
        assert values["scale_EB"] == {key: content["scales"]["EB"][key] for key in ("value", "error")}
        assert values["consistency_chi2"]["value"] == content["consistency"]["chi2"]

    def test_halves_are_a_whole(self, group: Path, tmp_path: Path) -> None:
        totals = []
        for options in ([], ["--parity", "even"], ["--parity", "odd"]):
            scale.main([*arguments(group), "--out", str(tmp_path), *options])
            totals.append(sum(json.loads((tmp_path / "constants.json").read_text())["events"].values()))
        assert totals[0] == totals[1] + totals[2]

    def test_few_endcap_events_are_told(self, group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "list").write_text(f"{group / '1001-0'}\n{group / '1002-0'}\n")
        scale.main(["--inputs-file", str(tmp_path / "list"), "--out", str(tmp_path)])
        content = json.loads((tmp_path / "constants.json").read_text())
        assert content["events"]["EEEE"] < 250
        assert "fewer than 250" in content["warnings"][0]
        assert "fewer than 250" in capsys.readouterr().err

    def test_a_path_listed_twice(self, tmp_path: Path) -> None:
        (tmp_path / "list").write_text("a\nb\na\n")
        with pytest.raises(JobError, match="list:3: a is listed twice"):
            read_list(tmp_path / "list")


def test_closure(group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_REPORT", str(tmp_path / "report"))
    closure.main([*arguments(group), "--out", str(tmp_path)])
    content = json.loads((tmp_path / "closure.json").read_text())
    for region, entry in content["closure"].items():
        assert abs(entry["pull"]) < 4
        assert entry["error"] > content["odd_refitted"]["scales"][region]["error"]
    assert reported(tmp_path / "report")["closure_EB"]["value"] == content["closure"]["EB"]["value"]


def test_validation(group: Path, constants: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    closure.main([*arguments(group), "--out", str(tmp_path)])
    known = ["--constants", str(constants), "--closure", str(tmp_path / "closure.json"), "--out", str(tmp_path)]
    monkeypatch.setenv("CALIB_REPORT", str(tmp_path / "first"))
    validate.main([*known, "--former", ""])
    first = reported(tmp_path / "first")
    assert 0 < first["jump"]["value"] < 0.05, "against 1, as there was nothing before"
    assert 0 < first["closure_pull"]["value"] < 4
    content = json.loads(constants.read_text())
    content["scales"]["EE"]["value"] /= 1.25
    former = tmp_path / "former.json"
    former.write_text(json.dumps(content))
    monkeypatch.setenv("CALIB_REPORT", str(tmp_path / "second"))
    validate.main([*known, "--former", str(former)])
    assert reported(tmp_path / "second")["jump"]["value"] == pytest.approx(0.25)
    monkeypatch.setenv("ZEE_SHIFTED_RUNS", f"7 {RUNS[1]}")
    scale.main([*arguments(group), "--out", str(tmp_path / "shifted")])
    monkeypatch.setenv("CALIB_REPORT", str(tmp_path / "third"))
    validate.main(["--constants", str(tmp_path / "shifted" / "constants.json"), *known[2:], "--former", str(constants)])
    assert reported(tmp_path / "third")["jump"]["value"] == pytest.approx(0.1)
    assert (tmp_path / "old_and_new.png").read_bytes().startswith(b"\x89PNG")
    former.write_text("{}")
    with pytest.raises(JobError, match="is not a file of scales"):
        validate.main([*known, "--former", str(former)])


def test_pictures(constants: Path, data_set: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plots.main(["spectrum", str(constants.parent / "spectrum.json"), "--out", str(tmp_path / "spectrum.png")])
    plots.main(["scales", str(constants), "--truth", str(data_set / "truth.json"), "--out", str(tmp_path / "time.png")])
    plots.main(["scales", str(constants), "--out", str(tmp_path / "run.png")])
    for name in ("spectrum", "time", "run"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
