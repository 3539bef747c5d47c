"""Typed reading of nodes. Every method reports a mistake and returns ``None`` for what it could not read.

Nothing is converted: ``5`` is a number and ``"5"`` a text, and the other way round is a mistake that says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

from airflow_calib_provider.domain.quantities import DURATION, SIZE, parse_duration, parse_size
from airflow_calib_provider.errors import KindError
from airflow_calib_provider.kinds import BACKENDS
from airflow_calib_provider.spec.positions import Entry, Mapping, Node, Scalar, Sequence
from airflow_calib_provider.spec.problems import Problems, nearest, one_of

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
TAG = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*", re.ASCII)
CONNECTION = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
NAME_LENGTH = 60
TAG_LENGTH = 120

_READS_AS = {
    "null": "nothing",
    "bool": "a truth value",
    "odd bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "odd number": "a number",
    "date": "a date",
}


def describe(node: Node) -> str:
    """A node for a message: ``a list``, ``the number 5``, ``'text'``."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a template without quotes" if node.is_template else "a mapping"
    if node.kind == "null":
        return "nothing"
    shown = node.text if len(node.text) <= 60 else node.text[:57] + "…"
    return repr(shown) if node.kind == "text" else f"{shown}, which YAML reads as {_READS_AS[node.kind]}"


class Keys:
    """The entries of a mapping with fixed keys; unknown ones are reported at once."""

    def __init__(self, reader: Reader, node: Node, what: str, known: Iterable[str]) -> None:
        self.reader = reader
        self.what = what
        self.mapping = node
        self.entries = reader.mapping(node, what) or {}
        known = tuple(known)
        for name, entry in self.entries.items():
            if name not in known:
                hint = nearest(name, known)
                reader.problems.add(f"unknown key {name!r} in {what}", entry.key, expected=one_of(known), hint=hint)

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> Node:
        return self.entries[name].value

    def node(self, name: str, expected: str) -> Node | None:
        """The node of a key that must be there."""
        return self.require(name, lambda node, _: node, expected)

    def get(self, name: str, read: Callable[[Node, str], T]) -> T | None:
        """Read an optional key."""
        if name not in self.entries:
            return None
        return read(self.entries[name].value, name)

    def require(self, name: str, read: Callable[[Node, str], T], expected: str) -> T | None:
        """Read a key that must be there."""
        if name not in self.entries:
            if isinstance(self.mapping, Mapping):
                self.reader.problems.add(f"the key {name!r} is missing in {self.what}", self.mapping, expected=expected)
            return None
        return read(self.entries[name].value, name)


class Reader:
    """Reads typed values and records what is wrong with them."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def wrong(self, node: Node, what: str, expected: str, hint: str = "") -> None:
        """Record that a value is not what is expected."""
        if isinstance(node, Mapping) and node.is_template:
            hint = 'put the template into quotes: "{{ … }}"'
        self.problems.add(f"{what} is {describe(node)}", node, expected=f"expected {expected}", hint=hint)

    def mapping(self, node: Node, what: str) -> dict[str, Entry] | None:
        """The entries of a mapping."""
        if not isinstance(node, Mapping) or node.is_template:
            self.wrong(node, what, "a mapping")
            return None
        return node.entries

    def sequence(self, node: Node, what: str) -> tuple[Node, ...] | None:
        if not isinstance(node, Sequence):
            self.wrong(node, what, "a list", "put it into brackets: [ … ]" if isinstance(node, Scalar) else "")
            return None
        return node.items

    def text(self, node: Node, what: str, expected: str = "text") -> str | None:
        """A text that YAML reads as one."""
        if isinstance(node, Scalar) and node.kind == "text":
            if "\x00" in node.text:
                self.problems.add(f"{what} contains a NUL character", node, expected="text without it")
                return None
            return node.text
        hint = f'put it into quotes: "{node.text}"' if isinstance(node, Scalar) and node.kind != "null" else ""
        self.wrong(node, what, expected, hint)
        return None

    def filled(self, node: Node, what: str) -> str | None:
        """A text that is not empty."""
        text = self.text(node, what)
        if text is not None and not text.strip():
            self.problems.add(f"{what} is empty", node, expected="expected text")
            return None
        return text

    def texts(self, node: Node, what: str) -> tuple[str, ...] | None:
        """A list of texts that are not empty."""
        items = self.sequence(node, what)
        if items is None:
            return None
        return tuple(text for item in items if (text := self.filled(item, f"an element of {what}")) is not None)

    def name(self, node: Node, what: str) -> str | None:
        """A name: letters, digits and ``_``, starting with a letter."""
        text = self.text(node, what, "a name")
        if text is None:
            return None
        if not NAME.fullmatch(text) or len(text) > NAME_LENGTH:
            proposal = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")[:NAME_LENGTH]
            self.problems.add(
                f"{what} {text[:80]!r} is not a name",
                node,
                expected=f"letters, digits and '_', starting with a letter, at most {NAME_LENGTH}",
                hint=f"for example {proposal!r}" if NAME.fullmatch(proposal) else "",
            )
            return None
        return text

    def tag(self, node: Node, what: str) -> str | None:
        """The name of a payload's tag."""
        text = self.text(node, what, "a tag")
        if text is not None and (not TAG.fullmatch(text) or len(text) > TAG_LENGTH):
            self.problems.add(
                f"{what} {text[:80]!r} is not a tag",
                node,
                expected=f"letters, digits, '_', '-' and '.', starting with a letter, at most {TAG_LENGTH}",
            )
            return None
        return text

    def choice(self, options: Iterable[str]) -> Callable[[Node, str], str | None]:
        """A reader of one of some words."""
        words = tuple(options)

        def read(node: Node, what: str) -> str | None:
            text = self.text(node, what, one_of(words))
            if text is not None and text not in words:
                self.wrong(node, what, one_of(words), nearest(text, words))
                return None
            return text

        return read

    def backend(self, node: Node, what: str) -> str | None:
        """The name of a backend, with a connection where it has those."""
        from airflow_calib_provider.spec.kinds import backend_kind

        connected = [name for name in BACKENDS.own if backend_kind(name).connection]
        expected = " or ".join([", ".join(BACKENDS.names()), *(f"{name}:<connection id>" for name in connected)])
        text = self.text(node, what, expected)
        if text is None:
            return None
        kind, colon, connection = text.partition(":")
        if kind not in BACKENDS:
            self.wrong(node, what, expected, nearest(kind, BACKENDS.names()))
            return None
        try:
            found = backend_kind(kind)
        except KindError as error:
            self.problems.add(error.message, node, hint=error.hint)
            return None
        if colon and not found.connection:
            self.wrong(node, what, expected, nearest(kind, BACKENDS.names()))
            return None
        if colon and not (CONNECTION.fullmatch(connection) and len(text) <= TAG_LENGTH):
            self.wrong(node, what, f"{kind}:<connection id>", f"without a connection: {kind}")
            return None
        return text

    def boolean(self, node: Node, what: str) -> bool | None:
        """``true`` or ``false``."""
        if isinstance(node, Scalar) and node.kind == "bool":
            return node.text.lower() == "true"
        self.wrong(node, what, "true or false")
        return None

    def integer(self, least: int, most: int) -> Callable[[Node, str], int | None]:
        """A reader of whole numbers within limits."""
        expected = f"a whole number from {least} to {most}" if most < 10**6 else f"a whole number, at least {least}"

        def read(node: Node, what: str) -> int | None:
            # The length is looked at first: Python refuses to read whole numbers of thousands of digits.
            if isinstance(node, Scalar) and node.kind == "int" and len(node.text) < 20:
                value = int(node.text)
                if least <= value <= most:
                    return value
                self.problems.add(f"{what} is {value}", node, expected=f"expected {expected}")
                return None
            self.wrong(node, what, expected, self._number_hint(node))
            return None

        return read

    def number(self, node: Node, what: str) -> float | None:
        """A finite number."""
        if isinstance(node, Scalar) and node.kind in ("int", "float") and math.isfinite(value := float(node.text)):
            return value
        self.wrong(node, what, "a number", self._number_hint(node))
        return None

    def positive(self, node: Node, what: str) -> float | None:
        """A finite number above 0."""
        value = self.number(node, what)
        if value is not None and value <= 0:
            self.problems.add(f"{what} is {value:g}", node, expected="expected a number above 0")
            return None
        return value

    @staticmethod
    def _number_hint(node: Node) -> str:
        if isinstance(node, Scalar) and node.kind == "odd number":
            return "write it with plain decimal digits"
        if isinstance(node, Scalar) and node.quoted and re.fullmatch(r"[-+]?[0-9.]+", node.text):
            return "remove the quotes"
        return ""

    def duration(self, node: Node, what: str) -> timedelta | None:
        """A duration above 0."""
        return self._quantity(node, what, DURATION, parse_duration)

    def size(self, node: Node, what: str) -> int | None:
        """A size above 0, in bytes."""
        return self._quantity(node, what, SIZE, parse_size)

    def _quantity(self, node: Node, what: str, expected: str, parse: Callable[[str], T]) -> T | None:
        if _is_number(node):
            self.problems.add(f"{what} is a number without a unit", node, expected=expected)
            return None
        if not isinstance(node, Scalar) or node.kind != "text":
            self.wrong(node, what, expected)
            return None
        try:
            value = parse(node.text)
        except ValueError as error:
            self.problems.add(f"{what}: {error}", node, expected=expected)
            return None
        if not value:
            self.problems.add(f"{what} is 0", node, expected=expected, hint="or leave it out")
            return None
        return value


def _is_number(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind in ("int", "float")
