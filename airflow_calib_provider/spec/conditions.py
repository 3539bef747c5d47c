"""Conditions on runs in the Common Expression Language, CEL (rule 9).

A condition sees one variable, ``run``, whose parts are the run's fields with the types that their source declares: the
same when it is checked and when a run is injected. A null field is an error unless the condition asks for it with
``has(run.field)``; whole numbers and fractions may be compared with each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from cel_expr_python import cel

from airflow_calib_provider.domain.quantities import parse_time
from airflow_calib_provider.spec.condition_language import FUNCTIONS, environment
from airflow_calib_provider.spec.condition_text import ConditionError, ConditionText
from airflow_calib_provider.spec.condition_tree import MAX_TEXT, check_tree
from airflow_calib_provider.spec.models import FieldType

__all__ = ["NOT_IN_CONDITIONS", "Condition", "ConditionError", "read_condition"]

NOT_IN_CONDITIONS = frozenset({"completed", "files"})
"""Every run that is looked at is completed, and which files it has is no property to select by."""

_ISSUE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*?)(?=\n \||\nERROR: |\s*\[INVALID_ARGUMENT\]|$)", re.DOTALL)
_NO_OVERLOAD = re.compile(r"found no matching overload for '(.*)' applied to '(.*)'", re.DOTALL)
_ORDERED = ("_<_", "_<=_", "_>_", "_>=_")
_OPERAND = re.compile(r"(?:[^,()]|\((?:[^()]|\([^()]*\))*\))+")
_UNDECLARED = re.compile(r"undeclared reference to '(\w+)'")
_NO_VALUE = re.compile(r'No value with name "\w+\.(\w+)"')
_TOO_DEEP = "recursion"
_TOO_MANY = "maximum number of ERROR issues"
_SHOWN = 100

_TYPE_NAMES = {
    "int": "a whole number",
    "uint": "a whole number",
    "double": "a number",
    "number": "a number",
    "string": "a text",
    "bytes": "bytes",
    "bool": "a truth value",
    "list": "a list",
    "google.protobuf.Timestamp": "a time",
    "google.protobuf.Duration": "a duration",
}


def read_condition(text: str, noun: str = "run", reader: type[ConditionText] = ConditionText) -> ConditionText:
    """The words of a text that is a condition as far as that shows without the types of the fields.

    :param reader: knows how fields are mentioned.
    :raises ConditionError: it is no CEL, or has what a condition has not.
    """
    words = reader(text, noun)
    with _reading(words, text):
        environment(()).compile(text, disable_check=True)
    words.uses()
    return words


class Condition:
    """A compiled condition.

    :param text: the CEL expression.
    :param types: of the fields that it may use.
    :param noun: whose fields they are; empty: they are called as they are.
    :param reader: knows how they are mentioned.
    :raises ConditionError: it is no CEL, uses something else than these fields, puts together what does not fit, gives
        something else than true or false, or may be too much work.

    :ivar fields: the names of the fields that it mentions.
    """

    def __init__(
        self,
        text: str,
        types: Mapping[str, FieldType],
        noun: str = "run",
        reader: type[ConditionText] = ConditionText,
    ) -> None:
        self.text = text
        self._noun = noun
        words = read_condition(text, noun, reader)
        uses = words.uses()
        self.fields = frozenset(use.name for use in uses)
        self._asked = frozenset(use.name for use in uses if use.asked)
        self._read = frozenset(use.name for use in uses if not use.asked)
        self._types = {name: kind for name, kind in types.items() if name not in NOT_IN_CONDITIONS}
        known = environment(tuple(sorted(self._types.items())), noun)
        readable = words.for_runtime(uses)
        with _reading(words, readable):
            self._program = known.compile(readable)
        result = self._program.return_type().name().lower()
        if result != "bool":
            kind = _TYPE_NAMES.get(result, _TYPE_NAMES.get(f"google.protobuf.{result.title()}", result))
            raise ConditionError(
                f"the condition {_shown(text)} gives {kind}, not true or false", "compare it with something"
            )
        with _reading(words, readable):
            check_tree(self._program, known, words)

    def evaluate(self, fields: Mapping[str, object]) -> bool:
        """Whether a run meets the condition.

        :param fields: the run's fields by name; absent and ``None`` are both null.
        :raises ConditionError: a null field without ``has(…)``, a value that is not of its field's type, or one that
            the condition cannot calculate with.
        """
        values: dict[str, object] = {f"has.{name}": fields.get(name) is not None for name in self._asked}
        for name in self._read:
            value = fields.get(name)
            if value is not None:
                values[f"{self._noun}.{name}" if self._noun else name] = _typed(name, value, self._types[name])
            elif name not in self._asked:
                raise _null_field(name, self._noun)
        try:
            result = self._program.eval(data=values)
        except Exception as error:
            # A value that the runtime does not take at all, such as a number beyond 64 bits.
            raise ConditionError(f"the condition {_shown(self.text)} fails: {str(error)[:200]}") from error
        if result.type() != cel.Type.ERROR:
            return bool(result.value())
        said = str(result.value())
        if missing := _NO_VALUE.search(said):
            raise _null_field(missing[1], self._noun)
        raise ConditionError(f"the condition {_shown(self.text)} fails: {said.partition(': ')[2] or said}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def _typed(name: str, value: object, kind: FieldType) -> object:
    """A value as the runtime takes it for this type.

    :raises ConditionError: it is of another type, as after a change of ``sources.yaml``.
    """
    try:
        if kind is FieldType.TIME and isinstance(value, str):
            return parse_time(value)
        if kind is FieldType.FLOAT and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError) as error:
        raise ConditionError(f"the field {name!r} cannot be used: {error}", field=name) from error
    expected = _PYTHON_TYPES[kind]
    if not isinstance(value, expected) or (isinstance(value, bool) and kind is not FieldType.BOOL):
        raise ConditionError(f"the field {name!r} is {value!r:.60}, and its source says {kind.value}", field=name)
    if isinstance(value, str) and len(value) > MAX_TEXT:
        said = f"the field {name!r} has {len(value):,} characters, of which a condition looks at {MAX_TEXT:,}"
        raise ConditionError(said, "shorten it in the source", field=name)
    return value


_PYTHON_TYPES: dict[FieldType, type[object]] = {
    FieldType.INT: int,
    FieldType.FLOAT: float,
    FieldType.STRING: str,
    FieldType.BOOL: bool,
    FieldType.TIME: datetime,
}


def _null_field(name: str, noun: str) -> ConditionError:
    return ConditionError(f"the field {name!r} is null", f"ask first: has({noun}.{name}) && …", field=name)


@contextmanager
def _reading(words: ConditionText, text: str) -> Iterator[None]:
    """Whatever the runtime raises about a text is an error of that text.

    :param text: what the runtime reads: as long as the condition, so that its places are the condition's.
    """
    try:
        yield
    except ConditionError:
        raise
    except Exception as error:
        raise _translated(str(error), words, text) from error


def _translated(said: str, words: ConditionText, text: str) -> ConditionError:
    if _TOO_DEEP in said:
        return words.too_deep()
    # What follows from another mistake names the type *error*.
    issues = [issue for issue in _ISSUE.findall(said) if "*error*" not in issue[2]]
    if not issues:
        return ConditionError(f"the condition cannot be read: {' '.join(said.split())[:200]}")
    # One syntax error makes others, which are none; of very many the runtime tells those that come first.
    issues = [issue for issue in issues if not issue[2].startswith(_TOO_MANY)] or issues
    told = issues[:1] if issues[0][2].startswith("Syntax error") else issues
    first, *others = [_issue(line, column, message, words, text) for line, column, message in told]
    first.others = tuple(others)
    return first


def _issue(line: str, column: str, message: str, words: ConditionText, text: str) -> ConditionError:
    """One mistake that the runtime tells of."""
    offset = sum(len(part) + 1 for part in text.split("\n")[: int(line) - 1]) + max(int(column), 1) - 1
    if message.startswith("Syntax error"):
        return words.error(f"the condition cannot be read{words.near(offset)}", offset, words.spelling_hint())
    if fit := _NO_OVERLOAD.match(message):
        return _does_not_fit(fit[1], fit[2], offset, words)
    if "'_[_]'" in message:
        return words.error("a condition takes no elements out of lists", offset, "write in […], or run.field")
    message = re.sub(r" \(in container ''\)", "", message).partition("\n")[0]
    if (called := _UNDECLARED.match(message)) and called[1] in FUNCTIONS:
        # Its name is known, but not with so many operands, or not behind a dot.
        return words.error(f"{called[1]}(…) is not called like this", offset, "the reference has its forms")
    return words.error(f"the condition cannot be read: {message}", offset)


def _does_not_fit(operation: str, applied: str, offset: int, words: ConditionText) -> ConditionError:
    kinds = [kind.strip() for kind in _OPERAND.findall(applied.removeprefix("(").removesuffix(")"))]
    named = " and ".join(_kind(kind) for kind in kinds)
    if operation == "_+_" and kinds[0].startswith(("string", "bytes", "list(")):
        return words.error("texts and lists cannot be added in a condition", offset, "compare them one by one")
    hint = f"convert with {words.conversions}"
    if operation in _ORDERED and kinds[0] == "bool" != kinds[-1]:
        hint = "two limits are written 0 < run.field && run.field < 10"
    return words.error(f"the condition {_shown(words.text)} puts together what does not fit: {named}", offset, hint)


def _kind(kind: str) -> str:
    outer, _, inner = kind.partition("(")
    if outer == "list" and (named := _TYPE_NAMES.get(inner.removesuffix(")"))):
        return f"a list of {named.removeprefix('a ')}s"
    return _TYPE_NAMES.get(outer, outer)
