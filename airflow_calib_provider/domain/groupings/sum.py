"""Runs are a group as soon as the sum of a field reaches an amount."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import ConfigDict, Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping
from airflow_calib_provider.domain.groupings.base import FieldUse, GroupingKind, SeveralRunsKeys
from airflow_calib_provider.domain.keys import Where
from airflow_calib_provider.domain.scalars import WHAT, Positive, Schema, mistake


class SumKeys(SeveralRunsKeys):
    """The block ``sum``: one further key is the field that is summed, with its amount."""

    says: ClassVar[str] = "runs until an amount is reached: [group_by.sum](#group_bysum)"
    extra_says: ClassVar[str] = "a group closes as soon as its runs' sum of the field reaches this"
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Positive] = Field(init=False)

    def goal(self) -> Mapping[str, float]:
        """The field and its amount, as far as they could be read."""
        return dict(self.__pydantic_extra__ or {})

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """Exactly one field is summed, and its name is the key."""
        yield from super().check()
        fields = self.extra_keys()
        if len(fields) != 1:
            has = "no field" if not fields else f"several fields: {', '.join(fields)}"
            yield (), mistake(f"{WHAT} has {has}", "expected exactly one {<field>: <amount>}")

    @classmethod
    def more_schema(cls) -> Schema:
        """A key that is not declared is the field."""
        known = dict.fromkeys(cls.declared, True)
        return {
            **super().more_schema(),
            "minProperties": 1,
            "not": {"additionalProperties": False, "properties": known},
        }


class SumKind(GroupingKind):
    """Runs until an amount is reached."""

    name = "sum"
    keys = SumKeys
    until = "closes when the sum is reached"
    example = "{sum: {<field>: <amount>}}"

    def is_short(self) -> bool:
        """Never: a group that has not enough takes more runs."""
        return False

    def fields(self, keys: SumKeys) -> Iterator[FieldUse]:
        """The field that is summed."""
        for field in keys.extra_keys():
            yield FieldUse((field,), field, others=tuple(keys.declared))

    def policy(self, keys: SumKeys, label: str) -> Grouping:
        """With the amount that a group must reach."""
        return Grouping(kind=self.name, label=label, options={"amounts": dict(keys.goal())})

    def after(self, group: GroupDraft) -> None:
        """It closes with the run that reaches the amount."""
        # A group that opened before there were others has its amount among the least ones.
        goal = group.policy.goal or group.policy.minimum
        if all(group.amount_with(name) >= amount for name, amount in goal.items()):
            group.finish("reached")


KIND = SumKind()
