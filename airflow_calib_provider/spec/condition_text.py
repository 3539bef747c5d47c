"""The words of a condition: which fields it mentions where, what it may not say, and how deep its brackets go.

This comes before the runtime reads the text, because the runtime knows no places where it gives up, and no ``has(…)``
of a variable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.spec.condition_language import FUNCTIONS, MACROS
from airflow_calib_provider.spec.problems import nearest

MAX_LENGTH = 50_000
"""Room for a list of 6,000 runs."""
MAX_DEPTH = 30
"""Of brackets, choices and signs; the runtime's own limit is two more."""

_WORD = re.compile(
    r"""
    (?P<space> \s+ | //[^\n]* )
    | (?P<text> [rR]? (?: \"{3} .*? (?<!\\)\"{3} | '{3} .*? (?<!\\)'{3} ) | [rR] (?: "[^"\r\n]*" | '[^'\r\n]*' )
        | "(?:\\.|[^"\\\r\n])*" | '(?:\\.|[^'\\\r\n])*' )
    | (?P<number> 0[xX][0-9a-fA-F]+[uU]? | (?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[uU]? )
    | (?P<name> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<sign> && | \|\| | [=!<>]= | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_LITERALS = frozenset({"true", "false", "in"})
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ConditionError(CalibError):
    """A condition that cannot be read, or that a run gives no answer to.

    :ivar field: the null field, where that is the reason.
    :ivar line: in the text, from 1; 0 is unknown.
    :ivar column: in the text, from 1; 0 is unknown.
    :ivar others: what else is wrong with the same text, in its order.
    """

    def __init__(self, message: str, hint: str = "", *, field: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(message, hint)
        self.field = field
        self.line = line
        self.column = column
        self.others: tuple[ConditionError, ...] = ()

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.message, self.hint, self.field, self.line, self.column, self.others)


def _rebuild(
    message: str, hint: str, field: str, line: int, column: int, others: tuple[ConditionError, ...]
) -> ConditionError:
    made = ConditionError(message, hint, field=field, line=line, column=column)
    made.others = others
    return made


@dataclass(frozen=True)
class FieldMention:
    """A field in the text of a condition.

    :ivar start: where it begins in the text, from 0; ``end`` is exclusive.
    :ivar mention: where ``run`` begins; in ``has(run.field)`` that is not the start.
    :ivar asked: it stands in ``has(…)``.
    """

    name: str
    start: int
    end: int
    mention: int
    asked: bool = False


@dataclass(frozen=True)
class _Word:
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


_END = _Word("end", "", -1)


class ConditionText:
    """A condition's words.

    :raises ConditionError: it is too long or nested too deeply, or no text that could be read.

    :cvar conversions: what makes values of one type of those of others.
    """

    conversions = "int(…), double(…), string(…) or timestamp(…)"

    def __init__(self, text: str, noun: str = "run") -> None:
        self._noun = noun
        if len(text) > MAX_LENGTH:
            hint = "let the source say of each run what the condition asks for, in a field"
            raise ConditionError(f"a condition of more than {MAX_LENGTH:,} characters", hint)
        self.text = text
        self._words = [
            _Word(str(match.lastgroup), match[0], match.start())
            for match in _WORD.finditer(text)
            if match.lastgroup != "space"
        ]
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.error("half of a character", error.start) from error
        self._refuse_depth()

    def error(self, message: str, offset: int, hint: str = "") -> ConditionError:
        """An error at a place of the text, counted from 0; at the bracket of a call: at its name."""
        for name, bracket in pairwise(self._words):
            if bracket.start == offset and bracket.text == "(" and name.kind == "name":
                offset = name.start
        line, column = self.place(offset)
        return ConditionError(message, hint, line=line, column=column)

    def place(self, offset: int) -> tuple[int, int]:
        """The line and column of a place of the text; both from 1."""
        before = self.text[:offset]
        return before.count("\n") + 1, offset - before.rfind("\n")

    def offset(self, line: int, column: int) -> int:
        """The inverse of :meth:`place`."""
        return sum(len(text) + 1 for text in self.text.split("\n")[: line - 1]) + column - 1

    def too_deep(self) -> ConditionError:
        """The error for a text that is nested more than the runtime reads, at its deepest place."""
        return self._depth_error(max(self._depths(), default=(0, 0))[1])

    def _depth_error(self, offset: int) -> ConditionError:
        hint = (
            f"at most {MAX_DEPTH} levels of brackets, choices and operations in a row; a list says much in one: in […]"
        )
        return self.error("the condition is nested too deeply", abs(offset), hint)

    def _refuse_depth(self) -> None:
        for depth, offset in self._depths():
            if depth > MAX_DEPTH:
                raise self._depth_error(abs(offset))

    def _depths(self) -> list[tuple[int, int]]:
        """How deep each opening sign lies, with its place; negative, so that of equals the first is the largest."""
        found: list[tuple[int, int]] = []
        choices, signs = [0], 0
        for word in self._words:
            signs = signs + 1 if word.text in ("!", "-") else 0
            if word.text in ("(", "[", "{"):
                choices.append(0)
            elif word.text in (")", "]", "}") and len(choices) > 1:
                choices.pop()
            elif word.text == "?":
                choices[-1] += 1
            elif not signs:
                continue
            found.append((len(choices) - 1 + sum(choices[-MAX_DEPTH:]) + signs, -word.start))
        return found

    def near(self, offset: int) -> str:
        """What stands at a place, for a message."""
        rest = self.text[offset : offset + 20]
        return f" at {rest!r}" if rest.strip() else ": it ends too early"

    def spelling_hint(self) -> str:
        """What to write instead of the signs of other languages."""
        for word in self._words:
            if word.text in _OTHER_SIGNS:
                return _OTHER_SIGNS[word.text]
        for first, second in pairwise(self._words):
            if (pair := f"{first.text} {second.text}") in _OTHER_PAIRS and (
                first.end == second.start or pair == "in ("
            ):
                return _OTHER_PAIRS[pair]
        return ""

    def uses(self) -> tuple[FieldMention, ...]:
        """Every mention of a field, in the order of the text.

        :raises ConditionError: it uses something else than fields of ``run``, or what a condition has not.
        """
        uses: list[FieldMention] = []
        bound = self._bound()
        index = 0
        while index < len(self._words):
            use, length = self._use(index)
            if use:
                uses.append(use)
            else:
                self._refuse(index, bound)
            index += length
        return tuple(uses)

    def _at(self, index: int) -> _Word:
        return self._words[index] if 0 <= index < len(self._words) else _END

    def _texts(self, index: int, count: int) -> list[str]:
        return [self._at(number).text for number in range(index, index + count)]

    def _use(self, index: int) -> tuple[FieldMention | None, int]:
        """The field that is mentioned here, if one is, and how many words that takes."""
        word = self._at(index)
        if word.kind != "name" or self._at(index - 1).text == ".":
            return None, 1
        if word.text == "has" and self._at(index + 1).text == "(":
            words = self._texts(index + 2, 4)
            if words[:2] != [self._noun, "."] or self._at(index + 4).kind != "name" or words[3] != ")":
                raise self.error(
                    "has(…) with something else than a field", word.start, f"write has({self._noun}.field)"
                )
            return FieldMention(words[2], word.start, self._at(index + 5).end, self._at(index + 2).start, asked=True), 6
        if word.text != self._noun:
            return None, 1
        after, part = self._at(index + 1), self._at(index + 2)
        if after.text == "[":
            name = part.text[1:-1] if part.kind == "text" else ""
            if not _FIELD.fullmatch(name) or self._at(index + 3).text != "]":
                raise self.error(
                    f"{self._noun}[…] with something else than a field's name", word.start, f"write {self._noun}.field"
                )
            return FieldMention(name, word.start, self._at(index + 3).end, word.start), 4
        if after.text != "." or part.kind != "name" or self._at(index + 3).text == "(":
            raise self.error(f"{self._noun!r} without a field", word.start, f"write {self._noun}.field")
        return FieldMention(part.text, word.start, part.end, word.start), 3

    def _bound(self) -> frozenset[str]:
        """The names that macros give to the elements of lists; where they hold is the runtime's to say."""
        return frozenset(
            self._at(index + 2).text
            for index, word in enumerate(self._words)
            if word.text in MACROS and self._at(index + 1).text == "("
        )

    def _refuse(self, index: int, bound: frozenset[str]) -> None:
        word = self._at(index)
        if word.text == "{":
            raise self.error("a condition has no mappings", word.start, "write a list: […]")
        if word.kind == "number" and word.text[-1] in "uU":
            raise self.error("a number without a sign", word.start, f"write {word.text[:-1]}")
        if word.kind != "name":
            return
        of_something, called = self._at(index - 1).text == ".", self._at(index + 1).text == "("
        if called:
            known = sorted(FUNCTIONS | set(MACROS if of_something else ("has",)))
            if word.text not in known:
                raise self.error(f"no function is called {word.text!r}", word.start, nearest(word.text, known))
        elif of_something:
            return
        elif word.text == "null":
            raise self.error(
                "a condition cannot use null", word.start, f"ask whether there is a value: has({self._noun}.field)"
            )
        elif word.text not in _LITERALS and word.text not in bound:
            small = word.text.lower()
            hint = f"write {small}" if small in ("true", "false") else f"a field is written {self._noun}.{word.text}"
            if small not in ("true", "false") and self._at(index - 1).text in ("==", "!=", "[", ","):
                hint += f", a text '{word.text}'"
            raise self.error(f"unknown name {word.text!r}", word.start, hint)

    def operands(self) -> tuple[str, list[str]]:
        """The parts of which the whole is put together by ``||``, else by ``&&``; without such a sign there are none.

        :returns: the sign, and the texts of the parts.
        """
        depth, signs = 0, dict[str, list[_Word]]()
        for word in self._words:
            depth += (word.text in ("(", "[", "{")) - (word.text in (")", "]", "}"))
            if depth == 0:
                signs.setdefault(word.text, []).append(word)
        # A choice holds its parts less tightly than either.
        sign = "" if "?" in signs else next((sign for sign in ("||", "&&") if sign in signs), "")
        if not sign:
            return "", []
        ends = [0, *(place for word in signs[sign] for place in (word.start, word.end)), len(self.text)]
        return sign, [self.text[begin:end].strip() for begin, end in zip(ends[::2], ends[1::2], strict=True)]

    def unbracketed(self) -> str:
        """The text without brackets around all of it."""
        depth = 0
        for word in self._words:
            depth += (word.text in ("(", "[", "{")) - (word.text in (")", "]", "}"))
            if depth == 0 and word is not self._words[-1]:
                return self.text.strip()
        if len(self._words) < 3 or self._words[0].text != "(":
            return self.text.strip()
        return ConditionText(self.text[self._words[0].end : self._words[-1].start]).unbracketed()

    def for_runtime(self, uses: tuple[FieldMention, ...]) -> str:
        """The text with every mention of a field as the runtime reads it, each character at its place."""
        parts, position = [], 0
        for use in uses:
            name = (
                f"has.{use.name}"
                if use.asked
                else f"{self._noun}.`{use.name}`"
                if "[" in self._of(use)
                else self._of(use)
            )
            parts += [self.text[position : use.start], name.ljust(use.end - use.start)]
            position = use.end
        return "".join([*parts, self.text[position:]])

    def _of(self, use: FieldMention) -> str:
        return self.text[use.start : use.end]


_OTHER_SIGNS = {
    "and": "write && for and",
    "or": "write || for or",
    "not": "write ! for not",
    "=": "write == to compare",
    "like": "write run.field.startsWith('…'), .contains('…') or .matches('…')",
}
_OTHER_PAIRS = {"{ {": "a condition is no template: write it without {{ }}", "in (": "a list is written […]"}
