"""Collecting the mistakes of one file, with places and the nearest right spelling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from airflow_calib_provider.domain.nodes import Node, Position, Scalar
from airflow_calib_provider.errors import Place, SpecError
from airflow_calib_provider.spec.places import Inside, line_of

if TYPE_CHECKING:
    from airflow_calib_provider.spec.positions import Document

MAX_SHOWN = 100
"""Mistakes of one file that are told; the others are counted."""

_MAX_OPTIONS = 200
_LONGEST = 100


def nearest(word: str, options: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the nearest spelling among the options, or an empty text.

    Of very many options only the first are looked at, and very long words have no neighbours.
    """
    if len(word) > _LONGEST:
        return ""
    by_lower = {option.lower(): option for option in islice(options, _MAX_OPTIONS) if len(option) <= _LONGEST}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {by_lower[found[0]]!r}?" if found else ""


Said: TypeAlias = str | Callable[[], str]
"""A part of a message; what takes work to find, such as the nearest spelling, is found only where it will be read."""


class Problems:
    """The mistakes of one file.

    :ivar errors: in the order in which they were found.
    """

    def __init__(self, document: Document) -> None:
        self.file = document.file
        self.lines = document.lines
        self.errors: list[SpecError] = list(document.errors)
        self._inside: tuple[Scalar, Inside] | None = None

    @property
    def is_told(self) -> bool:
        """Whether a further mistake will be told, and not only counted."""
        return len(self.errors) < MAX_SHOWN

    def add(
        self,
        message: str,
        where: Node | Position | Place,
        *,
        expected: Said = "",
        hint: Said = "",
        told_in: str = "",
    ) -> None:
        """Record a mistake.

        :param told_in: a file beside, whose mistakes are all that is wrong.
        """
        if not self.is_told:
            # Nobody reads it: the work of finding words for thousands of mistakes is not done.
            expected, hint = expected if isinstance(expected, str) else "", hint if isinstance(hint, str) else ""
        error = self.error(message, where, expected=expected, hint=hint, told_in=told_in)
        if self.is_told and any((one.message, one.place) == (message, error.place) for one in self.errors):
            return  # of an anchor that stands in several places
        self.errors.append(error)

    def error(
        self,
        message: str,
        where: Node | Position | Place,
        *,
        expected: Said = "",
        hint: Said = "",
        told_in: str = "",
    ) -> SpecError:
        """The error that :meth:`add` would record."""
        place = self.place(where)
        expected = expected if isinstance(expected, str) else expected()
        if expected and not expected.startswith("expected"):
            expected = f"expected {expected}"
        suggestion = hint if isinstance(hint, str) else hint()
        context = line_of(self.lines, place.line)
        return SpecError(message, place, expected=expected, suggestion=suggestion, context=context, told_in=told_in)

    def place(self, where: Node | Position | Place) -> Place:
        """The start of a node as a place of this file."""
        if isinstance(where, Place):
            return where
        position = where if isinstance(where, Position) else where.position
        return Place(self.file, position.line, position.column)

    def find(self, scalar: Scalar, words: str) -> Place:
        """Where words stand inside a scalar, however that is quoted or folded; its start when they are not found."""
        match = re.search(rf"(?<![\w.]){re.escape(words)}(?!\w)", scalar.text)
        return self._at(scalar, match.start()) if match else self.inside(scalar, words, 0)

    def offset(self, scalar: Scalar, line: int, column: int) -> Place:
        """The place of a line and column (from 1) of a scalar's text."""
        before = scalar.text.split("\n")[: max(line, 1) - 1]
        return self._at(scalar, sum(len(text) + 1 for text in before) + max(column, 1) - 1)

    def inside(self, scalar: Scalar, part: str, offset: int) -> Place:
        """The place of a character of a part of a scalar's text, such as one expression; its start if there is none."""
        start = scalar.text.find(part)
        return self._at(scalar, start + offset) if start >= 0 else self.place(scalar)

    def _at(self, scalar: Scalar, index: int) -> Place:
        if not self.is_told or not scalar.position.line:
            return self.place(scalar)
        if self._inside is None or self._inside[0] is not scalar:
            self._inside = (scalar, Inside(self.lines, scalar))
        return Place(self.file, *self._inside[1].at(index))

    def sorted(self) -> list[SpecError]:
        """The mistakes in the order of the file; of very many those that were found first, and how many there are.

        Those in another file, which concern this one, come last.
        """
        found = sorted(self.errors[:MAX_SHOWN], key=lambda error: (error.file != self.file, error.line, error.column))
        if len(self.errors) <= MAX_SHOWN:
            return found
        more = f"and {len(self.errors) - MAX_SHOWN:,} more mistakes in this file"
        return [*found, self.error(more, self.errors[MAX_SHOWN].place)]
