"""Collecting the mistakes of one file, with places and the nearest right spelling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from airflow_calib_provider.errors import Place, SpecError
from airflow_calib_provider.spec.positions import Document, Node, Position, Scalar


def nearest(word: str, options: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the nearest spelling among the options, or an empty text."""
    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {by_lower[found[0]]!r}?" if found else ""


def one_of(options: Iterable[str]) -> str:
    """``one of a, b, c``; a long list is cut."""
    names = list(options)
    if not names:
        return ""
    if len(names) == 1:
        return names[0]
    return "one of " + ", ".join(names[:15]) + (", …" if len(names) > 15 else "")


class Problems:
    """The mistakes of one file.

    :ivar errors: in the order in which they were found.
    """

    def __init__(self, document: Document) -> None:
        self.file = document.file
        self.lines = document.lines
        self.errors: list[SpecError] = list(document.errors)

    def add(self, message: str, where: Node | Position | Place, *, expected: str = "", hint: str = "") -> None:
        """Record a mistake."""
        self.errors.append(self.error(message, where, expected=expected, hint=hint))

    def error(self, message: str, where: Node | Position | Place, *, expected: str = "", hint: str = "") -> SpecError:
        """The error that :meth:`add` would record."""
        place = self.place(where)
        context = self.lines[place.line - 1].rstrip("\r") if 0 < place.line <= len(self.lines) else ""
        if expected and not expected.startswith("expected"):
            expected = f"expected {expected}"
        return SpecError(message, place, expected=expected, suggestion=hint, context=context)

    def place(self, where: Node | Position | Place) -> Place:
        """The start of a node as a place of this file."""
        if isinstance(where, Place):
            return where
        position = where if isinstance(where, Position) else where.position
        return Place(self.file, position.line, position.column)

    def find(self, scalar: Scalar, words: str) -> Place:
        """Where words stand inside a scalar, however that is quoted or folded; its start when they are not found."""
        position = scalar.position
        pattern = re.compile(rf"(?<![\w.]){re.escape(words)}(?!\w)")
        for number in range(position.line, min(position.end_line, len(self.lines)) + 1):
            line = self.lines[number - 1]
            start = position.column - 1 if number == position.line else 0
            end = position.end_column - 1 if number == position.end_line else len(line)
            if match := pattern.search(line, start, end):
                return Place(self.file, number, match.start() + 1)
        return self.place(scalar)

    def offset(self, scalar: Scalar, line: int, column: int) -> Place:
        """The place of a line and column (from 1) of a scalar's text; exact for text on one line."""
        position = scalar.position
        if position.line == position.end_line and line <= 1:
            quote = 1 if self.lines[position.line - 1][position.column - 1 : position.column] in ("'", '"') else 0
            return Place(self.file, position.line, position.column + quote + max(column, 1) - 1)
        return self.place(scalar)

    def sorted(self) -> list[SpecError]:
        """The mistakes in the order of the file."""
        return sorted(self.errors, key=lambda error: (error.line, error.column))
