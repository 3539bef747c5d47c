"""The checked expression of a condition: how much work one evaluation is, which lists it has, what is constant in it.

The runtime hands out what it has read as a protocol buffer (``cel.expr.CheckedExpr``), which is read here by the
numbers of its fields: Python knows no class for it.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field
from math import prod
from typing import Final

from cel_expr_python import cel
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

from airflow_calib_provider.spec.condition_language import NUMBER
from airflow_calib_provider.spec.condition_text import ConditionError, ConditionText

MAX_WORK = 20_000
"""Operations of one evaluation, as far as the text tells them: about two milliseconds."""
MAX_PATTERN = 200
MAX_TEXT = 10_000
"""Characters of a run's text that a condition looks at."""

_PATTERN_WORK = 60
"""Of each character: the runtime reads the pattern again for every run."""
_TEXT_WORK = 50
"""Of going through a text once, however long it may be."""
_COUNTED = re.compile(r"(\))?\{(\d+)(?:,(\d*))?\}")
_TYPES, _EXPRESSION, _SOURCE = 3, 4, 5
_POSITIONS = 4
_ID, _CONSTANT, _SELECT, _CALL, _LIST, _LOOP = 2, 3, 5, 6, 7, 9
_DOUBLE, _STRING = 5, 6
# Primitive: INT64, DOUBLE; and the abstract type of a choice between them.
_NUMBER_TYPES: Final = {b"\x18\x02", b"\x18\x04", b"\x72\x08\x0a\x06" + NUMBER.encode()}
_LIST_OF_ANYTHING: Final = b"\x32\x04\x0a\x02\x0a\x00"
_ZERO: Final = b"\x18\x00"  # int64_value
_FUNCTION, _ARGUMENT = 2, 3
_OPERANDS: Final = {_SELECT: (1,), _CALL: (1, 3), _LIST: (1,), _LOOP: (2, 4, 5, 6, 7)}
_URL: Final = b"type.googleapis.com/cel.expr.ParsedExpr"

_FORMS: Final = {
    "timestamp": "a time is written as in timestamp('2026-03-01T00:00:00Z')",
    "duration": "a duration is written as in duration('1h30m') or duration('20s')",
}


@dataclass
class _Node:
    """A part of the expression.

    :ivar kind: the number of its field in ``cel.expr.Expr``.
    :ivar content: the bytes of that field; ``raw`` are those of the whole.
    :ivar parts: the operands, elements or, of a loop, its list, start, condition, step and result.
    """

    identity: int
    kind: int
    content: bytes
    raw: bytes
    function: str = ""
    parts: list[_Node] = field(default_factory=list)

    @property
    def is_constant(self) -> bool:
        """Whether it is the same for every run."""
        return self.kind == _CONSTANT or (self.kind == _CALL and all(part.is_constant for part in self.parts))


def check_tree(program: cel.Expression, environment: cel.Env, text: ConditionText) -> None:
    """Refuse what the types alone do not tell.

    :param text: for the places of errors.
    :raises ConditionError: one evaluation may be too much work, a list holds what does not belong together, or a part
        that is the same for every run is an error.
    """
    _TreeCheck(program, environment, text).check()


class _TreeCheck:
    def __init__(self, program: cel.Expression, environment: cel.Env, text: ConditionText) -> None:
        self._environment = environment
        self._text = text
        checked = _fields(_bytes(_fields(program.serialize()), 2))
        types = map(_fields, _bytes_of(checked, _TYPES))
        self._types = {_integer(entry, 1): _bytes(entry, 2) for entry in types}
        self._root = _node(_bytes(checked, _EXPRESSION))
        places = map(_fields, _bytes_of(_fields(_bytes(checked, _SOURCE)), _POSITIONS))
        self._places = {_integer(entry, 1): _integer(entry, 2) for entry in places}

    def check(self) -> None:
        self._work(self._root)
        self._visit(self._root)

    def _error(self, message: str, node: _Node, hint: str = "") -> ConditionError:
        return self._text.error(message, self._places.get(node.identity, 0), hint)

    def _work(self, node: _Node) -> int:
        """How many operations one evaluation is at most."""
        if node.kind == _LOOP:
            listed, start, condition, step, result = node.parts
            times = len(listed.parts) if listed.kind == _LIST else MAX_WORK
            each = self._work(condition) + self._work(step)
            work = self._work(listed) + self._work(start) + self._work(result) + times * each
        else:
            work = 1 + sum(self._work(part) for part in node.parts)
        if node.kind == _CALL:
            work += _text_work(node)
        if work > MAX_WORK:
            raise self._error(
                f"the condition is too much work: more than {MAX_WORK:,} operations for one run",
                node,
                "use shorter lists and patterns, and no loops inside loops",
            )
        return work

    def _visit(self, node: _Node) -> None:
        if node.kind == _LIST:
            self._check_list(node)
        elif node.kind == _LOOP and self._is_mixed(node.parts[0]):
            raise self._error(
                "a list of whole numbers and fractions cannot be gone through", node.parts[0], "write 1.0 for 1"
            )
        elif node.kind == _CONSTANT:
            self._check_finite(_double(node), node)
        elif node.kind == _CALL:
            self._check_call(node)
            if node.is_constant:
                self._evaluate(node.raw, node)
                return
        for part in node.parts:
            self._visit(part)

    def _check_list(self, node: _Node) -> None:
        kinds = {self._types.get(part.identity, b"") for part in node.parts}
        if any(part.kind == _LIST for part in node.parts):
            raise self._error("a list in a list", node, "write one list")
        if len(kinds) > 1 and not kinds <= _NUMBER_TYPES:
            raise self._error("a list holds what does not belong together", node, "write values of one type")

    def _is_mixed(self, node: _Node) -> bool:
        return self._types.get(node.identity) == _LIST_OF_ANYTHING

    def _check_call(self, node: _Node) -> None:
        if node.function == "@in" and self._is_mixed(node.parts[1]):
            if self._types.get(node.parts[0].identity) not in _NUMBER_TYPES:
                raise self._error("only a number can be in a list of numbers", node)
        elif node.function in ("_/_", "_%_") and node.parts[1].content == _ZERO:
            raise self._error("a part of the condition fails for every run: divide by zero", node)
        elif node.function == "matches":
            pattern = _pattern(node)
            if not 0 < len(pattern) <= MAX_PATTERN:
                expected = f"a text of at most {MAX_PATTERN} characters"
                raise self._error(f"the pattern of matches(…) is not {expected}", node, "write it as it is: '^good'")
            if re.search(r"\\[pP]", pattern):
                raise self._error(
                    "a class of Unicode in the pattern of matches(…)", node, "write [A-Za-z], for example"
                )
            # The pattern alone is tried.
            self._evaluate(_call("matches", _put(_CONSTANT, _put(_STRING, b"")), node.parts[-1].raw), node)

    def _check_finite(self, value: object, node: _Node) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error("a number that is too large, or none", node, "write a number that a computer can hold")

    def _evaluate(self, raw: bytes, node: _Node) -> None:
        """Evaluate what is the same for every run: an error in it is one for every run."""
        parsed = _put(1, _URL) + _put(2, _put(2, raw))
        result = self._environment.deserialize(parsed).eval()
        self._check_finite(result.value(), node)
        if result.type() == cel.Type.ERROR:
            reason = str(result.value()).partition(": ")[2]
            raise self._error(
                f"a part of the condition fails for every run: {reason}", node, _FORMS.get(node.function, "")
            )


def _double(node: _Node) -> float | None:
    """The fraction that is written there."""
    bits = next((found for number, found in _fields(node.content) if number == _DOUBLE), None)
    if not isinstance(bits, int):
        return None
    value: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return value


def _pattern(node: _Node) -> str:
    """What a text is searched for; empty where it is not written as a text."""
    pattern = node.parts[-1]
    return _bytes(_fields(pattern.content), _STRING).decode() if pattern.kind == _CONSTANT else ""


def _text_work(node: _Node) -> int:
    """What a function does with a text of a run, besides being called."""
    if node.function == "matches":
        return _pattern_work(_pattern(node))
    if node.function == "contains":
        # At each place as much as the text that is looked for is long.
        return _TEXT_WORK + (len(_pattern(node)) or MAX_TEXT)
    return _TEXT_WORK if node.function in ("size", "int", "double", "timestamp", "duration") else 0


def _pattern_work(pattern: str) -> int:
    """What is counted is written out by the runtime: a repeated group as often as all that is in it."""
    counts = [(group, int(most or least)) for group, least, most in _COUNTED.findall(pattern)]
    size = len(pattern) + sum(count for group, count in counts if not group)
    return _PATTERN_WORK * size * prod(max(count, 1) for group, count in counts if group)


def _node(raw: bytes) -> _Node:
    fields = _fields(raw)
    kind, content = next(((number, value) for number, value in fields if isinstance(value, bytes)), (0, b""))
    inner = _fields(content) if kind in _OPERANDS else []
    parts = [_node(part) for number in _OPERANDS.get(kind, ()) for part in _bytes_of(inner, number)]
    function = _bytes(inner, _FUNCTION).decode() if kind == _CALL else ""
    return _Node(_integer(fields, _ID), kind, content, raw, function, parts)


def _fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a message as they come: numbers, and the bytes of texts and messages."""
    empty = Empty()
    empty.ParseFromString(message)
    return [(entry.field_number, entry.data) for entry in UnknownFieldSet(empty)]


def _bytes_of(fields: list[tuple[int, int | bytes]], number: int) -> list[bytes]:
    return [value for found, value in fields if found == number and isinstance(value, bytes)]


def _bytes(fields: list[tuple[int, int | bytes]], number: int) -> bytes:
    return next(iter(_bytes_of(fields, number)), b"")


def _integer(fields: list[tuple[int, int | bytes]], number: int) -> int:
    return next((value for found, value in fields if found == number and isinstance(value, int)), 0)


def _put(number: int, content: bytes) -> bytes:
    """A text or a message as a field of another one."""
    length, size = bytearray(), len(content)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def _call(function: str, *arguments: bytes) -> bytes:
    parts = (_put(_ARGUMENT, argument) for argument in arguments)
    return _put(_CALL, b"".join([_put(_FUNCTION, function.encode()), *parts]))
