"""The keys of ``verdict``: what the values of a validation must be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.iteration.metrics import Metric, Within
from airflow_calib_provider.domain.keys import Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.scalars import WHAT, Schema, mistake
from airflow_calib_provider.domain.verdicts import Limit
from airflow_calib_provider.spec.iterate_keys import Target, Tolerance

FORMS = "{target: …, within: …}, {below: …}, {above: …} or {between: [low, high]}"


class LimitKeys(Keys):
    """What one value must be."""

    called: ClassVar[str] = "{above}.{key}"

    target: Annotated[Target | None, Field(description="what it should be; with `within`")] = None
    within: Annotated[
        Tolerance | None, Field(description="how far from the target it may be, both ends included; with `target`")
    ] = None
    below: Annotated[Target | None, Field(description="it must be smaller")] = None
    above: Annotated[Target | None, Field(description="it must be larger")] = None
    between: Annotated[
        tuple[Target, ...],
        Words(type="list of two numbers", item="an end of {above}"),
        Field(description="the smallest and the largest number that it may be"),
    ] = ()

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """Exactly one form, which something can fulfil."""
        stated = [key for key in ("target", "below", "above", "between") if self.has(key)]
        if len(stated) != 1 or self.has("target") != self.has("within"):
            yield (), mistake(f"{WHAT} says {' and '.join(_stated(self)) or 'nothing'}", f"expected {FORMS}")
        elif isinstance(self.within, Within) and self.target is not None:
            if said := Metric("", self.target, self.within).mistake():
                yield ("within",), mistake(said, "an amount")
        elif self.has("between") and (len(self.between) != 2 or self.between[0] >= self.between[1]):
            yield ("between",), mistake(f"{WHAT} is no range", "expected [low, high], low < high")

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        return {
            "oneOf": [
                {"required": ["target", "within"]},
                *({"required": [key]} for key in ("below", "above", "between")),
            ]
        }

    def limit(self) -> Limit | None:
        """What it means; ``None``: it could not be read."""
        if self.target is not None and self.within is not None:
            if Metric("", self.target, self.within).mistake():
                return None
            return Limit(target=self.target, tolerance=Metric("", self.target, self.within).tolerance)
        if len(self.between) == 2:
            return Limit(low=self.between[0], high=self.between[1], inclusive=True)
        if self.below is not None or self.above is not None:
            return Limit(low=self.above, high=self.below)
        return None


def _stated(keys: LimitKeys) -> list[str]:
    return [key for key in keys.declared if keys.has(key)]


LimitBlock = Annotated[LimitKeys, NotEmpty(FORMS)]
