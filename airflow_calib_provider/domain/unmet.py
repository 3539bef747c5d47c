"""What a run does not meet: parts of conditions, and categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class UnmetPart:
    """A part of a condition that is false of a run, or of which that cannot be told.

    :ivar values: of the fields that it mentions.
    :ivar error: why it cannot be told; empty: it is false.
    """

    text: str
    values: Mapping[str, object]
    error: str = ""

    def __str__(self) -> str:
        """In words."""
        values = ", ".join(f"{name} is {_shown(value)}" for name, value in self.values.items())
        return f"`{self.text}` {'cannot be told: ' + self.error if self.error else 'is false'}" + (
            f" ({values})" if values else ""
        )


@dataclass(frozen=True)
class InCategory:
    """Whether a run is in a category.

    :ivar is_in: ``None``: that cannot be told.
    :ivar parts: of its condition, which are false of the run, or cannot be told.
    :ivar error: why it can be told of no run of the source.
    :ivar workflows: those that name it and take runs of the source.
    """

    name: str
    condition: str
    is_in: bool | None
    parts: Sequence[UnmetPart]
    error: str
    workflows: Sequence[str]

    @property
    def why(self) -> str:
        """Why it is not in it, in words."""
        return self.error or "; ".join(str(part) for part in self.parts)


def _shown(value: object) -> str:
    if value is None:
        return "null"
    return repr(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
