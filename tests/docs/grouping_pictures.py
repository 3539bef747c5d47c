"""The pictures of docs/grouping.md, drawn of what the program makes of some runs.

``python -m tests.docs.grouping_pictures`` writes them; a test fails while they are not as they would be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_calib_provider.domain.group_words import ended_by
from airflow_calib_provider.domain.grouping import GroupDraft, RunFacts, assign
from airflow_calib_provider.domain.run_facts import ReportedValue
from airflow_calib_provider.spec.loader import load_sources, load_workflow

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
BEGIN = datetime(2026, 5, 4, 6, tzinfo=UTC)
HOUR = timedelta(hours=1)
SOURCES = """apiVersion: calib/v1
sources:
  daq:
    csv: {path: runs.csv}
    fields: {fill: int, lumi: float, magnet: float, start: time, end: time}
"""
SPEC = """apiVersion: calib/v1
workflow: w
runs: {source: daq, since: 1}
tasks:
  select: {group_by: run, jobs: {command: [select]}}
  fit: {group_by: POLICY, jobs: {command: [fit]}}
"""
WIDTH, LEFT, SCALE, HEIGHT = 760, 10, 15.0, 112
FILLS = ("#7aa6d6", "#8fc58a", "#d6a77a")
ENDS = {"closed": "#333333", "dropped": "#b03030", "forming": "#999999"}


@dataclass(frozen=True)
class Taken:
    """A run of a picture.

    :ivar at: when it begins, in hours, and :ivar hours: how long it is.
    :ivar hundreds: of pairs that are selected in it; 0: nobody knows it yet.
    """

    at: float
    hours: float
    fill: int = 1
    lumi: float = 20.0
    magnet: float = 3.8
    selected: bool = True
    hundreds: int | None = None

    def facts(self, number: int) -> RunFacts:
        """As grouping sees it."""
        start = BEGIN + self.at * HOUR
        fields = {"fill": self.fill, "lumi": self.lumi, "magnet": self.magnet}
        pairs = ReportedValue(*(100.0 * (self.hundreds or 0),) * 3)
        return RunFacts(number, start, start + self.hours * HOUR, fields, self.selected, {"select": {"pairs": pairs}})

    @property
    def below(self) -> str:
        """What is written below it."""
        return f"{self.lumi:g}" if self.hundreds is None else f"{self.hundreds}" if self.hundreds else "?"


USUAL = [
    Taken(0, 3), Taken(3.2, 4), Taken(7.4, 3, lumi=10), Taken(14, 4, 2), Taken(18.2, 3, 2), Taken(24, 2, 3, lumi=10),
    Taken(26.2, 4, 3), Taken(36, 4, 4), Taken(40.2, 4, 4),
]  # fmt: skip
RAMPED = [*USUAL[:4], *(Taken(one.at, one.hours, one.fill, one.lumi, 2.0) for one in USUAL[4:])]
SHORT = [Taken(0, 4, 1, 10), Taken(8, 4, 2), Taken(12.2, 4, 2, 30), Taken(20, 4, 3), Taken(30, 3, 4), Taken(33.2, 4, 4)]
FOUND = [replace(one, hundreds=n) for one, n in zip(USUAL, [14, 19, 9, 21, 8, 6, 11, 30, 0], strict=True)]
LARGE = [Taken(0, 3), Taken(3.2, 4), Taken(8, 3), Taken(12, 6, lumi=80), Taken(19, 3), Taken(23, 3), Taken(27, 4)]


@dataclass(frozen=True)
class Picture:
    """What is asked for, and of which runs.

    :ivar until: the hour at which one looks.
    :ivar last: the campaign is finite, and nothing follows.
    """

    policy: str
    runs: Sequence[Taken]
    until: float = 46.0
    last: bool = False


PICTURES: Mapping[str, Picture] = {
    "run": Picture("run", USUAL),
    "fill": Picture("fill", USUAL),
    "sum": Picture("{sum: {lumi: 50}}", USUAL),
    "count": Picture("{count: {runs: 4}}", USUAL),
    "window": Picture('{window: {every: 12h, at: "06:00", zone: UTC}}', USUAL),
    "boundaries": Picture("{boundaries: {first_runs: [1, 4, 8]}}", USUAL),
    "until": Picture('{until: {task: select, when: "sum.pairs >= 4000 && count >= 3"}}', FOUND),
    "short-next": Picture("{fill: {at_least: {lumi: 40}, short: next}}", SHORT),
    "short-keep": Picture("{fill: {at_least: {lumi: 40}, short: keep}}", SHORT),
    "short-drop": Picture("{fill: {at_least: {lumi: 40}, short: drop}}", SHORT),
    "at-most": Picture("{count: {runs: 100, at_most: {lumi: 50}}}", LARGE),
    "break-on": Picture("{count: {runs: 6, break_on: [magnet]}}", RAMPED),
    "break-after": Picture("{count: {runs: 4, break_after: 3h}}", USUAL),
    "max-wait": Picture("{fill: {max_wait: 5h}}", USUAL),
    "tail-keep": Picture("{count: {runs: 4, tail: keep}}", USUAL, last=True),
    "tail-drop": Picture("{count: {runs: 4, tail: drop}}", USUAL, last=True),
    "tail-previous": Picture("{count: {runs: 4, tail: previous}}", USUAL, last=True),
}


def groups(picture: Picture, folder: Path) -> list[GroupDraft]:
    """What the program makes of it, injected at each end of a run."""
    (folder / "sources.yaml").write_text(SOURCES)
    (folder / "w.yaml").write_text(SPEC.replace("POLICY", picture.policy))
    workflow = load_workflow(folder / "w.yaml", sources=load_sources(folder / "sources.yaml"))
    policy = workflow.tasks["fit"].policy
    facts = [one.facts(number) for number, one in enumerate(picture.runs, 1) if one.hundreds != 0]
    if picture.last:
        return assign(policy, None, facts, BEGIN + picture.until * HOUR, final=True, finite=True).groups
    found: list[GroupDraft] = []
    minutes = range(0, int(picture.until * 60) + 1, 10)
    for before, now in zip((-1, *minutes), minutes, strict=False):
        times = [BEGIN + timedelta(minutes=minute) for minute in (before, now)]
        new = [one for one in facts if one.end is not None and times[0] < one.end <= times[1]]
        forming = found[-1] if found and found[-1].state == "forming" else None
        made = assign(policy, forming, new, times[1]).groups
        found += made[1:] if forming is not None else made
    return found


def drawn(picture: Picture, folder: Path) -> str:
    """The picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for hour in range(0, int(picture.until) + 1, 6):
        x, at = LEFT + hour * SCALE, BEGIN + hour * HOUR
        parts.append(f'<line x1="{x:g}" x2="{x:g}" y1="16" y2="58" stroke="#dddddd"/>')
        parts.append(f'<text x="{x + 2:g}" y="12" fill="#888888">{at:%H:%M}</text>')
    for number, one in enumerate(picture.runs, 1):
        x, width = LEFT + one.at * SCALE, one.hours * SCALE
        colour = FILLS[one.fill % len(FILLS)]
        dash = ' stroke="#333333" stroke-dasharray="3 2"' if one.magnet != 3.8 else ""
        parts.append(f'<rect x="{x:g}" y="22" width="{width:g}" height="20" fill="{colour}"{dash}/>')
        parts.append(f'<text x="{x + width / 2:g}" y="36" text-anchor="middle">{number}</text>')
        parts.append(f'<text x="{x + width / 2:g}" y="54" text-anchor="middle" fill="#888888">{one.below}</text>')
    for one in groups(picture, folder):
        parts += _bracket(one, picture)
    return "\n".join([*parts, "</svg>", ""])


def _bracket(group: GroupDraft, picture: Picture) -> list[str]:
    first, last = picture.runs[group.first_run - 1], picture.runs[group.last_run - 1]
    begin, end = LEFT + first.at * SCALE, LEFT + (last.at + last.hours) * SCALE
    colour, dash = ENDS[group.state], ' stroke-dasharray="4 3"' if group.state != "closed" else ""
    said: Any = group.state if group.state != "closed" else ended_by(group.close_reason)
    lines = [f"r{group.first_run}", *str(said).split(" ", 1)]
    return [
        f'<path d="M{begin:g} 62V68H{end:g}V62" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>',
        *(
            f'<text x="{(begin + end) / 2:g}" y="{80 + 12 * n}" text-anchor="middle" fill="{colour}">{line}</text>'
            for n, line in enumerate(lines)
        ),
    ]


def main(folder: Path = FOLDER) -> None:
    """Write all of them."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as place:
        for name, picture in PICTURES.items():
            (folder / f"grouping-{name}.svg").write_text(drawn(picture, Path(place)))


if __name__ == "__main__":
    main()
