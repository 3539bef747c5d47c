"""What a file of YAML says, as nodes that know where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Position:
    """Where a node starts and ends; lines and columns count from 1, the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True)
class Scalar:
    """A single value as it is written.

    :ivar text: the value; without quotes, escapes resolved.
    :ivar kind: what a plain spelling means: ``null``, ``bool``, ``int``, ``float``, ``date``, ``text``, or
        ``odd number`` and ``odd bool``, which YAML's versions do not agree on. Anything quoted is ``text``.
    """

    text: str
    kind: str
    position: Position
    quoted: bool = False


@dataclass(frozen=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    position: Position


@dataclass(frozen=True)
class Entry:
    """One key of a mapping with its value."""

    key: Scalar
    value: Node


@dataclass(frozen=True)
class Mapping:
    """A mapping; of a duplicate key the first entry is kept and the repetition reported.

    :ivar is_template: the mapping is what YAML makes of an unquoted ``{{ … }}``.
    """

    entries: dict[str, Entry]
    position: Position
    is_template: bool = False


Node: TypeAlias = Scalar | Sequence | Mapping
