"""What every kind of grouping says about itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.failed_runs import FailedRuns
from airflow_calib_provider.domain.grouping import Grouping, GroupingRules
from airflow_calib_provider.domain.keys import Either, Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.nodes import Scalar
from airflow_calib_provider.domain.scalars import (
    ABOVE,
    NAME_SCHEMA,
    WHAT,
    Duration,
    OneOf,
    Positive,
    Reads,
    Schema,
    Text,
    mistake,
    name,
    number,
    single,
    unlike,
)


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
    :ivar needs_times: without times of its runs it makes no sense.
    """

    name: str
    keys: type[GroupingKeys]
    example: str = ""
    needs_times: bool = False

    def is_short(self) -> bool:
        """Whether its name alone is a policy."""
        return not self.keys.required

    def fields(self, keys: Any) -> Iterator[FieldUse]:
        """The fields of runs that a policy needs, besides those of the keys that several kinds have."""
        yield from ()

    def condition(self, keys: Any) -> tuple[str, str] | None:
        """A condition on groups, with its key; ``None``: it has none."""
        return None

    def policy(self, keys: Any, label: str) -> Grouping:
        """The policy that a block means, but for the keys that several kinds have."""
        return Grouping(kind=self.name, label=label)


def _label(value: object) -> str:
    return single(name(value), f"{ABOVE}.name")


Label = Annotated[str, Reads(_label, {**NAME_SCHEMA, "not": {"pattern": "__"}}, "name")]
LateRuns = Annotated[Literal["ignore", "new_group"], OneOf()]
Short = Annotated[Literal["next", "keep", "drop"], OneOf()]
Tail = Annotated[Literal["keep", "drop", "previous"], OneOf()]


def _of_runs(value: object) -> float:
    expected = "expected a fraction of the group's runs, above 0 and at most 1"
    if isinstance(value, Scalar) and (percentage := re.fullmatch(r"(\d{1,2}(?:\.\d+)?) ?%", value.text)):
        raise unlike(value, expected.removeprefix("expected "), f"did you mean {float(percentage[1]) / 100:g}?")
    found = number(value)
    if not 0 < found <= 1:
        hint = f"did you mean {found / 100:g}?" if 1 < found <= 100 else ""
        raise mistake(f"{WHAT} is {found:g}", expected, hint or ("failed_runs: wait leaves out none" * (not found)))
    return found


FractionOfRuns = Annotated[
    float, Reads(_of_runs, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number above 0, at most 1")
]


class FailedRunsKeys(Keys):
    """``failed_runs``, where more is said than a word."""

    exclude: Annotated[
        FractionOfRuns,
        Words(missing="the fraction of the group's runs, such as exclude: 0.1"),
        Field(description="it goes on without them if they are at most this fraction of its runs"),
    ] = 1.0
    after: Annotated[
        Duration | None,
        Words(default="at once"),
        Field(description="a run is left out only this long after it has failed"),
    ] = None


_Word = Annotated[Literal["wait", "exclude"], OneOf()]
FailedRunsValue = Annotated[Literal["wait", "exclude"] | FailedRunsKeys, Either(scalar=_Word, mapping=FailedRunsKeys)]


def failed_runs_of(written: str | FailedRunsKeys) -> FailedRuns | None:
    """What is written, as a policy; ``None``: runs that have failed are waited for."""
    if isinstance(written, FailedRunsKeys):
        return FailedRuns(exclude=written.exclude, after=written.after)
    return None if written == "wait" else FailedRuns()


class GroupingKeys(Keys):
    """The keys that all kinds have."""

    name: Annotated[Label | None, Words(default="its kind"), Field(description="the grouping's label")] = None
    late_runs: Annotated[
        LateRuns,
        Field(
            description="a run that arrives after higher ones were assigned is listed, and put in no group; or those "
            "of one injection form groups of their own, whose payloads stay candidates"
        ),
    ] = "ignore"

    def common(self) -> dict[str, object]:
        """What a policy has of the keys that several kinds have, by the names of the policy."""
        return {"late_runs": self.late_runs}

    def common_fields(self) -> Iterator[FieldUse]:
        """The fields of runs that these keys need."""
        yield from ()

    def key_of_times(self) -> str:
        """The key that makes no sense without times of runs; empty: none is stated."""
        return ""


class SeveralRunsKeys(GroupingKeys):
    """The keys of all kinds whose groups have several runs (rule 48)."""

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
        Field(
            description="a group that ends with less: goes on to its next end, is a group all the same, or is skipped"
        ),
    ] = "keep"
    at_most: Annotated[
        dict[Text, Positive],
        NotEmpty("expected {<field>: <amount>}"),
        Words(name="{above}.{key}", type="mapping of fields to numbers above 0", default="no limit"),
        Field(
            default_factory=dict,
            description="the largest sum of each field: a group closes before the run that would exceed it; a run that "
            "exceeds it alone is a group of its own",
        ),
    ]
    break_on: Annotated[
        tuple[Text, ...],
        NotEmpty("expected [<field>]"),
        Words(type="list of fields", default="nothing"),
        Field(description="a change of one of these fields starts a new group"),
    ] = ()
    break_after: Annotated[
        Duration | None,
        Words(default="never"),
        Field(description="so does a run that starts more than this after the end of the group"),
    ] = None
    max_wait: Annotated[
        Duration | None,
        Words(default="wait for ever"),
        Field(description="this long after its last run's end a group closes although nothing else has ended it"),
    ] = None
    tail: Annotated[
        Tail,
        Field(
            description="what the unfinished last group becomes when the campaign is closed: a group all the same, "
            "skipped, or part of the one before (in finite campaigns)"
        ),
    ] = "keep"
    failed_runs: Annotated[
        FailedRunsValue,
        Words(type="`wait`, `exclude`, or [`exclude` and `after`](#failed_runs)"),
        Field(
            description="a run of the group that has failed in a task that is needed, in another grouping: it is "
            "waited for, or the group goes on without it"
        ),
    ] = "wait"

    def common(self) -> dict[str, object]:
        """What a policy has of the keys that several kinds have, by the names of the policy."""
        names = ("short", "at_most", "break_on", "break_after", "max_wait", "tail")
        found = {name: getattr(self, name) for name in names}
        failed = failed_runs_of(self.failed_runs)
        return {**super().common(), "minimum": dict(self.at_least), "failed_runs": failed, **found}

    def common_fields(self) -> Iterator[FieldUse]:
        """What is added up, and what breaks groups."""
        for key in ("at_least", "at_most"):
            for field in getattr(self, key):
                yield FieldUse((key, field), field)
        for position, field in enumerate(self.break_on):
            yield FieldUse(("break_on", position), field, is_amount=False)

    def key_of_times(self) -> str:
        """The key that makes no sense without times of runs; empty: none is stated."""
        return next((key for key in ("break_after", "max_wait") if getattr(self, key) is not None), "")

    def goal(self) -> Mapping[str, float]:
        """What a group is to reach by itself."""
        return {}

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What to do with a short group is only a question where there is an amount, which cannot be above the most."""
        if "short" in self.model_fields_set and self.short != "keep" and not self.has("at_least"):
            yield ("short",), mistake(f"{ABOVE}.short without at_least", "expected at_least: {<field>: <amount>}")
        for field, most in self.at_most.items():
            least = self.at_least.get(field)
            if least is not None and least > most:
                said = f"{WHAT} is {least:g}, more than at_most.{field}, which is {most:g}"
                yield ("at_least", field), mistake(said, f"expected at most {most:g}")
            goal = self.goal().get(field)
            if goal is not None and goal > most:
                said = f"{WHAT} is {most:g}, less than the {goal:g} {field} that a group is to reach"
                yield ("at_most", field), mistake(said, f"expected at least {goal:g}")

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        needs_amount = {"properties": {"short": {"enum": ["next", "drop"]}}, "required": ["short"]}
        return {"if": needs_amount, "then": {"required": ["at_least"]}}
