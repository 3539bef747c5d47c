"""What the operators of templates do, and what work one evaluation may cause."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Undefined, nodes

from airflow_calib_provider.spec.values import MAX_ITEMS, TooLarge, as_text, described, joined, weight

_WORK = 5 * MAX_ITEMS
_MAX_EXPONENT = 1_000
_FORMAT = re.compile(r"%%|%[-+ #0]{0,3}[0-9]{0,2}(?:\.[0-9]{1,2})?[diouxXeEfFgGs]")


class Refused(Exception):
    """An expression that cannot be read, or holds what must not stand there.

    :ivar offset: where in the expression, counted from 0.
    """

    def __init__(self, message: str, hint: str = "", offset: int = 0) -> None:
        super().__init__(message, hint, offset)
        self.message = message
        self.hint = hint
        self.offset = offset


class Evaluation:
    """The variables of one evaluation, and what work is left to it."""

    __slots__ = ("left", "variables")

    def __init__(self, variables: Mapping[str, object]) -> None:
        self.variables = variables
        self.left = _WORK

    def spend(self, value: object, times: int = 1) -> None:
        """Account for work on a value.

        :raises TooLarge: it is too much.
        """
        self.charge(times * weight(value, self.left // times))

    def charge(self, work: int) -> None:
        """Account for so many elements or characters.

        :raises TooLarge: it is too much.
        """
        self.left -= work
        if self.left < 0:
            raise TooLarge("more work than a template may cause")


def check_format(text: str, offset: int) -> None:
    """Refuse a ``%`` format whose result is not bounded by its values.

    :param offset: of the format in the template.
    :raises Refused: a directive is none of those that are known, or is too wide.
    """
    _, percent, rest = _FORMAT.sub("", text).partition("%")
    if percent:
        shown = f"%{rest[:12]}"
        hint = "such as '%06d' % x or '%.3f' % x, with at most two digits each"
        raise Refused(f"the format {shown!r} cannot be used", hint, offset)


def _number(value: object, does: str) -> int | float:
    if isinstance(value, Undefined):
        as_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{described(value)} cannot be {does}")
    return value


def _arithmetic(function: Callable[..., int | float], does: str) -> Callable[[Evaluation, object, object], object]:
    return lambda evaluation, left, right: function(_number(left, does), _number(right, does))


def _add(evaluation: Evaluation, left: object, right: object) -> object:
    for side in (left, right):
        if isinstance(side, Undefined):
            as_text(side)
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        evaluation.charge(len(left) + len(right))
        return [*left, *right]
    if isinstance(left, str) or isinstance(right, str):
        raise TypeError(f"{described(left)} and {described(right)} cannot be added: use ~ to put texts together")
    return _number(left, "added") + _number(right, "added")


def _power(evaluation: Evaluation, left: object, right: object) -> object:
    base, exponent = _number(left, "raised to a power"), _number(right, "an exponent")
    if abs(exponent) > _MAX_EXPONENT or (isinstance(base, int) and base.bit_length() * abs(exponent) > 2**16):
        raise TooLarge(f"an exponent of {exponent}")
    return base**exponent


def _remainder(evaluation: Evaluation, left: object, right: object) -> object:
    if not isinstance(left, str):
        return _number(left, "divided") % _number(right, "a divisor")
    try:
        check_format(left, 0)
    except Refused as error:
        raise ValueError(f"{error.message}; {error.hint}") from error
    values = [
        value if isinstance(value, int | float) else as_text(value)
        for value in (right if isinstance(right, list | tuple) else (right,))
    ]
    joined([value for value in values if isinstance(value, str)])
    return left % tuple(values)


BINARY: dict[type[nodes.Node], Callable[[Evaluation, object, object], object]] = {
    nodes.Add: _add,
    nodes.Sub: _arithmetic(operator.sub, "subtracted"),
    nodes.Mul: _arithmetic(operator.mul, "multiplied"),
    nodes.Div: _arithmetic(operator.truediv, "divided"),
    nodes.FloorDiv: _arithmetic(operator.floordiv, "divided"),
    nodes.Mod: _remainder,
    nodes.Pow: _power,
}
UNARY: dict[type[nodes.Node], Callable[[object], object]] = {
    nodes.Not: operator.not_,
    nodes.Neg: lambda value: -_number(value, "negated"),
    nodes.Pos: lambda value: _number(value, "a number"),
}
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}
