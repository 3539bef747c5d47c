"""A figure with its goal and the state of the machine, and how it is printed and kept."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass
class Machine:
    """What else bears on a figure.

    :ivar software: what is measured with, and its version.
    :ivar load_before: runnable processes, mean of a minute, when the measurement began; it is part of the load itself
        afterwards.
    """

    software: str
    cores: int = field(default_factory=lambda: os.cpu_count() or 0)
    python: str = sys.version.split()[0]
    at: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    load_before: float = field(default_factory=lambda: round(os.getloadavg()[0], 1))
    load_after: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.at}, {self.cores} cores, load {self.load_before} before and {self.load_after} after, "
            f"{self.software}, Python {self.python}"
        )


@dataclass
class Figure:
    """One result.

    :ivar met: whether the goal is met; ``None`` where there is no goal, or nothing to compare with.
    :ivar notes: what one must know to read it.
    :ivar values: the same as numbers.
    """

    name: str
    text: str
    machine: Machine
    goal: str = ""
    met: bool | None = None
    notes: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        verdict = {True: "met", False: "MISSED", None: "not decided"}[self.met]
        lines = [f"{self.name}: {self.text}"]
        lines += [f"  goal: {self.goal}: {verdict}"] if self.goal else []
        lines += [f"  {note}" for note in self.notes]
        return "\n".join([*lines, f"  machine: {self.machine}"])


class Report:
    """Prints figures as they come, and keeps them for a file.

    :param software: what is measured with, and its version.
    """

    def __init__(self, software: str, file: Path | None = None) -> None:
        self._software = software
        self._file = file
        self.figures: list[Figure] = []

    def machine(self) -> Machine:
        """The state now, before a measurement."""
        return Machine(self._software)

    def add(self, figure: Figure) -> None:
        """Print a figure; the file is whole after each."""
        figure.machine.load_after = round(os.getloadavg()[0], 1)
        self.figures.append(figure)
        sys.stdout.write(f"{figure}\n")
        sys.stdout.flush()
        if self._file is not None:
            self._file.write_text(json.dumps([asdict(one) for one in self.figures], indent=1) + "\n")


def spread(values: Sequence[float]) -> str:
    """Median, and from where to where."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest of the values that at least this part of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(part * 100) // 100) - 1))]
