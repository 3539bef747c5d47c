"""The filters and tests of templates: a closed list, each bounded by the size of what it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import jinja2
from jinja2 import nodes

from airflow_calib_provider.spec.values import MAX_TEXT, TooLarge, as_text, described

FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "join", "last",
    "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "select",
    "selectattr", "sort", "string", "sum", "title", "tojson", "trim", "unique", "upper",
)  # fmt: skip
"""The filters of templates: those of Jinja2 that cannot build large values out of small ones, or are bounded below."""

TESTS = (
    "boolean", "defined", "divisibleby", "eq", "equalto", "even", "false", "float", "ge", "gt", "in", "integer", "le",
    "lt", "mapping", "ne", "none", "number", "odd", "sequence", "string", "true", "undefined",
)  # fmt: skip
"""What may stand behind ``is``, and what ``select`` and its like may ask."""

_CONVERSIONS = ("float", "int")
_TEXT_ONLY = ("capitalize", "lower", "title", "trim", "upper")


class FilterEnvironment(jinja2.Environment):
    """Jinja2's filters and tests, cut down. The parts of a mapping are its keys only, and nothing else has parts."""

    def __init__(self) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, autoescape=False, cache_size=0, keep_trailing_newline=True)
        self.globals = {}
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.tests = {name: self.tests[name] for name in TESTS}
        self.filters.update({name: _of_text(self.filters[name]) for name in _TEXT_ONLY})
        own = {"join": _join, "map": _map, "replace": _replace, "round": _round, "string": as_text, "sum": _sum}
        self.filters.update(own)
        self.filters.update({name: _converted(self.filters[name]) for name in _CONVERSIONS})
        self._context = self.from_string("").new_context()

    def getitem(self, obj: object, argument: object) -> object:
        """What ``x[y]`` is: an element, never an attribute."""
        return self.part(obj, argument)

    def getattr(self, obj: object, attribute: str) -> object:
        """What ``x.y`` is: an element, never an attribute."""
        return self.part(obj, attribute)

    def part(self, value: object, key: object) -> object:
        """An element of a mapping, list or text; undefined where there is none."""
        if isinstance(value, jinja2.Undefined):
            return value[key]  # raises the error that names the variable
        try:
            if isinstance(value, Mapping):
                return value[key]
            if isinstance(value, list | tuple | str) and isinstance(key, int) and not isinstance(key, bool):
                return value[key]
        except LookupError:
            pass
        return self.undefined(obj=value, name=key if isinstance(key, str) else repr(key)[:60])

    def filtered(self, name: str, value: object, args: list[object], kwargs: dict[str, object]) -> object:
        """The value of a filter; what it makes one by one is left to be collected."""
        return self.call_filter(name, value, args, kwargs, context=self._context, eval_ctx=nodes.EvalContext(self))

    def tested(self, name: str, value: object, args: list[object], kwargs: dict[str, object]) -> bool:
        """The answer of a test."""
        return bool(self.call_test(name, value, args, kwargs, context=self._context))


def _of_text(function: Callable[..., object]) -> Callable[..., str]:
    """A filter of one text; of a list or mapping it would make Python's notation."""
    return lambda value, *args: str(function(as_text(value), *args))


def _converted(function: Callable[..., object]) -> Callable[..., object]:
    """A filter that makes a number; of what is none it would make 0, unless a default is stated."""
    missing = object()

    def convert(value: object, *args: object, **stated: object) -> object:
        if args or "default" in stated:
            return function(value, *args, **stated)
        found = function(value, default=missing, **stated)
        if found is missing:
            raise ValueError(f"{described(value)} that is no number: {value!r:.60}")
        return found

    return convert


def _join(values: Iterable[object], d: str = "", attribute: str | None = None) -> str:
    texts = [as_text(value if attribute is None else _part(value, attribute)) for value in values]
    if sum(len(text) for text in texts) + len(d) * len(texts) > MAX_TEXT:
        raise TooLarge(f"a text of more than {MAX_TEXT:,} characters")
    return d.join(texts)


def _map(values: Iterable[object], attribute: str) -> list[object]:
    """One field of each element; unlike Jinja2's own, nothing but that."""
    return [_part(value, attribute) for value in values]


def _part(value: object, attribute: str) -> object:
    if not isinstance(value, Mapping) or attribute not in value:
        raise LookupError(f"an element has no {attribute!r}")
    return value[attribute]


def _replace(value: object, old: str, new: str) -> str:
    text = as_text(value)
    if not isinstance(old, str) or not isinstance(new, str):
        raise TypeError("replace takes two texts")
    if len(text) + text.count(old) * len(new) > MAX_TEXT:
        raise TooLarge(f"a text of more than {MAX_TEXT:,} characters")
    return text.replace(old, new)


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    digits = max(-20, min(precision, 20))
    if method == "common":
        return round(float(value), digits)
    if method not in ("ceil", "floor"):
        raise ValueError("round takes the methods common, ceil and floor")
    scale = 10.0**digits
    return float((math.ceil if method == "ceil" else math.floor)(float(value) * scale) / scale)


def _sum(values: Iterable[object], attribute: str | None = None, start: float = 0) -> float:
    total = start
    for value in values:
        item = value if attribute is None else _part(value, attribute)
        if not isinstance(item, int | float) or not isinstance(total, int | float):
            raise TypeError(f"sum of {described(item)}")
        total += item
    return total
