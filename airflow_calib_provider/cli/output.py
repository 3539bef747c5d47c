"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 200
MAX_WIDTH = 2_000
"""Of a table without a terminal, where a wide one is not folded."""

LARGE = 1_000
"""Rows of a table that is drawn with colours, and folded where the terminal is narrow."""

NARROW_COLUMN = 12
"""Characters that a column of a table needs to be read; a terminal with less for them gets a list instead."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal would obey instead of show (but for tabs and line ends), and what cannot be encoded."""

COLOURS = {
    "new": "dim",
    "waiting": "yellow",
    "processing": "blue",
    "running": "blue",
    "submitted": "cyan",
    "held": "yellow",
    "done": "green",
    "succeeded": "green",
    "candidate": "yellow",
    "validated": "yellow",
    "approved": "cyan",
    "publishing": "cyan",
    "withdrawn": "magenta",
    "rejected": "red",
    "published": "green",
    "open": "green",
    "collecting": "yellow",
    "grouping": "yellow",
    "paused": "magenta",
    "cancelled": "dim",
    "failed": "bold red",
    "refused": "red",
    "late": "magenta",
    "changed": "magenta",
    "skipped": "dim",
    "not_selected": "dim",
    "superseded": "dim",
    "expired": "dim",
    "dropped": "dim",
    "closed": "dim",
    "forming": "yellow",
}


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey: control characters are written as escapes."""
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


def emit_json(data: object) -> None:
    """Write one JSON document, and nothing else, to standard output."""
    print(json.dumps(data, indent=2, default=_plain))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple | set | frozenset) else str(value)


def console() -> Console:
    """Standard output; without a terminal lines are long rather than cut. Text is never taken for markup."""
    from rich.console import Console

    options: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False, "soft_wrap": False}
    if not sys.stdout.isatty():
        options["width"] = WIDTH_WITHOUT_TERMINAL
    return Console(**options)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "nothing") -> None:
    """Print a table; values that are states get their colour."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    values = list(rows)
    if not values:
        print(printable(empty))
        return
    if len(values) > LARGE:
        _large(headers, values)
        return
    listed = [[Text(printable(shown(value)), style=COLOURS.get(str(value), "")) for value in row] for row in values]
    screen = console()
    if not sys.stdout.isatty():
        # A path that is folded can be neither searched for nor copied.
        natural = [max(len(head), *(row[index].cell_len for row in listed)) for index, head in enumerate(headers)]
        between = 3  # the padding of both columns, and the line that is not drawn
        screen.width = max(screen.width, min(sum(natural) + between * (len(natural) + 1), MAX_WIDTH))
    needed = [
        max(len(head), *(min(row[index].cell_len, NARROW_COLUMN) for row in listed))
        for index, head in enumerate(headers)
    ]
    if sum(needed) + 2 * len(needed) > screen.width:
        _as_list(screen, headers, listed)
        return
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        drawn.add_column(header, overflow="fold")
    for row in listed:
        drawn.add_row(*row)
    screen.print(drawn)


def _large(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The same for very many rows: each is a line, without colours, whose making takes most of the time else."""
    texts = [[printable(shown(value)) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in (headers, *texts)]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    print("\n".join(["", lines[0], rule, *lines[1:], ""]))


def _as_list(screen: Console, headers: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """The rows one below the other, for a terminal that is too narrow for their table."""
    from rich.text import Text

    for row in rows:
        for head, value in zip(headers, row, strict=True):
            if value.plain:
                screen.print(Text.assemble((f"{head}: ", "dim"), value), overflow="fold")
        screen.print()


def shown(value: object) -> str:
    """A value as people read it; times are in UTC."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def counted(counts: Mapping[str, int]) -> str:
    """``"3 done, 1 failed"``, what is over first."""
    order = ("done", "failed", "processing", "waiting", "new")
    known = sorted(counts.items(), key=lambda pair: (order.index(pair[0]) if pair[0] in order else len(order), pair[0]))
    return ", ".join(f"{n} {state}" for state, n in known)


def as_dict(row: object, *names: str) -> dict[str, object]:
    """Some columns of a row or of a record, or all."""
    known = names or (tuple(item.name for item in fields(row)) if is_dataclass(row) else getattr(row, "_fields", ()))
    return {name: getattr(row, name) for name in known}
