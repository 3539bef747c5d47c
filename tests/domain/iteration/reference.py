"""How a phase with metrics ends, once more: written from the rules in words, slowly, without the code that it checks.

The rules: d = (value − target)/tolerance, u = |d|, of several metrics the largest of those that are not frozen. After
``min_steps``, in this order:

- converged: u ≤ 1 in the last ``confirm`` steps.
- diverging: u_k and u_{k−1} > 10·max(1, best before); or u_k > 1000·that; or u rose 3 times running and
  u_k > 2·max(1, best before those).
- oscillating: 5 sign changes in the last 6, and (|d_k d_{k−1}| / |d_{k−5} d_{k−4}|)^{1/4} ≥ 0.9.
- stalled: best of all > 0.95·best until k−5, and the median of the last five u_j/u_{j−1} > 0.95.
- max_steps.

A step that is inside is none of the three in the middle.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def reference(
    steps: Sequence[Mapping[str, float]],
    *,
    confirm: int = 1,
    min_steps: int = 2,
    max_steps: int = 30,
    freeze: bool = False,
) -> tuple[str, int] | None:
    """The first ending of a sequence of d by metric, and the step, from 1, at which it comes; ``None``: it goes on."""
    frozen: set[str] = set()
    u: dict[int, float] = {}
    for k in range(1, len(steps) + 1):
        counting = {name: abs(d) for name, d in steps[k - 1].items() if name not in frozen}
        u[k] = max(counting.values())
        worst = next(name for name in counting if counting[name] == u[k])
        if freeze and k >= max(min_steps, confirm):
            for name in steps[0]:
                if all(abs(steps[j - 1][name]) <= 1 for j in range(k - confirm + 1, k + 1)):
                    frozen.add(name)
        ending = None
        if k >= min_steps:
            ending = at(k, u, {j: steps[j - 1][worst] for j in u}, confirm, frozen == set(steps[0]) if freeze else None)
        if ending is None and k == max_steps:
            ending = "max_steps"
        if ending is not None:
            return ending, k
    return None


def at(k: int, u: Mapping[int, float], d: Mapping[int, float], confirm: int, all_frozen: bool | None) -> str | None:
    inside = [j for j in range(k - confirm + 1, k + 1) if j >= 1 and u[j] <= 1]
    if all_frozen if all_frozen is not None else len(inside) == confirm:
        return "converged"
    if u[k] <= 1:
        return None
    before_last = [u[j] for j in range(1, k)]
    before_both = [u[j] for j in range(1, k - 1)]
    if before_both and u[k] > 10 * max(1.0, min(before_both)) and u[k - 1] > 10 * max(1.0, min(before_both)):
        return "diverging"
    if before_last and u[k] > 1000 * max(1.0, min(before_last)):
        return "diverging"
    if k >= 4 and u[k] > u[k - 1] > u[k - 2] > u[k - 3]:
        before_those = [u[j] for j in range(1, k - 2)]
        if u[k] > 2 * max(1.0, min(before_those)):
            return "diverging"
    if k >= 6:
        changes = sum(1 for j in range(k - 4, k + 1) if (d[j] > 0) != (d[j - 1] > 0) and d[j] != 0 != d[j - 1])
        if changes == 5 and (abs(d[k] * d[k - 1]) / abs(d[k - 5] * d[k - 4])) ** (1 / 4) >= 0.9:
            return "oscillating"
        best_of_all, best_until = min(u.values()), min(u[j] for j in range(1, k - 4))
        ratios = [u[j] / u[j - 1] if u[j - 1] else (float("inf") if u[j] else 1.0) for j in range(k - 4, k + 1)]
        if best_of_all > 0.95 * best_until and statistics.median(ratios) > 0.95:
            return "stalled"
    return None
