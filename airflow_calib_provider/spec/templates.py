"""Rendering of templates: strict, bounded, and keeping types and arguments apart (rule 32).

Only ``{{ expressions }}`` exist. A template that is nothing but one expression keeps the expression's type; everything
else becomes text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes

from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.spec.sandbox import (
    MAX_ITEMS,
    MAX_TEXT,
    ListInText,
    NullInText,
    TemplateEnvironment,
    as_text,
)

Path = tuple[str, ...]

LIST_HINT = "pass the inputs as a file with one entry per line: {{ job.inputs_file }}"

_FAILURES = (  # whatever an expression may raise
    jinja2.TemplateError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    MemoryError,
)
_MAX_TEMPLATE = 20_000


class TemplateSyntaxError(RenderError):
    """A template that cannot be read.

    :ivar line: in the template, from 1.
    """

    def __init__(self, message: str, hint: str = "", line: int = 1) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, line)
        self.line = line


@dataclass(frozen=True)
class Use:
    """A variable in a template.

    :ivar path: ``("run", "number")`` for ``run.number``.
    :ivar printed: it is printed as it is, not part of a larger expression.
    """

    path: Path
    printed: bool


@dataclass(frozen=True)
class _Compiled:
    uses: tuple[Use, ...]
    expression: Any
    template: jinja2.Template


_ENVIRONMENT = TemplateEnvironment()


def render_value(template: str, variables: Mapping[str, Any]) -> Any:
    """Render a template; one that is a single ``{{ expression }}`` keeps the type of its value.

    :param variables: nested mappings.
    :raises RenderError: unknown variable, null or list inside a text, or an expression that fails or runs away.
    """
    compiled = _compile(template)
    try:
        if compiled.expression is not None:
            value = compiled.expression(**variables)
            if isinstance(value, jinja2.Undefined):
                as_text(value)
            return _plain(value)
        return _bounded(compiled.template, variables)
    except ListInText:
        raise RenderError(f"a list or mapping inside the text {_shown(template)}", LIST_HINT) from None
    except NullInText:
        raise _null(template) from None
    except _FAILURES as error:
        raise RenderError(f"cannot render {_shown(template)}: {error or type(error).__name__}") from error


def render_text(template: str, variables: Mapping[str, Any]) -> str:
    """Render a template to a text, such as one argument of a command.

    :raises RenderError: as for :func:`render_value`, and for values that are no single text.
    """
    value = render_value(template, variables)
    try:
        text = as_text(value)
    except ListInText:
        raise RenderError(f"a list or mapping where one text is needed: {_shown(template)}", LIST_HINT) from None
    except NullInText:
        raise _null(template) from None
    if "\x00" in text:
        raise RenderError(f"a NUL character in the value of {_shown(template)}")
    if len(text) > MAX_TEXT:
        raise RenderError(f"more than {MAX_TEXT:,} characters in the value of {_shown(template)}", LIST_HINT)
    return text


def render_command(command: Sequence[str], variables: Mapping[str, Any]) -> tuple[str, ...]:
    """Render each element to exactly one argument, whatever its value contains.

    :raises RenderError: as for :func:`render_text`.
    """
    return tuple(render_text(element, variables) for element in command)


def variables_of(template: str) -> set[str]:
    """The variables of a template as dotted paths, such as ``run.number``.

    :raises RenderError: the template cannot be read.
    """
    return {".".join(use.path) for use in uses_of(template)}


def uses_of(template: str) -> tuple[Use, ...]:
    """The variables of a template, in its order.

    :raises TemplateSyntaxError: the template cannot be read.
    """
    return _compile(template).uses


def is_template(text: str) -> bool:
    """Whether rendering could change the text."""
    return any(mark in text for mark in ("{{", "{%", "{#"))


def split_command(line: str) -> tuple[str, ...]:
    """Split a command line as a POSIX shell would, before anything is rendered; an expression is never split.

    :raises RenderError: an expression or a quotation that does not end.
    """
    pieces: list[str] = []
    rest = ""
    depth = 0
    for _, token, value in _lex(line):
        if token == "variable_begin":  # noqa: S105 - a token of the lexer
            depth += 1
            pieces.append("")
        if depth:
            pieces[-1] += value
        else:
            rest += value
        if token == "variable_end":  # noqa: S105
            depth -= 1
            rest += f"\ue000{len(pieces) - 1}\ue001"
    if depth:
        raise TemplateSyntaxError("an expression does not end", "close it with }}")
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise TemplateSyntaxError(f"the command cannot be split: {str(error).lower()}") from error
    return tuple(re.sub("\ue000(\\d+)\ue001", lambda match: pieces[int(match[1])], word) for word in words)


def _lex(text: str) -> list[tuple[int, str, str]]:
    if "\ue000" in text or "\ue001" in text:
        raise TemplateSyntaxError("a character of Unicode's private use area")
    try:
        return list(_ENVIRONMENT.lex(text))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateSyntaxError(f"cannot read the template: {error.message}", line=error.lineno) from error


@lru_cache(maxsize=4096)
def _compile(template: str) -> _Compiled:
    if len(template) > _MAX_TEMPLATE:
        raise TemplateSyntaxError(f"a template of more than {_MAX_TEMPLATE:,} characters")
    try:
        tree = _ENVIRONMENT.parse(template)
        _only_expressions(tree)
        outputs = [part for node in tree.body if isinstance(node, nodes.Output) for part in node.nodes]
        expression = None
        if _is_whole_value(template, outputs):
            inner = template[2:-2].removeprefix("-").removeprefix("+").removesuffix("-").removesuffix("+")
            expression = _ENVIRONMENT.compile_expression(inner, undefined_to_none=False)
        return _Compiled(tuple(_uses(outputs)), expression, _ENVIRONMENT.from_string(tree))
    except jinja2.TemplateSyntaxError as error:
        hint = f"filters: {', '.join(sorted(_ENVIRONMENT.filters))}" if "No filter named" in str(error) else ""
        raise TemplateSyntaxError(f"cannot read the template: {error.message}", hint, error.lineno) from error
    except (RecursionError, MemoryError, SyntaxError, ValueError, OverflowError) as error:
        raise TemplateSyntaxError("the template is too complicated") from error


def _is_whole_value(template: str, outputs: Sequence[nodes.Expr]) -> bool:
    is_one_expression = len(outputs) == 1 and not isinstance(outputs[0], nodes.TemplateData)
    return is_one_expression and template.startswith("{{") and template.endswith("}}")


def _only_expressions(tree: nodes.Template) -> None:
    for node in tree.body:
        if not isinstance(node, nodes.Output):
            raise TemplateSyntaxError(
                "a statement {% … %} in a template",
                "only {{ expressions }} are possible, such as {{ 'a' if run.number > 5 else 'b' }}",
                node.lineno,
            )


def _uses(outputs: Sequence[nodes.Expr]) -> Iterator[Use]:
    for output in outputs:
        yield from _uses_in(output, printed=True)


def _uses_in(node: nodes.Node, *, printed: bool = False) -> Iterator[Use]:
    path, inside = _chain(node)
    if path:
        if path[0] not in _ENVIRONMENT.globals:
            # What follows an index, as in runs[0].number, is not known by name: the path ends before it.
            yield Use(path, printed and not inside)
        for child in inside:
            yield from _uses_in(child)
        return
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
        # The method of a value is no part of the variable's name.
        yield from _uses_in(node.node.node)
        for argument in node.iter_child_nodes(exclude=("node",)):
            yield from _uses_in(argument)
        return
    for child in node.iter_child_nodes():
        yield from _uses_in(child)


def _chain(node: nodes.Node) -> tuple[Path, list[nodes.Node]]:
    """The constant path that a chain of names and subscripts starts with, and the other subscripts."""
    parts: list[str | nodes.Node] = []
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        if isinstance(node, nodes.Getattr):
            parts.append(node.attr)
        elif isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            parts.append(node.arg.value)
        else:
            parts.append(node.arg)
        node = node.node
    if not isinstance(node, nodes.Name):
        return (), []
    path: list[str] = [node.name]
    others: list[nodes.Node] = []
    for part in reversed(parts):
        if isinstance(part, nodes.Node):
            others.append(part)
        elif not others:
            path.append(part)
    return tuple(path), others


def _bounded(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    pieces: list[str] = []
    size = 0
    for piece in template.generate(**variables):
        size += len(piece)
        if size > MAX_TEXT:
            raise ValueError(f"more than {MAX_TEXT:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def _plain(value: Any) -> Any:
    """A value without generators: what a filter such as ``select`` gives becomes a list."""
    if isinstance(value, range | Iterator):
        items: list[Any] = []
        for item in value:
            if len(items) >= MAX_ITEMS:
                raise ValueError(f"more than {MAX_ITEMS:,} elements")
            items.append(item)
        return items
    if value is None or isinstance(value, str | int | float | list | tuple | Mapping) or hasattr(value, "isoformat"):
        return value
    raise TypeError(f"the value is {type(value).__name__}, not data")


def _null(template: str) -> RenderError:
    return RenderError(
        f"a null where text is needed: {_shown(template)}",
        "say what to write instead, such as {{ x if x is not none else 0 }}",
    )


def _shown(template: str) -> str:
    return repr(template if len(template) <= 120 else template[:117] + "…")
