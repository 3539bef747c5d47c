"""What the demonstration streams: runs with a known miscalibration, and a few mishaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from zee.simulate import Plan, RunData, simulate_runs, write_run, write_runs, write_truth

SHIFTED = "ZEE_SHIFTED_RUNS"
"""The variable of the mishap that is mended by an edit of the workflow's file."""


@dataclass
class Scenario:
    """Simulated runs, released batch by batch.

    :param folder: where events, ``runs.csv`` and ``truth.json`` go.
    :ivar flaky_run: one of its jobs fails at its first attempt.
    :ivar broken_run: it fails for good, until it is skipped.
    :ivar late_run: it comes when later runs have been assigned already.
    :ivar slow_laser_run: the laser payload of its fill is delayed.
    :ivar shifted_run: the constants of its group come out wrong, until the workflow's file is mended.
    """

    folder: Path
    plan: Plan = field(default_factory=Plan)
    runs: list[RunData] = field(default_factory=list)
    released: list[int] = field(default_factory=list)

    flaky_run: int = 1002
    broken_run: int = 1009
    late_run: int = 1014
    slow_laser_run: int = 1011
    shifted_run: int = 1018
    slow_laser_seconds: int = 20
    batch_ends: Sequence[int] = (1008, 1017, 1024)

    def simulate(self) -> None:
        """Write all events and the truth; release nothing."""
        self.runs = list(simulate_runs(self.plan))
        self._rows = {data.info.number: write_run(self.folder, data) for data in self.runs}
        write_truth(self.truth_file, self.plan, self.runs)
        self.release([])

    @property
    def runs_file(self) -> Path:
        """The run list, as the detector would write it."""
        return self.folder / "runs.csv"

    @property
    def truth_file(self) -> Path:
        """What was put into the events, for comparison at the end."""
        return self.folder / "truth.json"

    @property
    def environment(self) -> dict[str, str]:
        """What tells the example's jobs which mishaps are wanted."""
        return {
            "CALIB_ZEE_RUNS": str(self.runs_file.resolve()),
            "ZEE_FLAKY_RUNS": str(self.flaky_run),
            "ZEE_BROKEN_RUNS": str(self.broken_run),
            SHIFTED: str(self.shifted_run),
            "ZEE_SLOW_LASER": f"{self.slow_laser_run} {self.slow_laser_seconds}",
        }

    def batches(self) -> list[list[int]]:
        """Run numbers by batch; the late run is a batch of its own, at the end."""
        numbers = [data.info.number for data in self.runs if data.info.number != self.late_run]
        bounds = [0, *self.batch_ends]
        parts = [[n for n in numbers if low < n <= high] for low, high in pairwise(bounds)]
        return [*parts, [self.late_run]]

    def release(self, numbers: Sequence[int]) -> None:
        """Let the run source list these runs too."""
        self.released += numbers
        write_runs(self.runs_file, [self._rows[number] for number in sorted(self.released)])
