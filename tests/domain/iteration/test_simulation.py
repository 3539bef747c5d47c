"""How often a sequence ends how, beside the rates that the rules were chosen by.

The error of the constants is multiplied by a ratio in each step and begins at 20 tolerances; what is measured is this
error, what there is besides, and noise of σ tolerances. Rates were measured with 2,000 sequences of each kind and are
stated in whole percent.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from statistics import median

import pytest

from tests.domain.iteration.making import ended, fit
from tests.domain.iteration.reference import reference

FIRST, STATED_WITH = 20.0, 2_000


@dataclass(frozen=True)
class Row:
    """One line of the table.

    :ivar rates: ending → percent, of all that are above a percent or two.
    :ivar step: of which the commonest ending's median is, and how much it may be off.
    """

    ratio: float
    sigma: float
    rates: dict[str, float]
    step: tuple[float, float] | None = None
    beside: float = 0.0
    bad_at: int | None = None
    confirm: int = 1
    name: str = field(default="")

    def sequence(self, rng: random.Random) -> list[float]:
        """More values than any phase takes."""
        error, values = FIRST - self.beside, []
        for k in range(1, 31):
            if k == self.bad_at:
                error = 60.0
            values.append(error + self.beside + rng.gauss(0, self.sigma))
            error *= self.ratio
        return values


TABLE = [
    *[Row(ratio, 0.3, {"converged": 100}, (5, 1)) for ratio in (0.3, 0.5, -0.5)],
    *[Row(ratio, 1.0, {"converged": 100}, (5, 1)) for ratio in (0.3, 0.5, -0.5)],
    Row(0.8, 0.3, {"converged": 100}, (15, 0.5)),
    Row(0.8, 1.0, {"converged": 97}),
    Row(-0.8, 0.3, {"converged": 100}, (15, 0.5)),
    Row(-0.8, 1.0, {"converged": 88, "oscillating": 11}),
    Row(0.95, 0.3, {"max_steps": 100}, (30, 0)),
    Row(0.95, 1.0, {"max_steps": 54, "stalled": 46}),
    *[Row(ratio, sigma, {"oscillating": 100}, (6, 0)) for ratio in (-0.95, -1.0, -1.1) for sigma in (0.3, 1.0)],
    Row(1.0, 0.3, {"stalled": 100}, (6, 0.5)),
    Row(1.0, 1.0, {"stalled": 100}, (6, 1)),
    *[Row(1.3, sigma, {"diverging": 100}, (4, 0)) for sigma in (0.3, 1.0)],
    Row(0.5, 0.3, {"stalled": 100}, (15, 1), beside=3.0, name="3 off"),
    Row(0.5, 1.0, {"stalled": 71, "converged": 15, "diverging": 14}, beside=3.0, name="3 off"),
    Row(0.6, 0.3, {"converged": 100}, (14, 1), bad_at=5, name="one bad step"),
    Row(0.6, 1.0, {"converged": 77, "diverging": 23}, bad_at=5, name="one bad step"),
    # Named in words beside the table.
    Row(-0.9, 0.3, {"oscillating": 44}),
    Row(0.5, 1.0, {"converged": 0}, beside=3.0, confirm=2, name="3 off, confirm 2"),
    Row(0.8, 1.0, {"converged": 88}, confirm=2, name="confirm 2"),
    Row(-0.8, 1.0, {"converged": 71}, confirm=2, name="confirm 2"),
]
"""σ is 0.3 or 1; the numbers of kinds that are not stated (which step is the bad one, 0.5 and 0.6) reproduce them."""


def agrees(row: Row, n: int, endings: list[tuple[str, int]]) -> None:
    """Rates within four standard deviations of both measurements, and what rounding to a percent hides.

    Percents that are stated as all or none may be half a percent off in truth, which counts as the true rate.
    """
    counted = Counter(name for name, _ in endings)
    for name, percent in row.rates.items():
        stated = min(max(percent / 100, 0.005), 0.995)
        spread = math.sqrt(stated * (1 - stated) * (1 / n + 1 / STATED_WITH))
        assert abs(counted[name] / n - stated) <= 4 * spread + 0.005, (name, counted)
    if row.step is not None:
        (commonest, _), *_ = counted.most_common(1)
        assert abs(median(k for name, k in endings if name == commonest) - row.step[0]) <= row.step[1]


def simulated(row: Row, n: int, seed: str) -> list[tuple[str, int]]:
    rng, phase = random.Random(f"{seed} {row}"), fit(confirm=row.confirm)
    endings = []
    for _ in range(n):
        values = row.sequence(rng)
        end = ended(phase, values)
        assert end is not None
        assert end == reference([{"m": value} for value in values], confirm=row.confirm)
        endings.append(end)
    return endings


def named(row: Row) -> str:
    return f"{row.name or 'ratio'} {row.ratio:g}, σ {row.sigma:g}"


@pytest.mark.parametrize("row", TABLE, ids=named)
def test_the_rates_of_the_table(row: Row) -> None:
    agrees(row, 200, simulated(row, 200, "short"))


@pytest.mark.long
@pytest.mark.parametrize("row", TABLE, ids=named)
def test_the_rates_of_the_table_of_many(row: Row) -> None:
    agrees(row, 4_000, simulated(row, 4_000, "long"))
