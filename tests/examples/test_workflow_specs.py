"""The workflows in workflow_specs/examples do what they say, on this machine, from their runs to what they publish."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.payloads import store
from tests.docs.stand_in import StandIn
from tests.postgres.places import migrated

EXAMPLES = Path(__file__).parents[2] / "workflow_specs" / "examples"
CLOSED = {"fill-r101": (101, 102), "fill-r104": (104, 105)}
"""The groups that are closed, with their runs: 103 has no luminosity, and the third fill may go on."""


class Examples(StandIn):
    """Some of the workflows, with their run source."""

    def __init__(self, folder: Path, *names: str) -> None:
        specs = folder / "specs"
        specs.mkdir()
        for file in EXAMPLES.iterdir():
            if file.suffix in (".csv", ".py") or file.stem in ("sources", *names):
                shutil.copy(file, specs)
        migrated().close()
        super().__init__(specs)

    def states(self, workflow: str) -> dict[tuple[str, str], str]:  # type: ignore[override]
        """Group and task → state."""
        groups = {row.id: row for row in self.rows(tables.run_group)}
        rows = ((groups[row.group_id], row) for row in self.rows(tables.group_task))
        return {(group.name, row.task): row.state for group, row in rows if group.workflow == workflow}

    def published(self, tag: str) -> dict[tuple[int, int], Any]:
        """Interval of validity → constants."""
        rows = [row for row in self.rows(tables.payload) if row.tag == tag]
        return {(row.first_run, row.last_run): json.loads(store.content_path(row).read_text()) for row in rows}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Examples]]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    monkeypatch.setenv("CALIB_RETRY_DELAY", "0")
    monkeypatch.delenv("CALIB_LEDGER", raising=False)
    found: list[Examples] = []
    yield found
    for item in found:
        item.ledger.close()


def run(made: list[Examples], folder: Path, *names: str) -> Examples:
    made.append(Examples(folder, *names))
    made[0].inject()
    return made[0]


def test_pi0_monitors_every_fill_with_the_pairs_of_all_its_runs(made: list[Examples], tmp_path: Path) -> None:
    found = run(made, tmp_path, "pi0")
    states = found.states("pi0")
    assert {name for name, task in states if task == "select"} == {f"run-r{n}" for n in (101, 102, 104, 105, 106, 107)}
    assert all(states[group, task] == "done" for group in CLOSED for task in ("fit", "monitor"))
    assert states["fill-r106", "fit"] in ("new", "waiting")
    # The luminosity of a run says how many jobs select it: 8.5 and 12, 14.2 and 9.9, 13.1 and 7.7 by fives.
    generations = {row.id: row for row in found.rows(tables.generation)}
    selected = [row for row in found.rows(tables.job) if generations[row.generation_id].task == "select"]
    assert len(selected) == 2 + 3 + 3 + 2 + 3 + 2
    summaries = sorted(path.read_text() for path in (tmp_path / "calib").rglob("summary.txt"))
    assert len(summaries) == 2
    for text, response in zip(summaries, (0.9855, 0.9905), strict=True):
        assert abs(float(text.split()[1]) - response) < 0.004
        assert text.endswith("as it should be\n" if response > 0.99 else "to be corrected\n")


def test_a_fork_publishes_new_constants_that_are_better_than_the_old_ones(made: list[Examples], tmp_path: Path) -> None:
    found = run(made, tmp_path, "response", "fork")
    assert set(found.published("QuickResponse")) == set(CLOSED.values())
    assert found.published("Response") == {
        (101, 102): {"all": round(1 / 0.9905, 6)},
        (104, 105): {"all": round(1 / 0.9855, 6)},
    }
    verdicts = [json.loads(path.read_text()) for path in (tmp_path / "calib").rglob("verdict.json")]
    values = {row.name: row.value for row in found.rows(tables.value)}
    assert values["residual_new"] < values["residual_old"]
    assert [(item["better"], item["new"] < item["old"]) for item in verdicts] == [(True, True)] * 2


def test_a_fork_waits_for_the_old_constants(made: list[Examples], tmp_path: Path) -> None:
    states = run(made, tmp_path, "fork").states("fork")
    assert (states["fill-r101", "with_new"], states["fill-r101", "with_old"]) == ("done", "waiting")


def test_a_fork_does_not_publish_what_is_worse(made: list[Examples], tmp_path: Path) -> None:
    made.append(Examples(tmp_path, "response", "fork"))
    file = made[0].specs / "fork.yaml"
    before, derive, after = file.read_text().partition("derive, --out")
    assert "group.n_runs" in after
    file.write_text(before + derive + after.replace("group.n_runs", "(group.n_runs + 1)", 1))
    made[0].inject()
    states = made[0].states("fork")
    assert {states[group, "with_new"] for group in CLOSED} == {"done"}
    assert {states[group, "compare"] for group in CLOSED} == {"failed"}
    assert made[0].published("Response") == {}


def test_a_merge_has_the_constants_of_both_parts(made: list[Examples], tmp_path: Path) -> None:
    found = run(made, tmp_path, "barrel", "endcap", "merged")
    assert found.published("ResponseOfAllParts") == {
        (101, 102): {"barrel": round(1 / 0.991, 6), "endcap": round(1 / (0.991 * 0.97), 6)},
        (104, 105): {"barrel": round(1 / 0.986, 6), "endcap": round(1 / (0.986 * 0.97), 6)},
    }


def test_an_energy_scale_takes_the_last_good_corrections_after_two_days(made: list[Examples], tmp_path: Path) -> None:
    made.append(Examples(tmp_path, "laser", "energy"))
    file = made[0].specs / "laser.yaml"
    file.write_text(file.read_text().replace("run.lumi > 0.0", "run.lumi > 0.0 && run.number < 103"))
    made[0].inject()
    made[0].inject()
    laser = 1 / 1.002
    assert made[0].published("EnergyScale") == {(101, 102): {"all": round(1 / (0.9905 * round(laser, 6)), 6)}}
    assert made[0].states("energy")["fill-r104", "scale"] == "waiting"
    reason = next(
        row.reason
        for row in made[0].rows(tables.group_task)
        if row.state == "waiting" and row.reason["code"] == "payload"
    )
    assert reason["deadline"]["then"] == "last_good"

    group = tables.run_group
    with made[0].ledger.write() as connection:  # two days later
        earlier = datetime.now(UTC) - timedelta(hours=49)
        connection.execute(update(group).where(group.c.name == "fill-r104").values(closed_at=earlier))
    made[0].work()
    assert made[0].published("EnergyScale")[104, 105] == {"all": round(1 / (0.9855 * round(laser, 6)), 6)}
    payload = next(row for row in made[0].rows(tables.payload) if (row.tag, row.first_run) == ("EnergyScale", 104))
    (made_by,) = payload.provenance["made_by"]
    (gone,) = made_by["used"]["gone_on"]
    assert (gone["what"], gone["then"], gone["missing"][0]) == (
        "LaserCorrections",
        "last_good",
        [104, "no payload yet"],
    )
    assert [(item["tag"], item["revision"]) for item in made_by["used"]["payloads"]] == [("LaserCorrections", 1)]


def test_a_night_has_its_number_whatever_the_fills_were(made: list[Examples], tmp_path: Path) -> None:
    found = run(made, tmp_path, "nightly")
    # 105 is of the same night as 101, as it began at six in the morning; the last night is over since its noon.
    assert found.published("NightlyResponse") == {
        (101, 105): {"all": round(1 / 0.991, 6)},
        (106, 107): {"all": round(1 / 0.982, 6)},
    }
    (first, last) = found.rows(tables.run_group)
    assert (first.name, first.close_reason["code"]) == ("night-r101", "later_window")
    assert (last.open_reason["why"], last.close_reason["code"]) == ("later_window", "max_wait")


def test_a_muon_scale_is_of_four_thousand_pairs_however_many_runs_that_takes(
    made: list[Examples], tmp_path: Path
) -> None:
    found = run(made, tmp_path, "muon")
    assert found.published("MuonScale") == {}, "nobody knew how many pairs the runs have"
    found.inject()
    groups = {row.name: row for row in found.rows(tables.run_group) if row.grouping == "until"}
    assert {name: (row.state, row.last_run) for name, row in groups.items()} == {
        "until-r101": ("closed", 105),
        "until-r106": ("forming", 107),
    }
    generations = {row.id: row for row in found.rows(tables.generation) if row.task == "select"}
    selected: dict[int, float] = {}
    for row in found.rows(tables.value):
        if row.generation_id in generations:
            (number,) = generations[row.generation_id].runs
            selected[number] = selected.get(number, 0) + row.value
    assert sum(selected[number] for number in (101, 102, 104)) < 4000
    enough = sum(selected[number] for number in (101, 102, 104, 105))
    assert groups["until-r101"].close_reason["values"] == {"sum.pairs": enough, "count": 4}
    ((interval, constants),) = found.published("MuonScale").items()
    assert (interval, constants["pairs"]) == ((101, 105), enough)
    # The responses of the four runs, as many times as they have pairs.
    responses = {101: 0.991, 102: 0.990, 104: 0.986, 105: 0.985}
    mean = sum(responses[number] * selected[number] for number in responses) / enough
    assert abs(constants["scale"] - 1 / mean) < 0.002


def test_every_example_is_here() -> None:
    text = "".join(file.read_text() for file in Path(__file__).parent.glob("*.py"))
    names = {file.stem for file in EXAMPLES.glob("*.yaml")} - {"sources"}
    assert {name for name in names if f'"{name}"' not in text and f'"{name}.yaml"' not in text} == set()
