"""The runs of a fill, or of several, are a group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.grouping import Grouping, GroupKind
from airflow_calib_provider.domain.groupings.base import FieldUse, GroupingKeys, GroupingKind
from airflow_calib_provider.domain.keys import NotEmpty, Where, Words
from airflow_calib_provider.domain.scalars import ABOVE, Duration, OneOf, Positive, Text, mistake

Short = Annotated[Literal["next", "keep", "drop"], OneOf()]


class FillKeys(GroupingKeys):
    """The block ``fill``."""

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
        if "short" in self.model_fields_set and self.short != "keep" and not self.has("at_least"):
            yield ("short",), mistake(f"{ABOVE}.short without at_least", "expected at_least: {<field>: <amount>}")


class FillKind(GroupingKind):
    """The runs of a fill, or of several."""

    name = "fill"
    keys = FillKeys

    def fields(self, keys: FillKeys) -> Iterator[FieldUse]:
        yield FieldUse((), "fill", is_amount=False)
        for field in keys.at_least:
            yield FieldUse(("at_least", field), field)

    def policy(self, keys: FillKeys, label: str) -> Grouping:
        return Grouping(
            kind=GroupKind.FILL, label=label, minimum=keys.at_least, short=keys.short, max_wait=keys.max_wait
        )


KIND = FillKind()
