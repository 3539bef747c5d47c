"""Rendering of templates: strict, bounded, and keeping types and arguments apart (rule 32).

Only ``{{ expressions }}`` exist (:mod:`~airflow_calib_provider.spec.expressions` says what may stand in them). All
other text is plain, ``{#`` included. A template that is nothing but one expression keeps the expression's type;
everything else becomes text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import Undefined

from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.spec.comparisons import Comparison
from airflow_calib_provider.spec.expressions import Expression, read_expression, tokens_of, told
from airflow_calib_provider.spec.operations import Evaluation, Refused
from airflow_calib_provider.spec.values import (
    MAX_ITEMS,
    ListInText,
    NullInText,
    as_text,
    described,
    joined,
    no_text,
    weight,
)

Path = tuple[str, ...]

LIST_HINT = "pass the inputs as a file with one entry per line: {{ job.inputs_file }}"

_MAX_TEMPLATE = 20_000
_STATEMENT = re.compile(
    r"\{%[-+]?\s*(?:autoescape|block|call|do|elif|else|end[a-z]+|extends|filter|for|from|if|import|include|macro|raw|set|"
    r"trans|with)\b[^%]*%\}"
)
"""What was meant as a statement of Jinja2. Any other ``{%``, such as that of ``date +{%Y}``, is plain text."""


class TemplateSyntaxError(RenderError):
    """A template that cannot be read, or holds what must not stand there.

    :ivar expression: the part of the template that is wrong, as it is written there.
    :ivar offset: where in that part, counted from 0.
    """

    def __init__(self, message: str, hint: str = "", expression: str = "", offset: int = 0) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, expression, offset)
        self.expression = expression
        self.offset = offset


@dataclass(frozen=True)
class Use:
    """A variable in a template.

    :ivar path: ``("run", "number")`` for ``run.number``.
    :ivar printed: it is printed as it is, not part of a larger expression.
    :ivar expression: in which it stands, with its braces.
    :ivar offset: where in that, counted from 0.
    """

    path: Path
    printed: bool
    expression: str
    offset: int


@dataclass(frozen=True)
class TemplateComparison:
    """Two values that a template compares.

    :ivar expression: in which that stands, with its braces.
    :ivar offset: where the second stands in that, counted from 0.
    """

    comparison: Comparison
    expression: str
    offset: int


@dataclass(frozen=True)
class _Braced:
    """One ``{{ … }}`` of a template.

    :ivar source: as it is written.
    :ivar start: how many characters its opening has.
    """

    source: str
    start: int
    tokens: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True)
class _Compiled:
    parts: tuple[str | Expression, ...]
    uses: tuple[Use, ...]
    problems: tuple[TemplateSyntaxError, ...]
    compared: tuple[TemplateComparison, ...]


def render_value(template: str, variables: Mapping[str, object]) -> object:
    """Render a template; one that is a single ``{{ expression }}`` keeps the type of its value.

    :param variables: nested mappings.
    :raises RenderError: unknown variable, null or list inside a text, or an expression that fails or runs away.
    """
    if not is_template(template):
        return template
    compiled = _compile(template)
    if compiled.problems:
        # A new one each time: what was compiled is kept, and a raised exception collects where it has been.
        raise TemplateSyntaxError(*compiled.problems[0].args)
    evaluation = Evaluation(variables)
    try:
        if len(compiled.parts) == 1 and isinstance(compiled.parts[0], Expression):
            return _plain(compiled.parts[0].evaluate(evaluation))
        return joined(
            [part if isinstance(part, str) else as_text(part.evaluate(evaluation)) for part in compiled.parts]
        )
    except ListInText:
        raise RenderError(f"a list or mapping inside the text {_shown(template)}", LIST_HINT) from None
    except NullInText:
        raise _null(template) from None
    except Exception as error:  # whatever an expression raises is a mistake of its template
        raise RenderError(f"cannot render {_shown(template)}: {told(error)}") from error


def render_text(template: str, variables: Mapping[str, object]) -> str:
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
    if odd := no_text(text):
        raise RenderError(f"{odd} in the value of {_shown(template)}")
    return text


def render_command(command: Sequence[str], variables: Mapping[str, object]) -> tuple[str, ...]:
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
    compiled = _compile(template)
    if compiled.problems:
        raise TemplateSyntaxError(*compiled.problems[0].args)
    return compiled.uses


def problems_of(template: str) -> tuple[TemplateSyntaxError, ...]:
    """Everything in a template that cannot be read or must not stand there, in its order."""
    return _compile(template).problems


def readable_uses_of(template: str) -> tuple[Use, ...]:
    """As :func:`uses_of`, of those expressions that can be read."""
    return _compile(template).uses


def compared_in(template: str) -> tuple[TemplateComparison, ...]:
    """What is compared in those expressions that can be read."""
    return _compile(template).compared


def is_template(text: str) -> bool:
    """Whether rendering could change the text, or refuse it."""
    return "{{" in text or ("{%" in text and _STATEMENT.search(text) is not None)


def split_command(line: str) -> tuple[str, ...]:
    """Split a command line as a POSIX shell would, before anything is rendered; an expression is never split.

    :raises RenderError: an expression or a quotation that does not end.
    """
    if "\ue000" in line or "\ue001" in line:
        raise TemplateSyntaxError("a character of Unicode's private use area")
    pieces: list[str] = []
    rest = ""
    for part in _parts(line):
        if isinstance(part, str):
            rest += part
        else:
            rest += f"\ue000{len(pieces)}\ue001"
            pieces.append(part.source)
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise TemplateSyntaxError(f"the command cannot be split: {str(error).lower()}") from error
    return tuple(re.sub("\ue000(\\d+)\ue001", lambda match: pieces[int(match[1])], word) for word in words)


def _parts(text: str) -> Iterator[str | _Braced]:
    """Plain text and expressions, in turn; ``{{-`` and ``-}}`` take the white space beside them away.

    :raises TemplateSyntaxError: an expression that does not end, or holds what is no token.
    """
    if "{{" in text and len(text) > _MAX_TEMPLATE:
        raise TemplateSyntaxError(f"a template of more than {_MAX_TEMPLATE:,} characters")
    position = 0
    while (start := text.find("{{", position)) >= 0:
        opening = 3 if text[start + 2 : start + 3] in ("-", "+") else 2
        plain = text[position:start]
        yield plain.rstrip() if text[start + 2 : start + 3] == "-" else plain
        try:
            tokens = tuple(tokens_of(text[start + opening :]))
        except Refused as refused:
            raise TemplateSyntaxError(
                refused.message, refused.hint, text[start:], opening + refused.offset
            ) from refused
        if not tokens or tokens[-1][1] != "variable_end":
            raise TemplateSyntaxError("an expression does not end", "close it with }}", text[start:])
        offset, _, closing = tokens[-1]
        end = start + opening + offset
        yield _Braced(text[start : end + len(closing.rstrip())], opening, tokens)
        position = end + len(closing)
    yield text[position:]


@lru_cache(maxsize=4096)
def _compile(template: str) -> _Compiled:
    parts: list[str | Expression] = []
    uses: list[Use] = []
    problems: list[TemplateSyntaxError] = []
    compared: list[TemplateComparison] = []
    try:
        for part in _parts(template):
            if isinstance(part, str):
                statement = _STATEMENT.search(part)
                if statement:
                    problems.append(_statement(statement[0]))
                if part:
                    parts.append(part)
                continue
            try:
                expression = read_expression(part.source, part.tokens)
            except Refused as refused:
                where = part.start + refused.offset
                problems.append(TemplateSyntaxError(refused.message, refused.hint, part.source, where))
                continue
            parts.append(expression)
            uses += [
                Use(item.path, item.printed, part.source, part.start + item.offset) for item in expression.variables
            ]
            compared += [
                TemplateComparison(item, part.source, part.start + item.offset) for item in expression.comparisons
            ]
    except TemplateSyntaxError as error:
        problems.append(error)
    return _Compiled(tuple(parts), tuple(uses), tuple(problems), tuple(compared))


def _statement(text: str) -> TemplateSyntaxError:
    return TemplateSyntaxError(
        "a statement {% … %} in a template",
        "only {{ expressions }} are possible, such as {{ 'a' if run.number > 5 else 'b' }}",
        text,
    )


def _plain(value: object) -> object:
    """A value that is data, and not too much of it."""
    if isinstance(value, Undefined):
        as_text(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple | Mapping):
        weight(value, MAX_ITEMS)
        return value
    if hasattr(value, "isoformat"):
        return value
    raise TypeError(f"the value is {described(value)}")


def _null(template: str) -> RenderError:
    return RenderError(
        f"a null where text is needed: {_shown(template)}",
        "say what to write instead, such as {{ x if x is not none else 0 }}",
    )


def _shown(template: str) -> str:
    return repr(template if len(template) <= 120 else template[:117] + "…")
