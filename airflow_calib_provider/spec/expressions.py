"""The expressions of templates: read by Jinja's parser, checked against a list of what may stand there, and bounded.

What is not on the list is refused when the file is loaded, with its place and with what to write instead: no calls, no
repetition of texts or lists, no statements. No expression becomes Python code. What one can cost follows from its
length and from the size of the values that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jinja2 import TemplateSyntaxError, nodes
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser

from airflow_calib_provider.spec.chains import chain_of, start_of
from airflow_calib_provider.spec.comparisons import Comparison, comparisons_of
from airflow_calib_provider.spec.filters import FILTERS, TESTS, FilterEnvironment
from airflow_calib_provider.spec.operations import BINARY, COMPARE, UNARY, Evaluation, Refused, check_format
from airflow_calib_provider.spec.values import ListInText, NullInText, TooLarge, as_text, checked, described, joined

MAX_DEPTH = 60
"""Levels of an expression, brackets and operators."""

LISTED = f"filters: {', '.join(FILTERS)}"
_CALLS = {
    "capitalize": "x | capitalize", "center": "'%-10s' % x", "endswith": "x[-3:] == 'abc'", "find": "'abc' in x",
    "format": "'%06d' % x", "get": "x['key']", "isoformat": "x, which is ISO 8601 already", "items": "x | items",
    "join": "x | join(', ')", "keys": "x | list", "ljust": "'%-10s' % x", "lower": "x | lower", "lstrip": "x | trim",
    "range": "split.count, and job.index in the command", "replace": "x | replace('a', 'b')", "rjust": "'%10s' % x",
    "rstrip": "x | trim", "startswith": "x[:3] == 'abc'", "strftime": "x[:10], the date of a time",
    "strip": "x | trim", "title": "x | title", "upper": "x | upper", "zfill": "'%06d' % x",
}  # fmt: skip


Evaluate: TypeAlias = Callable[[Evaluation], object]


@dataclass(frozen=True)
class Variable:
    """A variable as it stands in an expression.

    :ivar path: ``("run", "number")`` for ``run.number``.
    :ivar printed: it is the whole expression.
    :ivar offset: where, counted from 0.
    """

    path: tuple[str, ...]
    printed: bool
    offset: int


@dataclass(frozen=True)
class Expression:
    """An expression that was read.

    :ivar evaluate: gives its value.
    :ivar variables: in its order.
    :ivar comparisons: of its parts.
    """

    evaluate: Evaluate
    variables: tuple[Variable, ...]
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class _Part:
    evaluate: Evaluate
    constant: bool = False


ENVIRONMENT = FilterEnvironment()


def tokens_of(text: str) -> Iterator[tuple[int, str, str]]:
    """The tokens of an expression with their offsets, up to and including its end ``}}``, as far as there is one.

    :raises Refused: what stands there is no token.
    """
    # Of the same length, so that offsets stay those of the text.
    source = text.replace("\r\n", " \n").replace("\r", "\n")
    offset = 0
    try:
        for _, kind, value in ENVIRONMENT.lexer.tokeniter(source, None, state="variable"):
            yield offset, kind, value
            offset += len(value)
            if kind == "variable_end":
                return
    except TemplateSyntaxError as error:
        message = re.sub(r" at \d+$", "", error.message or "")
        raise Refused(f"cannot read the template: {message}", offset=offset) from error


def read_expression(text: str, tokens: Sequence[tuple[int, str, str]]) -> Expression:
    """Read what stands between ``{{`` and ``}}``.

    :raises Refused: it cannot be read, or holds what must not stand there.
    """
    end = tokens[-1][0] if tokens else len(text)
    try:
        _check_brackets(tokens)
        tree = _parse([token for token in tokens if token[1] != "variable_end"], end)
        return _Reader().read(tree)
    except Refused:
        raise
    except TemplateSyntaxError as error:
        raise Refused(f"cannot read the template: {error.message}", offset=min(error.lineno, end)) from error
    except RecursionError as error:
        raise Refused("an expression that is nested too deeply", "split it, or let the job work it out") from error
    except Exception as error:  # what the parser raises is the mistake of this expression
        raise Refused(f"cannot read the template: {str(error)[:200] or type(error).__name__}") from error


def _check_brackets(tokens: Sequence[tuple[int, str, str]]) -> None:
    depth = 0
    for offset, kind, value in tokens:
        if kind == "operator":
            depth += (value in "([{") - (value in ")]}")
            if depth > MAX_DEPTH:
                raise Refused(f"brackets of more than {MAX_DEPTH} levels", "split the expression", offset)


def _parse(tokens: Sequence[tuple[int, str, str]], end: int) -> nodes.Expr:
    """The tree of an expression, whose nodes have their offset where Jinja has the line."""
    parser = Parser(ENVIRONMENT, "")
    parser.stream = TokenStream(_wrapped(tokens, end), None, None)
    tree = parser.parse_tuple(with_condexpr=True)
    if parser.stream.current.type != "eof":
        found = parser.stream.current
        said = f"cannot read the template: expected token 'end of print statement', got {found.value!r}"
        raise Refused(said, offset=found.lineno)
    if not isinstance(tree, nodes.Expr):  # pragma: no cover - the parser promises one
        raise Refused("cannot read the template")
    return tree


def _wrapped(tokens: Sequence[tuple[int, str, str]], end: int) -> Iterator[Token]:
    yield from ENVIRONMENT.lexer.wrap(tokens, None, None)
    yield Token(end, "eof", "")


class _Reader:
    """Checks a tree, and makes functions of it; what has no variables is evaluated at once."""

    def __init__(self) -> None:
        self.variables: list[Variable] = []

    def read(self, tree: nodes.Expr) -> Expression:
        path, rest = chain_of(tree)
        whole = tree if path and not rest else None
        part = self.part(tree, 0, whole)
        return Expression(part.evaluate, tuple(self.variables), tuple(comparisons_of(tree)))

    def part(self, node: nodes.Node, depth: int, whole: nodes.Node | None = None) -> _Part:
        if depth > MAX_DEPTH:
            raise Refused(f"an expression of more than {MAX_DEPTH} levels", "split it", node.lineno)
        if isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem):
            return self._chained(node, depth, node is whole)
        if isinstance(node, nodes.Const):
            return self._constant(node)
        if isinstance(node, nodes.BinExpr | nodes.UnaryExpr):
            return self._operation(node, depth)
        make = _MAKERS.get(type(node))
        if make is None:
            raise _unknown(node)
        return make(self, node, depth)

    def fold(self, node: nodes.Node, parts: Sequence[_Part], evaluate: Evaluate) -> _Part:
        """A part made of others: its value where they are constant."""
        if not all(part.constant for part in parts):
            return _Part(evaluate)
        try:
            value = evaluate(Evaluation({}))
        except Exception as error:
            raise Refused(told(error), offset=node.lineno) from error
        return _Part(lambda evaluation: value, constant=True)

    def _constant(self, node: nodes.Const) -> _Part:
        try:
            value = checked(node.value)
        except TooLarge as error:
            raise Refused(told(error), "write a number that a computer can hold", node.lineno) from error
        return _Part(lambda evaluation: value, constant=True)

    # variables and their parts

    def _chained(self, node: nodes.Expr, depth: int, printed: bool) -> _Part:
        path, _ = chain_of(node)
        if path:
            self.variables.append(Variable(path, printed, start_of(node)))
        return self._steps(node, depth)

    def _steps(self, node: nodes.Expr, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise Refused(f"an expression of more than {MAX_DEPTH} levels", "split it", node.lineno)
        if isinstance(node, nodes.Name):
            name = node.name
            return _Part(
                lambda evaluation: (
                    evaluation.variables[name] if name in evaluation.variables else ENVIRONMENT.undefined(name=name)
                )
            )
        if isinstance(node, nodes.Getattr):
            return self._step(node, self._steps(node.node, depth + 1), _Part(_always(node.attr), constant=True))
        if isinstance(node, nodes.Getitem):
            owner = self._steps(node.node, depth + 1)
            if isinstance(node.arg, nodes.Slice):
                return self._slice(node, owner, node.arg, depth)
            return self._step(node, owner, self.part(node.arg, depth + 1))
        return self.part(node, depth + 1)

    def _step(self, node: nodes.Node, owner: _Part, key: _Part) -> _Part:
        of, name = owner.evaluate, key.evaluate
        return self.fold(node, (owner, key), lambda evaluation: ENVIRONMENT.part(of(evaluation), name(evaluation)))

    def _slice(self, node: nodes.Node, owner: _Part, given: nodes.Slice, depth: int) -> _Part:
        limits = [
            _Part(_always(None), constant=True) if limit is None else self.part(limit, depth + 1)
            for limit in (given.start, given.stop, given.step)
        ]

        def evaluate(evaluation: Evaluation) -> object:
            value = owner.evaluate(evaluation)
            if not isinstance(value, str | list | tuple):
                raise TypeError(f"a part of {described(value)} is no list")
            start, stop, step = [_limit(limit.evaluate(evaluation)) for limit in limits]
            found = value[start:stop:step]
            evaluation.charge(len(found))
            return found

        return self.fold(node, (owner, *limits), evaluate)

    # operators

    def _operation(self, node: nodes.BinExpr | nodes.UnaryExpr, depth: int) -> _Part:
        if isinstance(node, nodes.UnaryExpr):
            inner = self.part(node.node, depth + 1)
            one = UNARY[type(node)]
            return self.fold(node, (inner,), lambda evaluation: one(inner.evaluate(evaluation)))
        left, right = self.part(node.left, depth + 1), self.part(node.right, depth + 1)
        first, second = left.evaluate, right.evaluate
        if isinstance(node, nodes.And):
            return self.fold(node, (left, right), lambda evaluation: first(evaluation) and second(evaluation))
        if isinstance(node, nodes.Or):
            return self.fold(node, (left, right), lambda evaluation: first(evaluation) or second(evaluation))
        _check_operands(node)
        two = BINARY[type(node)]
        return self.fold(
            node, (left, right), lambda evaluation: checked(two(evaluation, first(evaluation), second(evaluation)))
        )

    def concat(self, node: nodes.Node, depth: int) -> _Part:
        assert isinstance(node, nodes.Concat)
        parts = [self.part(item, depth + 1) for item in node.nodes]
        return self.fold(node, parts, lambda evaluation: joined([as_text(part.evaluate(evaluation)) for part in parts]))

    def compare(self, node: nodes.Node, depth: int) -> _Part:
        assert isinstance(node, nodes.Compare)
        first = self.part(node.expr, depth + 1)
        others = [(COMPARE[item.op], self.part(item.expr, depth + 1)) for item in node.ops]

        def evaluate(evaluation: Evaluation) -> object:
            left = first.evaluate(evaluation)
            for holds, part in others:
                right = part.evaluate(evaluation)
                evaluation.spend(left)
                evaluation.spend(right)
                if not holds(left, right):
                    return False
                left = right
            return True

        return self.fold(node, (first, *(part for _, part in others)), evaluate)

    def condition(self, node: nodes.Node, depth: int) -> _Part:
        assert isinstance(node, nodes.CondExpr)
        if node.expr2 is None:
            raise Refused("an if without else", "{{ a if condition else b }}", node.lineno)
        test, yes, no = (self.part(item, depth + 1) for item in (node.test, node.expr1, node.expr2))
        return self.fold(
            node, (test, yes, no), lambda evaluation: (yes if test.evaluate(evaluation) else no).evaluate(evaluation)
        )

    # lists and mappings

    def listed(self, node: nodes.Node, depth: int) -> _Part:
        assert isinstance(node, nodes.List | nodes.Tuple)
        parts = [self.part(item, depth + 1) for item in node.items]
        return self.fold(node, parts, lambda evaluation: [part.evaluate(evaluation) for part in parts])

    def mapping(self, node: nodes.Node, depth: int) -> _Part:
        assert isinstance(node, nodes.Dict)
        pairs = [(self.part(pair.key, depth + 1), self.part(pair.value, depth + 1)) for pair in node.items]
        return self.fold(
            node,
            [part for pair in pairs for part in pair],
            lambda evaluation: {key.evaluate(evaluation): value.evaluate(evaluation) for key, value in pairs},
        )

    # filters and tests

    def filter(self, node: nodes.Node, depth: int) -> _Part:
        assert isinstance(node, nodes.Filter)
        name = node.name
        if name not in FILTERS or node.node is None:
            raise Refused(f"cannot read the template: No filter named {name!r}.", LISTED, node.lineno)
        value, args, kwargs = self._arguments(node, depth)

        def evaluate(evaluation: Evaluation) -> object:
            given = value.evaluate(evaluation)
            evaluation.spend(given, 20 if name in ("sort", "dictsort", "unique") else 1)
            listed = [part.evaluate(evaluation) for part in args]
            named = {key: part.evaluate(evaluation) for key, part in kwargs.items()}
            made = ENVIRONMENT.filtered(name, given, listed, named)
            found = checked(str(made) if isinstance(made, str) else list(made) if isinstance(made, Iterator) else made)
            evaluation.spend(found)
            return found

        return self.fold(node, (value, *args, *kwargs.values()), evaluate)

    def test(self, node: nodes.Node, depth: int) -> _Part:
        assert isinstance(node, nodes.Test)
        name = node.name
        if name not in TESTS:
            raise Refused(
                f"cannot read the template: No test named {name!r}.", f"tests: {', '.join(TESTS)}", node.lineno
            )
        value, args, kwargs = self._arguments(node, depth)

        def evaluate(evaluation: Evaluation) -> object:
            given = value.evaluate(evaluation)
            listed = [part.evaluate(evaluation) for part in args]
            evaluation.spend(given)
            evaluation.spend(listed)
            return ENVIRONMENT.tested(
                name, given, listed, {key: part.evaluate(evaluation) for key, part in kwargs.items()}
            )

        return self.fold(node, (value, *args, *kwargs.values()), evaluate)

    def _arguments(self, node: nodes.Filter | nodes.Test, depth: int) -> tuple[_Part, list[_Part], dict[str, _Part]]:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise Refused("arguments with a star", "write them out", node.lineno)
        assert node.node is not None
        value = self.part(node.node, depth + 1)
        args = [self.part(item, depth + 1) for item in node.args]
        kwargs = {str(item.key): self.part(item.value, depth + 1) for item in node.kwargs}
        return value, args, kwargs

    def call(self, node: nodes.Node, depth: int) -> _Part:
        """No call is possible: what is said is what to write instead."""
        assert isinstance(node, nodes.Call)
        called = node.node
        name = (
            called.attr if isinstance(called, nodes.Getattr) else called.name if isinstance(called, nodes.Name) else ""
        )
        instead = f"write {_CALLS[name]}" if name in _CALLS else f"there are no calls; {LISTED}"
        raise Refused(f"a call of {name}()" if name else "a call", instead, start_of(node))


_MAKERS: dict[type[nodes.Node], Callable[[_Reader, nodes.Node, int], _Part]] = {
    nodes.Call: _Reader.call,
    nodes.Compare: _Reader.compare,
    nodes.Concat: _Reader.concat,
    nodes.CondExpr: _Reader.condition,
    nodes.Dict: _Reader.mapping,
    nodes.Filter: _Reader.filter,
    nodes.List: _Reader.listed,
    nodes.Test: _Reader.test,
    nodes.Tuple: _Reader.listed,
}


def told(error: Exception) -> str:
    """What went wrong in an evaluation, in one sentence."""
    if isinstance(error, ListInText):
        return "a list or mapping inside a text"
    if isinstance(error, NullInText):
        return "a null where text is needed"
    return str(error)[:300] or type(error).__name__


def _unknown(node: nodes.Node) -> Refused:
    return Refused(f"{type(node).__name__} cannot stand in a template", LISTED, node.lineno)


def _limit(value: object) -> int | None:
    if value is None or isinstance(value, int):
        return value
    raise TypeError(f"a part of a list cannot begin or end at {described(value)}")


def _always(value: object) -> Evaluate:
    return lambda evaluation: value


def _check_operands(node: nodes.BinExpr) -> None:
    """What can be told before there are values."""
    if isinstance(node, nodes.Mul):
        for side in (node.left, node.right):
            if _is_text(side) or isinstance(side, nodes.List | nodes.Tuple):
                raise Refused("a text or list times a number", "write it out, or let the job repeat it", side.lineno)
    if isinstance(node, nodes.Mod) and isinstance(node.left, nodes.Const) and isinstance(node.left.value, str):
        check_format(node.left.value, node.left.lineno)


def _is_text(node: nodes.Node) -> bool:
    return (isinstance(node, nodes.Const) and isinstance(node.value, str)) or isinstance(node, nodes.Concat)
