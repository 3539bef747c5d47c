"""The Jinja2 environment of templates: expressions only, nothing that runs away, nothing that reaches out.

Templates come from files that people commit, not from enemies; still one careless expression must not take a scheduler
down, so whatever could build a huge value is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEXT = 200_000
"""Characters of a rendered text and of every text on the way."""
MAX_ITEMS = 1_000_000
MAX_RANGE = 10_000
MAX_WIDTH = 1_000

FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "join", "last",
    "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "select",
    "selectattr", "sort", "string", "sum", "title", "tojson", "trim", "unique", "upper",
)  # fmt: skip
"""The filters of templates: those of Jinja2 that cannot build large values out of small ones, or are bounded below."""
_METHODS = frozenset({
    "capitalize", "endswith", "find", "format", "isdigit", "isoformat", "join", "ljust", "lower", "lstrip",
    "removeprefix", "removesuffix", "replace", "rjust", "rsplit", "rstrip", "split", "startswith", "strftime", "strip",
    "title", "upper", "zfill",
})  # fmt: skip
_WIDTHS = frozenset({"zfill", "ljust", "rjust"})
_WIDE_FORMAT = re.compile(r"\d{4,}|\{[^{}]*\{|%[^a-zA-Z%]*\*")


class ListInText(Exception):
    """A list or mapping where only a text can stand (rule 32)."""


class NullInText(Exception):
    """A null where a text is needed."""


def as_text(value: Any) -> str:
    """A single value as it appears inside a text: truth values as in YAML, times in ISO 8601.

    :raises ListInText: it is a list or a mapping.
    :raises NullInText: it is null.
    """
    if isinstance(value, Undefined):
        # Printing a strict undefined raises the error that names the variable.
        return str(value)
    if value is None:
        raise NullInText
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int | float):
        return str(value)
    raise ListInText


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Strict and bounded. The parts of a mapping are its keys only, so that a field may be called ``items``."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=False, finalize=as_text, cache_size=0)
        self.globals = {"range": _range}
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.filters.update({"replace": _replace, "round": _round, "map": _map})

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr in _METHODS or (not callable(value) and super().is_safe_attribute(obj, attr, value))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_size(_length(left) * right if isinstance(right, int) else 0)
            _check_size(_length(right) * left if isinstance(left, int) else 0)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_size(left.bit_length() * abs(right))
        elif operator == "+":
            _check_size(_length(left) + _length(right))
        elif operator == "%" and isinstance(left, str):
            _check_format(left)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # The odd names are Jinja2's: keyword arguments of a template must not meet those of this method.
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if name in _WIDTHS and any(isinstance(arg, int) and arg > MAX_WIDTH for arg in args):
            raise SecurityError(f"a width of more than {MAX_WIDTH}")
        if name == "replace" and isinstance(owner, str) and len(args) > 1:
            _check_replace(owner, *args[:2])
        if name == "join" and isinstance(owner, str) and args and isinstance(args[0], list | tuple):
            _check_size(sum(len(owner) + _length(part) for part in args[0]))
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        owner = getattr(value, "__self__", None)
        if isinstance(owner, str) and getattr(value, "__name__", "") in ("format", "format_map"):
            _check_format(owner)
        return super().wrap_str_format(value)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | bytes) else 0


def _check_size(size: int) -> None:
    if size > MAX_TEXT:
        raise SecurityError(f"a value of more than {MAX_TEXT:,} characters or elements")


def _check_format(text: str) -> None:
    if _WIDE_FORMAT.search(text):
        raise SecurityError("a format with a very large or variable width")


def _check_replace(text: str, old: Any, new: Any) -> None:
    if isinstance(old, str) and isinstance(new, str):
        _check_size(len(text) + text.count(old) * len(new))


def _range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > MAX_RANGE:
        raise SecurityError(f"a range of more than {MAX_RANGE:,}")
    return numbers


def _replace(text: Any, old: str, new: str) -> str:
    plain = as_text(text)
    _check_replace(plain, old, new)
    return plain.replace(old, new)


def _round(value: float, precision: int = 0) -> float:
    return round(float(value), min(precision, 20))


def _map(values: Any, attribute: str) -> list[Any]:
    """One field of each element; unlike Jinja2's own, nothing but that."""
    return [_part(value, attribute) for value in values]


def _part(value: Any, attribute: str) -> Any:
    if not isinstance(value, Mapping) or attribute not in value:
        raise LookupError(f"an element has no {attribute!r}")
    return value[attribute]
