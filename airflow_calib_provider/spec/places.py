"""Lines and columns of a text, in one unit: lines as an editor counts them, columns in characters, both from 1.

YAML's parser counts otherwise: for it a line may also end with U+0085, U+2028 or U+2029, and some of its errors count
bytes. A byte order mark is no character of the first line.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from typing import Any

from airflow_calib_provider.domain.nodes import Position, Scalar

_LINE_END = re.compile(r"\r\n|\r|\n")
_OTHER_LINE_END = re.compile("[\r\x85\u2028\u2029]")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")
_ESCAPE = re.compile(r"\\(?:x.{2}|u.{4}|U.{8}|.)", re.DOTALL)
_WHITE = " \t\n\r\x85\u2028\u2029"


class Lines:
    """A text that knows its lines.

    :ivar text: without a byte order mark.
    :ivar lines: for display, without their ends.
    """

    def __init__(self, text: str) -> None:
        self.text = text.removeprefix("\ufeff")
        self.lines = _LINE_END.split(self.text)
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(self.text))]
        self._counts_as_yaml = _OTHER_LINE_END.search(self.text) is None

    def at(self, index: int) -> tuple[int, int]:
        """Line and column of a character."""
        line = bisect_right(self._starts, max(index, 0))
        return line, max(index, 0) - self._starts[line - 1] + 1

    def at_byte(self, offset: int) -> tuple[int, int]:
        """Line and column of a byte of the text in UTF-8."""
        return self.at(len(self.text.encode(errors="surrogatepass")[:offset].decode(errors="ignore")))

    def at_mark(self, mark: Any) -> tuple[int, int]:
        """Line and column of a mark of YAML's parser; what it misses after the last line, it misses at its end."""
        if self._counts_as_yaml and mark.line < len(self.lines):
            return mark.line + 1, mark.column + 1
        return self.at(min(mark.index, len(self.text)))

    def between(self, start: Any, end: Any) -> Position:
        """From one mark of YAML's parser to another."""
        return Position(*self.at_mark(start), *self.at_mark(end))


def end_of(content: bytes) -> tuple[int, int]:
    """Line and column of what follows the beginning of a file; what is no UTF-8 there counts as one character."""
    before = Lines(content.decode(errors="replace"))
    return before.at(len(before.text))


def line_of(lines: list[str], number: int) -> str:
    """A line by its number, for display; empty where there is none."""
    return lines[number - 1] if 0 < number <= len(lines) else ""


class Inside:
    """Where each character of a scalar's text stands in its file, however it is quoted or folded.

    :param lines: of the file.
    """

    def __init__(self, lines: list[str], scalar: Scalar) -> None:
        position = scalar.position
        shown = lines[position.line - 1 : position.end_line]
        if shown and position.end_line <= len(lines):
            shown[-1] = shown[-1][: position.end_column - 1]
        self._raw = "\n".join(shown)[position.column - 1 :]
        self._line, self._column = position.line, position.column
        self._starts = [0, *(match.end() for match in re.finditer("\n", self._raw))]
        self._indices = _aligned(self._raw, scalar.text)

    def at(self, index: int) -> tuple[int, int]:
        """Line and column of a character of the scalar's text."""
        raw = self._indices[min(index, len(self._indices) - 1)] if index >= 0 and self._indices else 0
        line = bisect_right(self._starts, raw)
        before = self._column if line == 1 else 1
        return self._line + line - 1, raw - self._starts[line - 1] + before


def _aligned(raw: str, text: str) -> array[int]:
    """For each character of a text, where it stands in the raw form; white space may be folded or indentation."""
    found = array("l")
    match = _PROPERTIES.match(raw)
    position = match.end() if match else 0
    style = raw[position : position + 1]
    if style in ("'", '"'):
        position += 1
    elif style in ("|", ">"):
        position = raw.find("\n", position) + 1
    index = 0
    while index < len(text) and position < len(raw):
        sign, wanted = raw[position], text[index]
        escape = _ESCAPE.match(raw, position) if style == '"' and sign == "\\" else None
        if escape is not None and escape[0] == "\\\n":
            position += 2
        elif escape is not None or (style == "'" and raw.startswith("''", position)) or sign == wanted:
            found.append(position)
            index += 1
            position += len(escape[0]) if escape is not None else 2 if style == "'" and sign == "'" else 1
        elif sign in _WHITE:
            position += 1
        elif wanted in _WHITE:
            found.append(position)
            index += 1
        else:
            break
    found.append(min(position, max(len(raw) - 1, 0)))
    return found
