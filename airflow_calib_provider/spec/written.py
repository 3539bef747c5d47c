"""Reading nodes by the models of their keys.

Everything that is wrong is reported with its place, in the words of the declarations, and what could be read is there
all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from airflow_calib_provider.domain.keys import (
    BLOCKS,
    Either,
    Keys,
    NotEmpty,
    Reading,
    Where,
    Words,
    blocks_of,
    data_of,
    is_unreadable,
    keys_of,
    parts_of,
    type_of,
    unreadable,
    words_of,
)
from airflow_calib_provider.domain.nodes import Entry, Mapping, Node, Scalar, Sequence
from airflow_calib_provider.domain.scalars import ABOVE, MISSING, WHAT, one_of, unlike
from airflow_calib_provider.spec.problems import Problems, nearest

K = TypeVar("K", bound=Keys)

_MOST_READINGS = 12
"""How often a mapping is read without what was wrong the time before; what is left then is not looked at."""


@dataclass
class Read(Generic[K]):
    """A mapping as read.

    :ivar keys: ``None`` where it is none. What could not be read is left out, at first also where it must be there.
    :ivar node: without what could not be read.
    :ivar wrong: where that was.
    """

    keys: K | None
    node: Node
    wrong: list[Where] = field(default_factory=list)
    _around_wrong: frozenset[Where] | None = None

    def is_wrong(self, *where: str | int) -> bool:
        """Whether anything at or below a place could not be read."""
        if self._around_wrong is None:
            above = (place[:length] for place in self.wrong for length in range(len(place) + 1))
            self._around_wrong = frozenset(above)
        return where in self._around_wrong

    def find(self, *where: str | int) -> Node | None:
        """The value at a place, if there is one."""
        node: Node | None = self.node
        for step in where:
            node = _below(node, step) if node is not None else None
        return node

    def at(self, *where: str | int) -> Node:
        """The value at a place; as far as it is there."""
        node = self.node
        for step in where:
            node = _below(node, step) or node
        return node

    def key_at(self, *where: str | int) -> Scalar:
        """The key of the value at a place."""
        above = self.at(*where[:-1])
        assert isinstance(above, Mapping)
        return above.entries[str(where[-1])].key


def read_keys(model: type[K], node: Node, name: str, problems: Problems) -> Read[K]:
    """Read a mapping, and report everything that is wrong.

    :param name: what messages call it.
    """
    reading = Reading()
    try:
        keys = model.model_validate(data_of(node), context=reading)
    except ValidationError as error:
        return _readable(model, node, name, error, problems)
    if reading.crossed:
        _report_crossed(keys, _Finder(model, name, node), problems)
    return Read(keys, node)


def _readable(model: type[K], node: Node, name: str, error: ValidationError, problems: Problems) -> Read[K]:
    """Report what is wrong, and read the rest."""
    finder = _Finder(model, name, node)
    # Of what is missing and what is unknown in one place, the latter says more.
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
    told = [finder.told(detail) for detail in details]
    result: Read[K] = Read(None, node, [item.where for item in told])
    for _ in range(_MOST_READINGS):
        result.node = _without(result.node, details, finder)
        finder = _Finder(model, name, result.node)
        reading = Reading(lenient=True)
        try:
            result.keys = model.model_validate(data_of(result.node), context=reading)
        except ValidationError as again:
            details = again.errors(include_url=False)
            continue
        if reading.crossed:
            _report_crossed(result.keys, finder, problems)
        break
    for item in sorted(told, key=lambda item: (item.node.position.line, item.node.position.column)):
        _report(item, problems)
    return result


def report(read: Read[Any], where: Where, error: PydanticCustomError, problems: Problems) -> None:
    """Report a mistake at a place of what was read; it names the value itself."""
    context = error.context or {}
    node = read.key_at(*where) if context["at_key"] else read.at(*where)
    problems.add(context["said"], node, expected=context["expected"], hint=partial(_hint, context))


def _hint(context: dict[str, Any]) -> str:
    near = nearest(context["word"], context["options"]) if context["word"] else ""
    hint = context["hint"]
    return near or str(hint() if callable(hint) else hint)


@dataclass(frozen=True)
class Told:
    """What is to be said, and where."""

    message: str
    node: Node
    expected: str = ""
    hint: str | Callable[[], str] = ""
    find: str = ""
    where: Where = ()


@dataclass(frozen=True)
class _Spot:
    """A place of a file, and what its declaration says.

    :ivar kind: the type that is declared there, :ivar words: with its words.
    :ivar called: what it is called, :ivar above: and what holds it.
    :ivar absent: why there is no such key here, though others have it.
    :ivar where: keys and positions, without what only pydantic needs.
    """

    node: Node
    kind: Any
    words: Words
    called: str
    above: str = ""
    holder: Node | None = None
    key: Scalar | None = None
    known: tuple[str, ...] = ()
    absent: str = ""
    where: Where = ()
    in_blocks: bool = False


def _mapping_words(spot: _Spot) -> str:
    """A mapping, with the keys that it must have, or in its forms."""
    kind, more = parts_of(spot.kind)
    required = kind.required if isinstance(kind, type) and issubclass(kind, Keys) else ()
    is_value = isinstance(spot.node, Scalar) and spot.where
    forms = next((item.expected for item in more if isinstance(item, NotEmpty)), None)
    if isinstance(forms, str) and forms.startswith("{") and is_value:
        return forms
    return (
        f"a mapping such as {{{', '.join(f'{key}: …' for key in required)}}}" if required and is_value else "a mapping"
    )


class _Finder:
    """Finds the places of pydantic's errors, and words for them."""

    def __init__(self, model: type[Keys], name: str, root: Node) -> None:
        self.spots: dict[Where, _Spot] = {(): _Spot(root, model, Words(), name)}

    def place(self, loc: Where) -> _Spot:
        """The place of an error."""
        spot = self.spots.get(loc)
        if spot is None:
            spot = self.spots[loc] = self._below(self.place(loc[:-1]), loc[-1])
        return spot

    def _below(self, spot: _Spot, step: str | int) -> _Spot:
        if step == "[key]":
            return replace(spot, node=spot.key or spot.node, called=spot.words.key.format(above=spot.above))
        kind, more = parts_of(spot.kind)
        shapes = next((item.shapes for item in more if isinstance(item, Either)), None)
        if shapes is not None:
            return replace(spot, kind=shapes[str(step)])
        if isinstance(kind, type) and issubclass(kind, Keys):
            return self._key(spot, kind, str(step))
        words, below = spot.words, _below(spot.node, step)
        form = words.item if isinstance(step, int) else words.entry
        inner = get_args(kind)[-1 if get_origin(kind) is dict else 0] if get_args(kind) else Any
        own = next((item for item in parts_of(inner)[1] if isinstance(item, Words)), Words())
        called = form.format(above=spot.called, key=step)
        return self._entered(spot, step, below, inner, replace(own, key=words.key), called)

    def _key(self, spot: _Spot, kind: type[Keys], step: str) -> _Spot:
        blocks = blocks_of(kind)
        if step == BLOCKS and blocks is not None:
            return replace(spot, in_blocks=True)
        below = _below(spot.node, step)
        if spot.in_blocks and blocks is not None:
            name = words_of(kind.declared[BLOCKS]).entry.format(above=spot.called, key=step)
            return self._entered(replace(spot, in_blocks=False), step, below, blocks.keys(step), Words(), name)
        declared: FieldInfo | None = kind.declared.get(step)
        if declared is None:
            name = kind.extra_called.format(above=spot.called, key=step)
            unknown = self._entered(spot, step, below, Any, Words(), name)
            return replace(unknown, known=keys_of(kind), absent=kind.absent.get(step, ""))
        words = words_of(declared)
        name = (words.name or kind.called).format(above=spot.called, key=step)
        return self._entered(spot, step, below, type_of(declared), words, name)

    @staticmethod
    def _entered(spot: _Spot, step: str | int, below: Node | None, kind: Any, words: Words, called: str) -> _Spot:
        entries = spot.node.entries if isinstance(spot.node, Mapping) else {}
        key = entries[str(step)].key if str(step) in entries else None
        node = below if below is not None else spot.node
        return _Spot(node, kind, words, called, spot.called, spot.node, key, (), "", (*spot.where, step))

    def told(self, detail: ErrorDetails) -> Told:
        """Words for an error."""
        spot = self.place(detail["loc"])
        said, context = detail["type"], detail.get("ctx", {})
        if detail["input"] is MISSING:
            missing = f"the key {spot.where[-1]!r} is missing in {spot.above}"
            return Told(missing, spot.holder or spot.node, spot.words.missing, where=spot.where)
        if said == "extra_forbidden":
            key = str(spot.where[-1])
            unknown = f"unknown key {key!r} in {spot.above}"
            near = spot.absent or partial(nearest, key, spot.known)
            return Told(unknown, spot.key or spot.node, one_of(spot.known), near, where=spot.where)
        if said in ("dict_type", "model_type"):
            return self._told(spot, unlike(detail["input"], _mapping_words(spot)).context or {})
        if said == "tuple_type":
            advice = ""
            if isinstance(detail["input"], Scalar):
                advice = "put it into brackets: [ … ]"
            elif isinstance(spot.node, Mapping):
                advice = "put it into brackets: [ … ], or a - before it"
            return self._told(spot, unlike(detail["input"], "a list", advice).context or {})
        if said != "mistake":
            expected = detail["msg"].removeprefix("Input should be ")
            return self._told(spot, unlike(spot.node, expected).context or {})
        return self._told(spot, context)

    @staticmethod
    def _told(spot: _Spot, context: dict[str, Any]) -> Told:
        node = spot.key if context["at_key"] and spot.key is not None else spot.node
        said = context["said"].replace(WHAT, spot.called, 1).replace(ABOVE, spot.above, 1)
        return Told(said, node, context["expected"], partial(_hint, context), context["find"], spot.where)

    def crossed(self, where: Where, error: PydanticCustomError) -> Told:
        """Words for a mistake of keys together."""
        return self._told(self.place(where), error.context or {})


def _below(node: Node, step: str | int) -> Node | None:
    if isinstance(node, Mapping) and step in node.entries:
        return node.entries[str(step)].value
    if isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
        return node.items[step]
    return None


def _report(told: Told, problems: Problems) -> None:
    where = problems.find(told.node, told.find) if told.find and isinstance(told.node, Scalar) else told.node
    problems.add(told.message, where, expected=told.expected, hint=told.hint)


def _report_crossed(keys: Keys, finder: _Finder, problems: Problems) -> None:
    for loc, error in _crossed(keys, ()):
        _report(finder.crossed(loc, error), problems)


def _crossed(value: object, loc: Where) -> Iterator[tuple[Where, PydanticCustomError]]:
    if isinstance(value, Keys):
        for where, error in value.crossed():
            yield (*loc, *where), error
        for name, declared in type(value).model_fields.items():
            below, key = getattr(value, name), declared.alias or name
            either = any(isinstance(item, Either) for item in declared.metadata)
            yield from _crossed(below, (*loc, key, "mapping") if either and isinstance(below, Keys) else (*loc, key))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _crossed(item, (*loc, key))
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _crossed(item, (*loc, number))


# Leaving out what is wrong: keys of a model are marked as unreadable, everything else is removed.

Doomed = dict[str | int, "Doomed | None"]


def _without(node: Node, details: list[ErrorDetails], finder: _Finder) -> Node:
    doomed: Doomed = {}
    for detail in details:
        if detail["input"] is MISSING:
            continue
        level = doomed
        where = finder.place(detail["loc"]).where
        if detail["type"] == "missing":
            # A key that pydantic itself requires, and that could not be read: there is no mapping without it.
            where = where[:-1]
        for step in where[:-1]:
            deeper = level.setdefault(step, {})
            if deeper is None:
                break
            level = deeper
        else:
            if where:
                level[where[-1]] = None
    return _pruned(node, doomed)


def _pruned(node: Node, doomed: Doomed) -> Node:
    if isinstance(node, Mapping):
        entries = {}
        for name, entry in node.entries.items():
            if name not in doomed:
                entries[name] = entry
                continue
            below = doomed[name]
            if below is not None:
                entries[name] = Entry(entry.key, _pruned(entry.value, below))
            elif not is_unreadable(entry.value):
                entries[name] = Entry(entry.key, unreadable(entry.value))
        return replace(node, entries=entries)
    if isinstance(node, Sequence):
        items = [
            item if number not in doomed else _pruned(item, below)
            for number, item in enumerate(node.items)
            if (below := doomed.get(number, {})) is not None
        ]
        return replace(node, items=tuple(items))
    return node
