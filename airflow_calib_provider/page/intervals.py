"""The picture of a tag: intervals of validity over runs, one line for each state, as SVG.

Nothing of it can be told by its colour alone: lines are named, gaps are hatched, and the table beside it has the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from airflow_calib_provider.ledger.payload_states import PUBLISHED

WIDTH, LEFT, RIGHT, LINE, TOP, BOTTOM = 960, 110, 20, 30, 8, 26
"""In units of the picture: all of it, what lies around the axes, and the height of a line."""

NARROWEST = 2.0
"""Of an interval, so that it can be seen."""


def picture(payloads: Sequence[Any], gaps: Sequence[tuple[int, int, int]], label: str) -> str:
    """The picture; nothing without payloads.

    :param payloads: with ``first_run``, ``last_run``, ``state`` and ``revision``.
    :param gaps: first run, last run, number of runs.
    :param label: what it shows, for those who do not see it.
    """
    if not payloads:
        return ""
    low, high = min(int(row.first_run) for row in payloads), max(int(row.last_run) for row in payloads)
    states = sorted({row.state for row in payloads}, key=lambda state: (state != PUBLISHED, state))
    height = TOP + LINE * len(states) + BOTTOM

    def x(run: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (run - low) / (high + 1 - low)

    parts = [
        f'<svg class="intervals" role="img" viewBox="0 0 {WIDTH} {height}" aria-label="{escape(label)}">',
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><line class="hatch" x1="0" y1="0" x2="0" y2="6"/></pattern></defs>',
    ]
    for number, state in enumerate(states):
        top = TOP + LINE * number
        parts.append(f'<text x="{LEFT - 8}" y="{top + 19}" text-anchor="end">{escape(state)}</text>')
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top + LINE}" y2="{top + LINE}"/>')
        if state == PUBLISHED:
            for first, last, n in gaps:
                title = f"gap: runs {first}–{last}, {n} of them in groups"
                parts.append(_box("gap", x(first), x(last + 1), top, title))
        for row in payloads:
            if row.state == state:
                title = f"runs {row.first_run}–{row.last_run}, revision {row.revision}, {state}"
                parts.append(_box(f"state-{state}", x(row.first_run), x(row.last_run + 1), top, title))
    parts += [*_ends(low, high, height), "</svg>"]
    return "\n".join(parts)


def _box(name: str, begin: float, end: float, top: float, title: str) -> str:
    width = max(NARROWEST, end - begin)
    place = f'x="{begin:.2f}" y="{top + 6}" width="{width:.2f}" height="{LINE - 12}"'
    return f'<rect class="{escape(name)}" {place}><title>{escape(title)}</title></rect>'


def _ends(low: int, high: int, height: int) -> Iterator[str]:
    yield f'<text x="{LEFT}" y="{height - 8}">run {low}</text>'
    if high != low:
        yield f'<text x="{WIDTH - RIGHT}" y="{height - 8}" text-anchor="end">run {high}</text>'
