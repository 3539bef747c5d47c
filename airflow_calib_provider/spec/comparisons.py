"""What an expression compares with what, as far as it shows before there are values.

Values of different types are never equal, and have no order: a comparison of them is a mistake that would silently
choose the other branch, or fail when the jobs are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from jinja2 import nodes

from airflow_calib_provider.spec.chains import Chained, chain_of, start_of


class ValueKind(Enum):
    """What a value is, as far as comparing it goes."""

    TEXT = "a text"
    NUMBER = "a number"
    TRUTH = "a truth value"
    LIST = "a list"
    MAPPING = "a mapping"


@dataclass(frozen=True)
class Operand:
    """One side of a comparison.

    :ivar kind: ``None`` where that is not known, or the value is null.
    :ivar of: what the elements of a list are, as far as they are known.
    :ivar path: the variable that it is; its declaration tells the kind.
    """

    kind: ValueKind | None = None
    of: tuple[ValueKind | None, ...] = ()
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Two values that are compared.

    :ivar within: whether the second is asked for the first as one of its elements.
    :ivar offset: of the second in the expression, counted from 0.
    """

    left: Operand
    right: Operand
    within: bool
    offset: int


_UNKNOWN = Operand()
_NUMBERS = ("abs", "count", "float", "int", "length", "round", "sum")
_TEXTS = ("capitalize", "join", "lower", "replace", "string", "title", "tojson", "trim", "upper")
_LISTS = ("dictsort", "items", "list", "map", "reject", "rejectattr", "select", "selectattr", "sort", "unique")
_GIVES = {
    **dict.fromkeys(_NUMBERS, ValueKind.NUMBER),
    **dict.fromkeys(_TEXTS, ValueKind.TEXT),
    **dict.fromkeys(_LISTS, ValueKind.LIST),
}
"""What comes out of a filter, whatever goes in."""

_CALCULATIONS = (nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Pow, nodes.Neg, nodes.Pos)
_TESTS = ("eq", "equalto", "ge", "gt", "in", "le", "lt", "ne")


def comparisons_of(tree: nodes.Node) -> Iterator[Comparison]:
    """All comparisons of an expression."""
    for node in (tree, *tree.find_all((nodes.Compare, nodes.Test))):
        if isinstance(node, nodes.Compare):
            left = operand_of(node.expr)
            for item in node.ops:
                right = operand_of(item.expr)
                yield Comparison(left, right, item.op in ("in", "notin"), start_of(item.expr))
                left = right
        elif isinstance(node, nodes.Test) and node.name in _TESTS and node.args:
            right = operand_of(node.args[0])
            yield Comparison(operand_of(node.node), right, node.name == "in", start_of(node.args[0]))


def operand_of(node: nodes.Node) -> Operand:
    """What is known of a part of an expression."""
    if isinstance(node, nodes.Const):
        return Operand(_kind_of(node.value))
    if isinstance(node, Chained):
        return _chained(node)
    if isinstance(node, nodes.List | nodes.Tuple):
        return Operand(ValueKind.LIST, tuple(operand_of(item).kind for item in node.items))
    if isinstance(node, nodes.Filter):
        return Operand(_GIVES.get(node.name))
    if isinstance(node, nodes.CondExpr) and node.expr2 is not None:
        yes, no = operand_of(node.expr1), operand_of(node.expr2)
        return yes if yes == no else _UNKNOWN
    return Operand(_made(node))


def _made(node: nodes.Node) -> ValueKind | None:
    """What an operator makes."""
    if isinstance(node, nodes.Concat):
        return ValueKind.TEXT
    if isinstance(node, nodes.Compare | nodes.Not | nodes.Test):
        return ValueKind.TRUTH
    if isinstance(node, nodes.Dict):
        return ValueKind.MAPPING
    if isinstance(node, nodes.Mod):
        return ValueKind.TEXT if operand_of(node.left).kind is ValueKind.TEXT else None
    return ValueKind.NUMBER if isinstance(node, _CALCULATIONS) else None


def _chained(node: nodes.Name | nodes.Getattr | nodes.Getitem) -> Operand:
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return operand_of(node.node)  # a part of a text is a text, and of a list a list
    path, others = chain_of(node)
    return Operand(path=path) if path and not others else _UNKNOWN


def _kind_of(value: object) -> ValueKind | None:
    if isinstance(value, bool):
        return ValueKind.TRUTH
    if isinstance(value, int | float):
        return ValueKind.NUMBER
    return ValueKind.TEXT if isinstance(value, str) else None


def kinds_within(value: object) -> tuple[ValueKind | None, tuple[ValueKind | None, ...]]:
    """What a value is, and what its elements are."""
    if isinstance(value, list | tuple):
        return ValueKind.LIST, tuple({_kind_of(item) for item in value})
    return _kind_of(value), ()


def clash(comparison: Comparison) -> str:
    """Why two values are never equal and have no order, in words; empty where they may be.

    :param comparison: with the kinds of its variables filled in.
    """
    left, right = comparison.left, comparison.right
    if left.kind is None or right.kind is None:
        return ""
    if not comparison.within:
        return f"{left.kind.value} is compared with {right.kind.value}" if left.kind is not right.kind else ""
    if right.kind is ValueKind.LIST:
        wrong = [kind for kind in right.of if kind is not None and kind is not left.kind]
        return f"{left.kind.value} is looked for in a list of {wrong[0].value.removeprefix('a ')}s" if wrong else ""
    if right.kind is ValueKind.TEXT and left.kind is not ValueKind.TEXT:
        return f"{left.kind.value} is looked for in a text"
    return (
        f"{left.kind.value} is looked for in {right.kind.value}"
        if right.kind in (ValueKind.NUMBER, ValueKind.TRUTH)
        else ""
    )
