"""Conditions on runs in the Common Expression Language, CEL (rule 9).

A condition sees one variable, ``run``, whose parts are the run's fields. A null field is an error unless the condition
asks for it with ``has(run.field)``; whole numbers and fractions may be compared with each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import celpy
import lark
from celpy import celtypes
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError, base_functions

from airflow_calib_provider.domain.quantities import parse_time
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.spec.models import FieldType

MAX_LENGTH = 5_000
FIELDS_OF_RUNS = {"start", "end"}
"""Times even where they come as text."""

_BINDING_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map", "map_filter", "min", "reduce"})
_TYPES = frozenset({"int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"})
_WRAPPERS = frozenset({"expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication", "unary"})


class ConditionError(CalibError):
    """A condition that cannot be read, or that a run gives no answer to.

    :ivar field: the null field, where that is the reason.
    :ivar line: in the text, from 1; 0 is unknown.
    :ivar column: in the text, from 1; 0 is unknown.
    """

    def __init__(self, message: str, hint: str = "", *, field: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(message, hint)
        self.field = field
        self.line = line
        self.column = column

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.message, self.hint, self.field, self.line, self.column)


def _rebuild(message: str, hint: str, field: str, line: int, column: int) -> ConditionError:
    return ConditionError(message, hint, field=field, line=line, column=column)


@dataclass(frozen=True)
class FieldUse:
    """A field in the text of a condition; line and column count from 1."""

    name: str
    line: int
    column: int


class Condition:
    """A compiled condition.

    :param text: the CEL expression.
    :raises ConditionError: it is no CEL, or uses something else than fields of ``run``.

    :ivar uses: every mention of a field, in the order of the text.
    :ivar fields: the names of the fields.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise ConditionError(f"a condition of more than {MAX_LENGTH:,} characters")
        self.text = text
        tree = self._parse(text)
        found = _Fields(tree)
        self.uses = tuple(found.uses)
        self.fields = frozenset(use.name for use in found.uses)
        self._asked = frozenset(found.asked)
        self._program = _ENVIRONMENT.program(_shorter(tree), functions=_COMPARISONS)

    @staticmethod
    def _parse(text: str) -> lark.Tree[Any]:
        try:
            return _ENVIRONMENT.compile(text)
        except CELParseError as error:
            line, column = error.line or 0, error.column or 0
            if line < 0 or column < 0:
                # The parser's way of saying that the text ended too early.
                line, column = 1, len(text) + 1 if "\n" not in text else 0
            raise ConditionError(
                f"the condition cannot be read{_near(text, line, column)}", _syntax_hint(text), line=line, column=column
            ) from error
        except RecursionError as error:
            raise ConditionError("the condition is nested too deeply") from error

    def evaluate(self, fields: Mapping[str, object]) -> bool:
        """Whether a run meets the condition.

        :param fields: the run's fields by name; absent and ``None`` are both null.
        :raises ConditionError: a null field without ``has(…)``, values that the operators are not made for, or a
            result that is neither true nor false.
        """
        values = {}
        for name in self.fields:
            value = fields.get(name)
            if value is None:
                if name not in self._asked:
                    raise _null_field(name)
            else:
                values[celtypes.StringType(name)] = self._value(name, value)
        try:
            result = self._program.evaluate({"run": celtypes.MapType(values)})
        except CELEvalError as error:
            raise self._failure(error, fields) from error
        except (RecursionError, ValueError, TypeError, ArithmeticError, LookupError) as error:
            raise ConditionError(f"the condition {self.text!r} fails: {error}") from error
        if not isinstance(result, celtypes.BoolType | bool):
            raise ConditionError(
                f"the condition {self.text!r} gives {_type_name(result)}, not true or false",
                "compare it with something",
            )
        return bool(result)

    @staticmethod
    def _value(name: str, value: object) -> Any:
        try:
            return _to_cel(name, value)
        except ValueError as error:
            raise ConditionError(f"the field {name!r} cannot be used: {error}", field=name) from error

    def check(self, types: Mapping[str, FieldType]) -> None:
        """Evaluate the condition with sample values of the fields' types.

        :raises ConditionError: the operators are not made for these types, or the result is neither true nor false.
        """
        samples = {name: _SAMPLES.get(types[name], "a") for name in self.fields if name in types}
        samples.update(dict.fromkeys(FIELDS_OF_RUNS & samples.keys(), _SAMPLES[FieldType.TIME]))
        if "files" in samples:
            samples["files"] = ["a"]
        try:
            self.evaluate(samples)
        except ConditionError as error:
            cause = error.__cause__
            # A sample that does not look like a number or a time says nothing about real values.
            if cause is None or _root(cause) is TypeError:
                raise

    def _failure(self, error: CELEvalError, fields: Mapping[str, object]) -> ConditionError:
        if _root(error) is KeyError:
            for use in self.uses:
                if fields.get(use.name) is None and f"'{use.name}'" in str(error):
                    return _null_field(use.name)
        line, column = error.line or 0, error.column or 0
        if _root(error) is TypeError:
            operands = re.findall(r"celtypes\.(\w+?)Type|(NoneType)", str(error.args[0]))
            kinds = " and ".join(_TYPE_NAMES.get(a or b, a or b) for a, b in operands)
            message = f"the condition {self.text!r} puts together what does not fit" + (f": {kinds}" if kinds else "")
            return ConditionError(
                message, "convert with int(…), double(…), string(…) or timestamp(…)", line=line, column=column
            )
        reason = error.args[0] if error.args else error
        return ConditionError(f"the condition {self.text!r} fails: {reason}", line=line, column=column)


_TYPE_NAMES = {
    "Int": "a whole number",
    "Uint": "a whole number",
    "Double": "a number",
    "String": "a text",
    "Bool": "a truth value",
    "List": "a list",
    "Map": "a mapping",
    "Timestamp": "a time",
    "Duration": "a duration",
    "NoneType": "null",
}
_SAMPLES: dict[FieldType, object] = {
    FieldType.INT: 1,
    FieldType.FLOAT: 1.0,
    FieldType.STRING: "a",
    FieldType.BOOL: True,
    FieldType.TIME: parse_time("2026-01-01T00:00:00"),
}


def _type_name(value: object) -> str:
    return _TYPE_NAMES.get(type(value).__name__.removesuffix("Type"), "null" if value is None else type(value).__name__)


def _null_field(name: str) -> ConditionError:
    return ConditionError(f"the field {name!r} is null", f"ask first: has(run.{name}) && …", field=name)


def _root(error: BaseException) -> type[BaseException] | None:
    """The Python error that made a CEL error, which is not always chained but always named in the arguments."""
    for argument in getattr(error, "args", ()):
        if isinstance(argument, type) and issubclass(argument, BaseException):
            return argument
    return type(error)


def _to_cel(name: str, value: object) -> Any:
    if isinstance(value, bool):
        return celtypes.BoolType(value)
    if isinstance(value, int):
        return celtypes.IntType(value)
    if isinstance(value, float):
        return celtypes.DoubleType(value)
    if isinstance(value, datetime):
        return celtypes.TimestampType(value)
    if isinstance(value, str):
        return celtypes.TimestampType(parse_time(value)) if name in FIELDS_OF_RUNS else celtypes.StringType(value)
    if isinstance(value, list | tuple):
        return celtypes.ListType([_to_cel("", item) for item in value])
    raise ConditionError(f"the field {name!r} is {type(value).__name__}, which a condition cannot use", field=name)


def _near(text: str, line: int, column: int) -> str:
    lines = text.split("\n")
    rest = lines[line - 1][column - 1 :] if 0 < line <= len(lines) and column > 0 else ""
    return f" at {rest[:20]!r}" if rest.strip() else ": it ends too early" if line and not rest else ""


def _syntax_hint(text: str) -> str:
    without_texts = re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)
    for pattern, hint in (
        (r"\band\b", "write && for and"),
        (r"\bor\b", "write || for or"),
        (r"\bnot\b", "write ! for not"),
        (r"(?<![=<>!])=(?!=)", "write == to compare"),
    ):
        if re.search(pattern, without_texts):
            return hint
    return ""


class _Fields:
    """Finds the fields that an expression uses, and whatever else it should not use."""

    def __init__(self, tree: lark.Tree[Any]) -> None:
        self.uses: list[FieldUse] = []
        self.asked: set[str] = set()
        self._walk(tree, frozenset())

    def _walk(self, tree: Any, bound: frozenset[str]) -> None:
        if not isinstance(tree, lark.Tree):
            return
        kind = tree.data
        if kind in ("member_dot", "member_index") and _is_run(tree.children[0]):
            self._field(tree, bound)
            return
        if kind == "ident_arg":
            self._function(tree.children[0])
            if tree.children[0] == "has":
                self._has(tree)
        elif kind == "member_dot_arg":
            self._method(tree, bound)
            return
        elif kind == "ident":
            self._identifier(tree.children[0], bound)
        for child in tree.children:
            self._walk(child, bound)

    def _field(self, tree: lark.Tree[Any], bound: frozenset[str]) -> None:
        part = tree.children[1]
        if isinstance(part, lark.Token):
            self.uses.append(FieldUse(str(part), part.line or 0, part.column or 0))
            return
        name = _text_literal(part)
        if name is None:
            raise ConditionError(
                "run[…] with something else than a text",
                "write run.field",
                line=tree.meta.line,
                column=tree.meta.column,
            )
        self.uses.append(FieldUse(name, part.meta.line, part.meta.column))

    def _has(self, tree: lark.Tree[Any]) -> None:
        inner = _unwrap(tree.children[1].children[0]) if len(tree.children) > 1 else None
        if inner is None or inner.data != "member_dot" or not _is_run(inner.children[0]):
            raise ConditionError(
                "has(…) with something else than a field", "write has(run.field)",
                line=tree.meta.line, column=tree.meta.column,
            )  # fmt: skip
        self.asked.add(str(inner.children[1]))

    def _method(self, tree: lark.Tree[Any], bound: frozenset[str]) -> None:
        owner, name, *arguments = tree.children
        self._walk(owner, bound)
        if name in _BINDING_MACROS and arguments and len(arguments[0].children) > 1:
            variable = _unwrap(arguments[0].children[0])
            names = {str(token) for token in variable.scan_values(lambda _: True)} if variable else set()
            for part in arguments[0].children[1:]:
                self._walk(part, bound | names)
            return
        self._function(name)
        for argument in arguments:
            self._walk(argument, bound)

    @staticmethod
    def _function(name: Any) -> None:
        if name not in base_functions and name not in {"has", "dyn"}:
            from airflow_calib_provider.spec.problems import nearest

            known = [function for function in base_functions if re.fullmatch(r"[a-zA-Z]+", function)]
            raise ConditionError(
                f"no function is called {str(name)!r}", nearest(str(name), [*known, "has"]),
                line=name.line, column=name.column,
            )  # fmt: skip

    @staticmethod
    def _identifier(name: Any, bound: frozenset[str]) -> None:
        if name == "run":
            raise ConditionError("'run' without a field", "write run.field", line=name.line, column=name.column)
        if name not in bound and name not in _TYPES:
            raise ConditionError(
                f"unknown name {str(name)!r}", f"a field is written run.{name}", line=name.line, column=name.column
            )


def _unwrap(tree: Any) -> Any:
    """The first node below a chain of nodes with one child each that says something."""
    while isinstance(tree, lark.Tree) and len(tree.children) == 1 and (
        tree.data in _WRAPPERS or tree.data in ("member", "primary", "paren_expr", "exprlist")
    ):  # fmt: skip
        tree = tree.children[0]
    return tree


def _is_run(tree: Any) -> bool:
    inner = _unwrap(tree)
    return isinstance(inner, lark.Tree) and inner.data == "ident" and inner.children[0] == "run"


def _text_literal(tree: Any) -> str | None:
    inner = _unwrap(tree)
    if (
        isinstance(inner, lark.Tree)
        and inner.data == "literal"
        and getattr(inner.children[0], "type", "") == "STRING_LIT"
    ):
        return str(inner.children[0])[1:-1]
    return None


def _shorter(tree: lark.Tree[Any]) -> lark.Tree[Any]:
    """The tree without nodes that only pass on their one child's value: evaluation takes a fraction of the time."""

    def shorten(node: Any) -> Any:
        if not isinstance(node, lark.Tree):
            return node
        while node.data in _WRAPPERS and len(node.children) == 1:
            node = node.children[0]
        node.children = [shorten(child) for child in node.children]
        return node

    result = shorten(tree)
    if not isinstance(result, lark.Tree):
        raise AssertionError("a wrapper holds a tree")
    return result


def _mixed(compare: Callable[[Any, Any], Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """A comparison that also takes a whole number and a fraction, as CEL does and celpy does not."""

    def function(left: Any, right: Any) -> Any:
        kinds = {type(left), type(right)}
        if kinds == {celtypes.IntType, celtypes.DoubleType}:
            a = float(left) if isinstance(left, celtypes.DoubleType) else int(left)
            b = float(right) if isinstance(right, celtypes.DoubleType) else int(right)
            return celtypes.BoolType(compare(a, b))
        return otherwise(left, right)

    return function


def _comparisons() -> Iterator[tuple[str, Callable[..., Any]]]:
    import operator

    for symbol, compare in (
        ("<", operator.lt), ("<=", operator.le), (">", operator.gt),
        (">=", operator.ge), ("==", operator.eq), ("!=", operator.ne),
    ):  # fmt: skip
        yield f"_{symbol}_", _mixed(compare, base_functions[f"_{symbol}_"])


_COMPARISONS = dict(_comparisons())
_ENVIRONMENT = celpy.Environment(runner_class=celpy.InterpretedRunner)
