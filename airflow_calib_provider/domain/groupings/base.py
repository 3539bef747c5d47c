"""What every kind of grouping says about itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from airflow_calib_provider.domain.grouping import Grouping, GroupingRules
from airflow_calib_provider.domain.keys import Keys, Where, Words
from airflow_calib_provider.domain.scalars import ABOVE, NAME_SCHEMA, Reads, mistake, name, one_of, single, text, unlike


@dataclass(frozen=True)
class FieldUse:
    """A field of runs that a grouping needs.

    :ivar where: its place in the block; empty: the block as a whole needs it.
    :ivar is_amount: its values are added up, and must be numbers.
    :ivar others: keys that a misspelt field may be meant as.
    """

    where: Where
    field: str
    is_amount: bool = True
    others: tuple[str, ...] = ()


class GroupingKind(GroupingRules):
    """A way to put runs together.

    :ivar name: in specs, and the label of groupings that have no name.
    :ivar keys: the model of its block.
    :ivar example: one of it, for messages.
    """

    name: str
    keys: type[GroupingKeys]
    example: str = ""

    def is_short(self) -> bool:
        """Whether its name alone is a policy."""
        return not self.keys.required

    def fields(self, keys: Any) -> Iterator[FieldUse]:
        """The fields of runs that a policy needs."""
        yield from ()

    def policy(self, keys: Any, label: str) -> Grouping:
        """The policy that a block means."""
        raise NotImplementedError


def _label(value: object) -> str:
    return single(name(value), f"{ABOVE}.name")


def _late_runs(value: object) -> str:
    options = ("ignore", "new_group")
    found = text(value, one_of(options))
    if found not in options:
        raise unlike(value, one_of(options), word=found, options=options)
    if found != "ignore":
        raise mistake(f"{ABOVE}.late_runs {found!r} is not available yet", "expected ignore")
    return found


Label = Annotated[str, Reads(_label, {**NAME_SCHEMA, "not": {"pattern": "__"}}, "name")]
LateRuns = Annotated[Literal["ignore"], Reads(_late_runs, {"const": "ignore"}, "`ignore`")]


class GroupingKeys(Keys):
    """The keys that all kinds have."""

    name: Annotated[Label | None, Words(default="its kind"), Field(description="the grouping's label")] = None
    late_runs: Annotated[
        LateRuns,
        Field(description="a run that arrives after higher ones were assigned is listed, and put in no group"),
    ] = "ignore"
