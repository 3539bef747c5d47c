"""Simulated runs of a detector whose energy scales drift: event files, ``runs.csv`` and ``truth.json``.

A run is a function of the plan and its own number alone, so runs can be made one at a time and come out the same. The
measured energy is E_reco = s_r(t) · T_r(run) · E_true: the injected scale s_r drifts within and between runs; the
transparency T_r is lost while there is beam, recovers between fills, and is seen by the laser.

Command line::

    python -m zee.simulate --out DIR [--runs 24] [--seed 1] [--fills 5] [--events 3000] [--short 3] [--first-run 1001]
                           [--start 2026-03-01T06:00:00Z] [--upto K] [--without-laser-loss]
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from zee.events import REGIONS, FloatArray, Pairs, write_pairs
from zee.generator import Sample, record
from zee.jobio import JobError, run_job, write_json, write_whole

RUN_COLUMNS = (
    "run", "start", "end", "fill", "luminosity", "events", "completed", "files", "laser_eb", "laser_ee",
)  # fmt: skip
"""Columns of ``runs.csv``; times are ISO-8601 in UTC, the luminosity is in 1/pb, ``files`` is an absolute path."""

LASER_ERROR = 1e-4
"""Standard deviation of the laser's measurement of the transparency."""

_FIRST_FILL = 7001
_EVENTS_PER_PB = 250.0
_EVENTS_PER_HOUR = 1500.0


@dataclass(frozen=True)
class Plan:
    """What to simulate.

    :param runs: number of runs.
    :param seed: of the random numbers.
    :param fills: number of fills over which the runs are spread.
    :param events: mean number of recorded events of a run of normal length.
    :param short: number of short runs, of about a tenth of the events.
    :param first_run: number of the first run; the others follow.
    :param start: begin of the first run.
    :param laser_loss: let the transparency be lost; without it, T = 1.
    :param sample: composition and detector.
    """

    runs: int = 24
    seed: int = 1
    fills: int = 5
    events: int = 3000
    short: int = 3
    first_run: int = 1001
    start: datetime = datetime(2026, 3, 1, 6, tzinfo=UTC)
    laser_loss: bool = True
    sample: Sample = field(default_factory=Sample)


@dataclass(frozen=True)
class RunInfo:
    """One run as the data-taking records it.

    :param number: run number.
    :param fill: number of the LHC-like fill.
    :param start: begin.
    :param end: end.
    :param luminosity: integrated luminosity, 1/pb.
    :param events: number of recorded events.
    :param beam_hours: hours with beam in this fill before the run's middle.
    :param age_hours: hours with beam since the first run, at the run's middle.
    """

    number: int
    fill: int
    start: datetime
    end: datetime
    luminosity: float
    events: int
    beam_hours: float
    age_hours: float


@dataclass(frozen=True)
class RunData:
    """A simulated run.

    :param info: as recorded.
    :param pairs: its events, in order of time.
    :param log_scales: mean of the injected ln s over the run's opposite-sign events: EB, EE.
    :param transparency: true T: EB, EE.
    :param laser: T as measured by the laser: EB, EE.
    """

    info: RunInfo
    pairs: Pairs
    log_scales: tuple[float, float]
    transparency: tuple[float, float]
    laser: tuple[float, float]


def schedule(plan: Plan) -> list[RunInfo]:
    """The runs' numbers, fills, times and sizes.

    :param plan: what to simulate.
    """
    if plan.runs < 1 or plan.fills < 1 or plan.events < 1:
        raise JobError("at least one run, one fill and one event are needed")
    generator = np.random.default_rng([plan.seed, 0])
    sizes = np.round(plan.events * generator.uniform(0.75, 1.25, plan.runs)).astype(int)
    # one short run in each of as many stretches of runs, so that no group is made of short runs only
    stretches = np.array_split(np.arange(plan.runs), min(plan.short, plan.runs)) if plan.short > 0 else []
    short = np.array([generator.choice(stretch) for stretch in stretches], dtype=int)
    sizes[short] = np.maximum(np.round(plan.events * generator.uniform(0.05, 0.12, len(short))), 1).astype(int)
    fills = np.sort(np.arange(plan.runs) * plan.fills // plan.runs)
    infos: list[RunInfo] = []
    begin = plan.start
    beam = age = 0.0
    for index in range(plan.runs):
        if index and fills[index] != fills[index - 1]:
            begin += timedelta(minutes=round(float(generator.uniform(300, 900))))
            beam = 0.0
        hours = float(sizes[index]) / _EVENTS_PER_HOUR
        end = begin + timedelta(seconds=max(round(hours * 3600), 1))
        infos.append(
            RunInfo(
                number=plan.first_run + index,
                fill=_FIRST_FILL + int(fills[index]),
                start=begin,
                end=end,
                luminosity=round(float(sizes[index] / _EVENTS_PER_PB * generator.normal(1.0, 0.02)), 3),
                events=int(sizes[index]),
                beam_hours=beam + hours / 2,
                age_hours=age + hours / 2,
            )
        )
        beam += hours
        age += hours
        begin = end + timedelta(minutes=round(float(generator.uniform(3, 20))))
    return infos


def injected_log_scales(plan: Plan, hours: FloatArray) -> FloatArray:
    """The injected ln s as a function of the hours since ``plan.start``.

    Several tenths of a percent: a slow wave in EB; an ageing and a slow wave in EE. Phases depend on the seed.

    :param plan: what to simulate.
    :param hours: shape (n,).
    :returns: shape (n, 2): EB, EE.
    """
    phases = np.random.default_rng([plan.seed, 1]).uniform(0.0, 2.0 * np.pi, 2)
    barrel = 0.001 + 0.003 * np.sin(2.0 * np.pi * hours / 130.0 + phases[0])
    endcap = 0.006 * np.exp(-hours / 60.0) - 0.004 + 0.003 * np.sin(2.0 * np.pi * hours / 90.0 + phases[1])
    return np.stack([barrel, endcap], axis=-1)


def transparency(plan: Plan, info: RunInfo) -> tuple[float, float]:
    """The true transparency during a run: lost with the beam, most of it recovered in the next pause.

    :param plan: what to simulate.
    :param info: the run.
    :returns: EB, EE; 1 is a new crystal.
    """
    if not plan.laser_loss:
        return 1.0, 1.0
    recovering = 1.0 - np.exp(-info.beam_hours / 5.0)
    lasting = 1.0 - np.exp(-info.age_hours / 40.0)
    return float(1.0 - 0.002 * recovering - 0.003 * lasting), float(1.0 - 0.005 * recovering - 0.008 * lasting)


def simulate_run(plan: Plan, info: RunInfo) -> RunData:
    """Simulate one run; the others need not be.

    :param plan: what to simulate.
    :param info: the run, one of :func:`schedule`.
    """
    generator = np.random.default_rng([plan.seed, 2, info.number])
    begin = (info.start - plan.start).total_seconds() / 3600.0
    length = (info.end - info.start).total_seconds() / 3600.0
    true_transparency = transparency(plan, info)

    def log_scales(when: FloatArray) -> FloatArray:
        return injected_log_scales(plan, begin + length * when)

    def response(when: FloatArray) -> FloatArray:
        return np.asarray(np.exp(log_scales(when)) * np.array(true_transparency))

    recorded = record(generator, info.events, response, plan.sample, info.number)
    opposite = recorded.pairs.opposite_sign()
    # a run without a pair of opposite charges has no selected event; any event's scale will do
    mean = log_scales(recorded.when[opposite] if opposite.any() else recorded.when).mean(axis=0)
    measured = np.array(true_transparency) * (1.0 + LASER_ERROR * generator.standard_normal(2))
    return RunData(
        info, recorded.pairs, (float(mean[0]), float(mean[1])), true_transparency,
        (round(float(measured[0]), 6), round(float(measured[1]), 6)),
    )  # fmt: skip


def simulate_runs(plan: Plan) -> Iterator[RunData]:
    """Simulate the runs one after the other, each when it is asked for.

    :param plan: what to simulate.
    """
    for info in schedule(plan):
        yield simulate_run(plan, info)


def run_row(data: RunData, file: Path) -> dict[str, str]:
    """A completed run's row of ``runs.csv``.

    :param data: the run.
    :param file: its event file.
    """
    info = data.info
    return {
        "run": str(info.number),
        "start": _iso(info.start),
        "end": _iso(info.end),
        "fill": str(info.fill),
        "luminosity": f"{info.luminosity:.3f}",
        "events": str(info.events),
        "completed": "true",
        "files": str(file.resolve()),
        "laser_eb": f"{data.laser[0]:.6f}",
        "laser_ee": f"{data.laser[1]:.6f}",
    }


def write_run(folder: Path, data: RunData) -> dict[str, str]:
    """Write a run's event file.

    :param folder: the output folder; the file is ``events/<run>.csv`` in it.
    :param data: the run.
    :returns: its row of ``runs.csv``.
    """
    file = folder / "events" / f"{data.info.number}.csv"
    write_pairs(file, data.pairs)
    return run_row(data, file)


def write_runs(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write ``runs.csv``, whole or not at all, so that it can be rewritten while somebody reads it.

    :param path: the file.
    :param rows: one per run, as :func:`run_row` makes them.
    """

    def write(target: Path) -> None:
        with target.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, RUN_COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_whole(path, write)


def write_truth(path: Path, plan: Plan, runs: Sequence[RunData]) -> None:
    """Write what was injected.

    :param path: the file, ``truth.json``.
    :param plan: what was simulated.
    :param runs: the runs.
    """
    if not runs:
        raise JobError("no runs, no truth")
    last = (runs[-1].info.end - plan.start).total_seconds() / 3600.0
    hours = np.linspace(0.0, last, 400)
    curve = injected_log_scales(plan, hours)
    write_json(
        path,
        {
            "seed": plan.seed,
            "runs": {
                str(data.info.number): {
                    "ln_s": dict(zip(REGIONS, data.log_scales, strict=True)),
                    "transparency": dict(zip(REGIONS, data.transparency, strict=True)),
                    "laser": dict(zip(REGIONS, data.laser, strict=True)),
                    "start": _iso(data.info.start),
                    "end": _iso(data.info.end),
                    "fill": data.info.fill,
                    "luminosity": data.info.luminosity,
                    "events": data.info.events,
                }
                for data in runs
            },
            "curve": {
                "time": [_iso(plan.start + timedelta(hours=float(hour))) for hour in hours],
                "ln_s_EB": curve[:, 0].tolist(),
                "ln_s_EE": curve[:, 1].tolist(),
            },
        },
    )


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    :param arguments: command-line arguments; ``None`` for the process's own.
    """
    default = Plan()
    parser = argparse.ArgumentParser(prog="python -m zee.simulate", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--runs", type=int, default=default.runs)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--fills", type=int, default=default.fills)
    parser.add_argument("--events", type=int, default=default.events, help="mean recorded events of a normal run")
    parser.add_argument("--short", type=int, default=default.short, help="number of short runs")
    parser.add_argument("--first-run", type=int, default=default.first_run)
    parser.add_argument("--start", type=_moment, default=default.start, help="ISO-8601; UTC unless it says otherwise")
    parser.add_argument("--upto", type=int, default=None, metavar="K", help="write only the first K of the runs")
    parser.add_argument("--without-laser-loss", action="store_true", help="crystals that lose no transparency")
    chosen = parser.parse_args(arguments)
    plan = Plan(
        runs=chosen.runs, seed=chosen.seed, fills=chosen.fills, events=chosen.events, short=chosen.short,
        first_run=chosen.first_run, start=chosen.start, laser_loss=not chosen.without_laser_loss,
    )  # fmt: skip
    infos = schedule(plan)[: chosen.upto]
    runs = [simulate_run(plan, info) for info in infos]
    rows = [write_run(chosen.out, data) for data in runs]
    write_truth(chosen.out / "truth.json", plan, runs)
    write_runs(chosen.out / "runs.csv", rows)


if __name__ == "__main__":
    sys.exit(run_job(main))
