"""What a source says of a run now, beside what it said when the run was assigned (rule 2): groups keep the latter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from airflow_calib_provider.domain.escaping import escaped
from airflow_calib_provider.domain.quantities import value_text

Changes = dict[str, list[object]]
"""Field → what it was, and what it is."""

LONGEST = 60
"""Characters that a text shows of one value."""
SHOWN = 4
"""Fields of a run that a text names."""

_NEVER_COMPLETED = ("not_listed", "incomplete_too_long", "run_skipped", "not_in_campaign")
"""Why a run may have been decided about although it was not completed."""


def source_changes(
    frozen: Mapping[str, object],
    fields: Mapping[str, object],
    *,
    start: datetime | None,
    end: datetime | None,
    files: Sequence[str],
    completed: bool,
    listed: bool | None,
    reason: Mapping[str, object] | None = None,
) -> Changes:
    """What has changed. A field that is declared only since, or no more, is no change of the source.

    :param frozen: the metadata as they were when the run was assigned.
    :param fields: as the source says now, like all that follows.
    :param listed: whether the source lists it; ``None``: not known.
    :param reason: why it is in no group.
    """
    now: dict[str, object] = {**fields, "start": _iso(start), "end": _iso(end), "files": list(files)}
    found: Changes = {
        name: [frozen[name], now[name]]
        for name in [*sorted(fields), "start", "end", "files"]
        if name in frozen and not _same(frozen[name], now[name])
    }
    if not completed and (reason or {}).get("code") not in _NEVER_COMPLETED:
        found["completed"] = [True, False]
    if listed is False and (reason or {}).get("code") != "not_listed":
        found["listed"] = [True, False]
    return found


def _same(old: object, new: object) -> bool:
    """A field that is declared with another type since then says the same still."""
    return old == new or (type(old) is not type(new) and None not in (old, new) and value_text(old) == value_text(new))


def told(changes: Mapping[str, Sequence[object]]) -> str:
    """``"events: 8 → 9, completed: true → false"``."""
    parts = [f"{name}: {_short(old)} → {_short(new)}" for name, (old, new) in list(changes.items())[:SHOWN]]
    more = len(changes) - SHOWN
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def _short(value: object) -> str:
    text = escaped("" if value is None else value_text(value)) or "nothing"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
