"""The runs of a fill, or of several, are a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts
from airflow_calib_provider.domain.groupings.base import FieldUse, GroupingKeys, GroupingKind
from airflow_calib_provider.domain.keys import NotEmpty, Where, Words
from airflow_calib_provider.domain.run import FILL
from airflow_calib_provider.domain.scalars import ABOVE, Duration, OneOf, Positive, Schema, Text, mistake

Short = Annotated[Literal["next", "keep", "drop"], OneOf()]


class FillKeys(GroupingKeys):
    """The block ``fill``."""

    says: ClassVar[str] = (
        "the runs of a fill, or of several: [group_by.fill](#group_byfill); the source needs a field `fill`"
    )

    at_least: Annotated[
        dict[Text, Positive],
        NotEmpty("expected {<field>: <amount>}"),
        Words(name="{above}.{key}", type="mapping of fields to numbers above 0", default="nothing"),
        Field(
            default_factory=dict,
            description="the least sum of each field; the fields are numbers that the source supplies",
        ),
    ]
    short: Annotated[
        Short,
        Field(description="a fill with less: joins the next fill, is a group all the same, or is skipped"),
    ] = "keep"
    max_wait: Annotated[
        Duration | None,
        Words(default="wait for ever"),
        Field(description="this long after its last run's end, a fill closes although no later fill was seen"),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What to do with a short fill is only a question where there is an amount."""
        if "short" in self.model_fields_set and self.short != "keep" and not self.has("at_least"):
            yield ("short",), mistake(f"{ABOVE}.short without at_least", "expected at_least: {<field>: <amount>}")

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        needs_amount = {"properties": {"short": {"enum": ["next", "drop"]}}, "required": ["short"]}
        return {"if": needs_amount, "then": {"required": ["at_least"]}}


class FillKind(GroupingKind):
    """The runs of a fill, or of several."""

    name = "fill"
    keys = FillKeys
    until = "closes when a run of a later fill completes"

    def fields(self, keys: FillKeys) -> Iterator[FieldUse]:
        """The fill of a run, and what is summed."""
        yield FieldUse((), FILL, is_amount=False)
        for field in keys.at_least:
            yield FieldUse(("at_least", field), field)

    def policy(self, keys: FillKeys, label: str) -> Grouping:
        """With the amounts that a fill must have, if there are any."""
        return Grouping(kind=self.name, label=label, minimum=keys.at_least, short=keys.short, max_wait=keys.max_wait)

    def needed(self, policy: Grouping) -> Sequence[str]:
        """A run of no fill cannot be grouped."""
        return (FILL,)

    def before(self, group: GroupDraft, run: RunFacts) -> None:
        """A run of another fill ends the one before."""
        fill = run.fields.get(FILL)
        if fill is not None and fill != group.fills[-1]:
            _finish(group, "later_fill", by=run.number)

    def by_clock(self, group: GroupDraft, now: datetime) -> None:
        """A fill that nothing follows ends when its last run is long over."""
        wait, due = group.policy.max_wait, self.due(group)
        if wait is not None and due is not None and now >= due:
            _finish(group, "max_wait", max_wait=wait.total_seconds())

    def due(self, group: GroupDraft) -> datetime | None:
        """When its last run is over for as long as a later one is waited for; a short one may go on after that."""
        wait = group.policy.max_wait
        return group.end + wait if wait and group.end else None

    def at_last(self, group: GroupDraft) -> None:
        """Nothing follows, so its fill is over: only a fill that would join the next one is unfinished."""
        _finish(group, "last_fill")


def _finish(group: GroupDraft, why: str, **params: Any) -> None:
    if group.has_enough or group.policy.short == "keep":
        group.close(why, **params)
    elif group.policy.short == "drop":
        group.drop()


KIND = FillKind()
