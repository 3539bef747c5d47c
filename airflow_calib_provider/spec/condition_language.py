"""What a condition may say: the operators and functions, each for the types that it makes sense for (rule 9).

The runtime's own library is not used as it is. It knows no comparison of a whole number with a fraction once types are
declared, takes what makes no sense, and has operations whose results grow (texts and lists that are added, lists made
from lists), which would leave the work of one evaluation unbounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from cel_expr_python import cel

from airflow_calib_provider.spec.models import FieldType

MACROS = ("all", "exists", "exists_one")
NUMBER = "number"
"""Of a choice between a whole number and a fraction: it may be compared, and calculated with after a conversion."""

_NUMBERS = ("int", "double", NUMBER)
_TIMES = ("timestamp", "duration")
_LOGIC = ("_&&_", "_||_", "!_", "@not_strictly_false")
_PARTS_OF_TIMES = (
    "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
)  # fmt: skip
_PARTS_OF_DURATIONS = ("getHours", "getMinutes", "getSeconds", "getMilliseconds")
_CONVERSIONS = {
    "int": (*_NUMBERS, "string", "timestamp"),
    "double": (*_NUMBERS, "string"),
    "string": (*_NUMBERS, "string", "bool", *_TIMES),
    "bool": ("bool", "string"),
    "timestamp": ("timestamp", "string", "int"),
    "duration": ("duration", "string"),
}
_TYPES = {
    FieldType.INT: cel.Type.INT,
    FieldType.FLOAT: cel.Type.DOUBLE,
    FieldType.STRING: cel.Type.STRING,
    FieldType.BOOL: cel.Type.BOOL,
    FieldType.TIME: cel.Type.TIMESTAMP,
}


@lru_cache(maxsize=64)
def environment(types: tuple[tuple[str, FieldType], ...], noun: str = "run") -> cel.Env:
    """The one environment in which the conditions on a source's fields are checked and evaluated.

    :param noun: whose fields they are; empty: they are called as they are, and the condition is on a group.

    Beside every ``run.<field>`` it has the truth value ``has.<field>``, which stands for ``has(run.<field>)``.
    """
    if not noun:
        of_groups = {name: _TYPES[kind] for name, kind in types}
        return cel.NewEnv(config=cel.NewEnvConfigFromYaml(_OF_GROUPS), variables=of_groups)
    variables = {f"{noun}.{name}": _TYPES[kind] for name, kind in types}
    variables.update({f"has.{name}": cel.Type.BOOL for name, _ in types})
    return cel.NewEnv(config=cel.NewEnvConfigFromYaml(_CONFIGURATION), variables=variables)


@dataclass(frozen=True)
class _Form:
    """One declared form of an operator or function; of a method the first type is that of what stands before it."""

    name: str
    takes: tuple[str, ...]
    gives: str
    method: bool = False

    def as_yaml(self) -> Mapping[str, object]:
        types = [_type(name) for name in self.takes]
        target = {"target": types.pop(0)} if self.method else {}
        name = f"{self.name} of {', '.join(self.takes)}{' as a method' if self.method else ''}"
        return {"id": name, **target, "args": types, "return": _type(self.gives)}


def _type(name: str) -> Mapping[str, object]:
    outer, _, inner = name.partition(" of ")
    return {"type_name": outer, "params": [_type(inner)]} if inner else {"type_name": outer}


def _comparisons() -> Iterator[_Form]:
    alike = [*product(_NUMBERS, _NUMBERS), *((kind, kind) for kind in ("string", *_TIMES))]
    for name in ("_<_", "_<=_", "_>_", "_>=_"):
        yield from (_Form(name, pair, "bool") for pair in alike)
    for name in ("_==_", "_!=_"):
        yield from (_Form(name, pair, "bool") for pair in [*alike, ("bool", "bool")])
    yield from (_Form("@in", (item, f"list of {of}"), "bool") for item, of in [*alike, ("bool", "bool")])


def _arithmetic() -> Iterator[_Form]:
    for name, kind in [*product(("_+_", "_-_", "_*_", "_/_"), ("int", "double")), ("_%_", "int")]:
        yield _Form(name, (kind, kind), kind)
    for name, kind in product(("_+_", "_-_"), _TIMES):
        yield _Form(name, (kind, "duration"), kind)
    yield _Form("_+_", ("duration", "timestamp"), "timestamp")
    yield _Form("_-_", ("timestamp", "timestamp"), "duration")
    yield from (_Form("-_", (kind,), kind) for kind in ("int", "double"))
    for kind in ("bool", "string", *_TIMES):
        yield _Form("_?_:_", ("bool", kind, kind), kind)
    for first, second in product(_NUMBERS, _NUMBERS):
        yield _Form("_?_:_", ("bool", first, second), first if first == second else NUMBER)


def _functions() -> Iterator[_Form]:
    for name, kinds in _CONVERSIONS.items():
        yield from (_Form(name, (kind,), name) for kind in kinds)
    yield _Form("size", ("string",), "int")
    yield _Form("size", ("string",), "int", method=True)
    for name in ("contains", "startsWith", "endsWith", "matches"):
        yield _Form(name, ("string", "string"), "bool", method=True)
    yield _Form("matches", ("string", "string"), "bool")
    for name in (*_PARTS_OF_TIMES, *_PARTS_OF_DURATIONS):
        yield _Form(name, ("timestamp",), "int", method=True)
    for name in _PARTS_OF_DURATIONS:
        yield _Form(name, ("duration",), "int", method=True)


def _numeric() -> Iterator[_Form]:
    """What conditions on groups calculate with: numbers, by what has a result whatever they are."""
    overflowing = ("_+_", "_-_", "_*_", "_/_", "_%_")
    yield from (one for one in _comparisons() if {*one.takes} <= {*_NUMBERS, "list of int", "list of double", "bool"})
    for one in _arithmetic():
        if {*one.takes} <= {*_NUMBERS, "bool"} and not (one.name in overflowing and one.takes[0] == "int"):
            yield one
    yield _Form("double", ("int",), "double")


def _configuration(forms: Iterable[_Form]) -> str:
    overloads: dict[str, list[Mapping[str, object]]] = {}
    for form in forms:
        overloads.setdefault(form.name, []).append(form.as_yaml())
    declared = [{"name": name, "overloads": listed} for name, listed in overloads.items()]
    library = {"include_macros": MACROS, "include_functions": [{"name": name} for name in _LOGIC]}
    # JSON is YAML too.
    return json.dumps({"stdlib": library, "functions": declared})


FUNCTIONS = frozenset(form.name for form in _functions())
_CONFIGURATION = _configuration((*_comparisons(), *_arithmetic(), *_functions()))
_OF_GROUPS = _configuration(_numeric())
