"""The runs of a fill, or of several, are a group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import JsonValue

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts
from airflow_calib_provider.domain.groupings.base import FieldUse, GroupingKind, SeveralRunsKeys
from airflow_calib_provider.domain.run import FILL


class FillKeys(SeveralRunsKeys):
    """The block ``fill``."""

    says: ClassVar[str] = (
        "the runs of a fill, or of several: [group_by.fill](#group_byfill); the source needs a field `fill`"
    )


class FillKind(GroupingKind):
    """The runs of a fill, or of several."""

    name = "fill"
    keys = FillKeys
    until = "closes when a run of a later fill completes"

    def fields(self, keys: FillKeys) -> Iterator[FieldUse]:
        """The fill of a run."""
        yield FieldUse((), FILL, is_amount=False)

    def needed(self, policy: Grouping) -> Sequence[str]:
        """A run of no fill cannot be grouped."""
        return (FILL,)

    def opens(self, policy: Grouping, run: RunFacts) -> Mapping[str, JsonValue]:
        """The fill of its first run."""
        return {FILL: run.fields[FILL]}  # type: ignore[dict-item]

    def before(self, group: GroupDraft, run: RunFacts) -> None:
        """A run of another fill ends the one before."""
        fill = run.fields.get(FILL)
        if fill is not None and fill != group.fills[-1]:
            group.finish("later_fill", by=run.number)

    def at_last(self, group: GroupDraft) -> None:
        """Nothing follows, so its fill is over: only a fill that would join the next one is unfinished."""
        group.finish("last_fill")


KIND = FillKind()
