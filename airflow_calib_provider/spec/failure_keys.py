"""The keys of ``failures``: what becomes of a job that failed or is held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Either, Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.scalars import WHAT, Duration, OneOf, Reads, Schema, Size, mistake, number, whole

T = TypeVar("T")


def _factor(value: object) -> float:
    found = number(value)
    if not 1 < found <= 100:
        raise mistake(f"{WHAT} is {found:g}", "a number above 1 and at most 100")
    return found


Factor = Annotated[
    float,
    Reads(_factor, {"type": "number", "exclusiveMinimum": 1, "maximum": 100}, "number above 1, at most 100"),
]
FailureClass = Annotated[
    Literal[
        "exit", "signal", "timeout", "memory", "disk", "product", "start", "credential", "transfer", "hold", "person",
        "lost",
    ],
    OneOf(),
]  # fmt: skip
"""As :class:`~airflow_calib_provider.domain.observation.FailureClass`, which says what they mean."""
ExitCode = Annotated[int, whole(0, 255)]
Signal = Annotated[int, whole(1, 64)]
HoldCode = Annotated[int, whole(1, 9999)]
Times = Annotated[int, whole(1, 1000)]

NEVER_HELD = ("exit", "signal", "product", "lost")
"""Classes of jobs that have ended: there is nothing to release."""


def _many(kind: Any) -> Either:
    """One value, or a list of them."""
    return Either(scalar=kind, sequence=Annotated[tuple[kind, ...], NotEmpty("at least one value")])


class WhenKeys(Keys):
    """``failures.when``."""

    called: ClassVar[str] = "{above}.{key}"

    classes: Annotated[
        str | tuple[str, ...] | None,
        _many(FailureClass),
        Words(type="see below", default="any"),
        Field(alias="class", description="the kind of failure"),
    ] = None
    exit_code: Annotated[
        int | tuple[int, ...] | None,
        _many(ExitCode),
        Words(type="0 to 255", default="any"),
        Field(description="of the payload"),
    ] = None
    signal: Annotated[
        int | tuple[int, ...] | None,
        _many(Signal),
        Words(type="1 to 64", default="any"),
        Field(description="that ended the payload"),
    ] = None
    hold_code: Annotated[
        int | tuple[int, ...] | None,
        _many(HoldCode),
        Words(type="1 to 9999", default="any"),
        Field(description="the batch system's number for the reason of a hold (HTCondor's `HoldReasonCode`)"),
    ] = None


class MemoryKeys(Keys):
    """``failures.memory``."""

    factor: Annotated[
        Factor | None,
        Words(default="1.5"),
        Field(description="the next attempt asks for so many times the memory of this one"),
    ] = None
    at_most: Annotated[
        Size | None, Words(default="4 times what was asked for first"), Field(description="but never for more")
    ] = None


class RuleKeys(Keys):
    """One rule of ``failures``."""

    when: Annotated[
        WhenKeys | None,
        NotEmpty("one of class, exit_code, signal, hold_code"),
        Words(missing="{class: …}, or exit_code, signal, hold_code"),
        Field(description="which failures and holds: [failures.when](#failureswhen)"),
    ] = None
    then: Annotated[
        Annotated[Literal["retry", "release", "fail"], OneOf()] | None,
        Words(missing="one of retry, release, fail"),
        Field(
            description="a new attempt, as far as `retries` allows; the same attempt goes on, of a held job; "
            "no further attempt"
        ),
    ] = None
    memory: Annotated[
        MemoryKeys | None,
        NotEmpty("factor, at_most or both"),
        Words(default="as before"),
        Field(
            description="with `retry`: how much the next attempt asks for: [failures.memory](#failuresmemory)",
        ),
    ] = None
    times: Annotated[
        Times | None,
        Words(default="3"),
        Field(
            description="with `release`: so often for one attempt; held again after that, it is tried as a new attempt"
        ),
    ] = None
    after: Annotated[
        Duration | None, Words(default="`5m`"), Field(description="with `release`: so long after it was held")
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A key that only one action has goes with that action."""
        for key, needed in (("memory", "retry"), ("times", "release"), ("after", "release")):
            if self.has(key) and self.then is not None and self.then != needed:
                said = f"{key!r} in a rule that says 'then: {self.then}'"
                yield (key,), mistake(said, f"{key} with 'then: {needed}'")
        classes = as_tuple(self.when.classes) if self.when is not None else ()
        if self.then == "release" and classes and all(one in NEVER_HELD for one in classes):
            said = f"a job of the class {' or '.join(map(str, classes))} is not held, and cannot be released"
            yield ("then",), mistake(said, "then: retry, or then: fail")

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        actions = {"memory": "retry", "times": "release", "after": "release"}
        needed = {key: {"properties": {"then": {"const": action}}} for key, action in actions.items()}
        return {"dependentSchemas": needed}


def as_tuple(value: T | tuple[T, ...] | None) -> tuple[T, ...]:
    """What is one value, a list of them, or left out, as a list."""
    return () if value is None else value if isinstance(value, tuple) else (value,)
