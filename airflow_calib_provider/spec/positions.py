"""YAML with positions: every key and value knows its line and column.

The text is read as events of the C parser and built into nodes here rather than by PyYAML's composer, because that way
nesting, aliases and duplicate keys are under control, and because a plain scalar keeps its spelling: whether ``yes`` is
a text or a truth value is decided, and explained, where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from airflow_calib_provider.domain.nodes import Entry as Entry
from airflow_calib_provider.domain.nodes import Mapping as Mapping
from airflow_calib_provider.domain.nodes import Node as Node
from airflow_calib_provider.domain.nodes import Position as Position
from airflow_calib_provider.domain.nodes import Scalar as Scalar
from airflow_calib_provider.domain.nodes import Sequence as Sequence
from airflow_calib_provider.errors import Place, SpecError
from airflow_calib_provider.spec.language import SOURCES_FILE
from airflow_calib_provider.spec.places import Lines, end_of, line_of
from airflow_calib_provider.spec.regular import MAX_BYTES, read_bytes

MAX_NODES = 50_000
"""Nodes of a file after its aliases are expanded; a few nested aliases can otherwise stand for billions."""
MAX_DEPTH = 30

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_OLD_BOOL = re.compile(r"(?i:yes|no|on|off)")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_ODD_NUMBER = re.compile(
    r"[-+]?(?:0[0-7_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|"
    r"[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:.*)?")


@dataclass
class Document:
    """A file as nodes.

    :ivar text: the file's text.
    :ivar lines: its lines, for display.
    :ivar errors: mistakes that do not keep the rest from being read, such as duplicate keys.
    """

    file: Path
    text: str
    lines: list[str]
    root: Node
    errors: list[SpecError] = field(default_factory=list)


def kind_of(text: str) -> str:
    """What YAML 1.1 or 1.2 makes of an unquoted spelling (see :class:`Scalar`)."""
    # Keys and words are the same again and again.
    return _known_kind_of(text) if len(text) <= 40 else _kind_of(text)


def _kind_of(text: str) -> str:
    for kind, pattern in (
        ("null", _NULL),
        ("bool", _BOOL),
        ("odd bool", _OLD_BOOL),
        ("int", _INT),
        ("float", _FLOAT),
        ("odd number", _ODD_NUMBER),
        ("date", _DATE),
    ):
        if pattern.fullmatch(text):
            return kind
    return "text"


_known_kind_of = lru_cache(4096)(_kind_of)


def read_text(file: Path) -> str:
    """The text of a file, byte for byte: line ends are not converted.

    :raises SpecError: it cannot be read, is too large or not UTF-8.
    """
    place = Place(file, 1, 1)
    try:
        content = read_bytes(file)
    except OSError as error:
        reason = error.strerror or str(error)
        missing = isinstance(error, FileNotFoundError) and file.name == SOURCES_FILE
        hint = "it says where runs come from, and lies beside the workflows" if missing else ""
        said, expected = f"cannot read the file: {reason}", "expected a readable file"
        raise SpecError(said, Place(file), expected=expected, suggestion=hint) from error
    if len(content) > MAX_BYTES:
        raise SpecError("the file is too large", place, expected=f"expected at most {MAX_BYTES:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(
            f"byte 0x{content[error.start]:02x} is not UTF-8",
            Place(file, *end_of(content[: error.start])),
            expected="expected text in UTF-8",
            suggestion="save the file as UTF-8",
        ) from error


def read_document(file: Path) -> Document:
    """Read a YAML file with one document.

    :raises SpecError: it cannot be read, is empty, no YAML, has several documents, is nested too deeply, or its aliases
        stand for too much.
    """
    return parse_document(read_text(file), file)


def parse_document(text: str, file: Path) -> Document:
    """As :func:`read_document`, for a text that is already there; ``file`` is for messages."""
    return _Builder(text, file).build()


class _Builder:
    """Builds nodes from events."""

    def __init__(self, text: str, file: Path) -> None:
        self.file = file
        self.text = text
        self.places = Lines(text)
        self.lines = self.places.lines
        self.errors: list[SpecError] = []
        self.anchors: dict[str, tuple[Node | None, int, int]] = {}
        self.nodes = 0
        self.deepest = 0

    def build(self) -> Document:
        try:
            loader = yaml.CSafeLoader(self.places.text)
            try:
                root = self._document(self._events(loader))
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error) from error
        except yaml.reader.ReaderError as error:
            # The C parser counts bytes here.
            where = Place(self.file, *self.places.at_byte(error.position if isinstance(error.position, int) else 0))
            shown = f": character U+{error.character:04X}" if isinstance(error.character, int) else ""
            raise self._error(f"{error.reason}{shown}", where) from error
        return Document(self.file, self.text, self.lines, root, self.errors)

    @staticmethod
    def _events(loader: yaml.CSafeLoader) -> Iterator[Any]:
        while loader.check_event():
            yield loader.get_event()

    def _document(self, events: Iterator[Any]) -> Node:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._error(
                        "a second document starts here",
                        self._place(event),
                        expected="expected one document per file",
                        hint="remove '---', or use two files",
                    )
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, 0)
        if root is None or (isinstance(root, Scalar) and root.kind == "null"):
            raise self._error(
                "the file is empty", Place(self.file, 1, 1), expected="expected a mapping of keys to values"
            )
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        self.nodes += 1
        self._check_limits(event, depth)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        before = self.nodes
        outside, self.deepest = self.deepest, depth
        if event.anchor:
            self.anchors[event.anchor] = (None, 0, 0)
        allowed = (None, "!", "tag:yaml.org,2002:str") if isinstance(event, yaml.ScalarEvent) else (None, "!")
        if event.tag not in allowed:
            self.errors.append(
                self._error(
                    f"the tag {event.tag} is not allowed",
                    self._place(event),
                    expected="expected plain YAML",
                    hint="a text that begins with ! goes into quotes" if event.tag.startswith("!") else "",
                )
            )
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            quoted = bool(event.style) or event.tag is not None
            position = self.places.between(event.start_mark, event.end_mark)
            node = Scalar(event.value, "text" if quoted else kind_of(event.value), position, quoted)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, events, depth)
        else:
            node = self._mapping(event, events, depth)
        if event.anchor:
            self.anchors[event.anchor] = (node, self.nodes - before + 1, self.deepest - depth)
        self.deepest = max(outside, self.deepest)
        return node

    def _check_limits(self, event: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._error("nested too deeply", self._place(event), expected=f"expected at most {MAX_DEPTH} levels")
        if self.nodes > MAX_NODES:
            raise self._error(
                "the file stands for too many values",
                self._place(event),
                expected=f"expected at most {MAX_NODES:,} with aliases expanded",
                hint="use fewer aliases (*name)",
            )

    def _alias(self, event: Any, depth: int) -> Node:
        node, size, height = self.anchors.get(event.anchor, (None, -1, 0))
        if node is None:
            what = "an alias inside what it stands for" if size == 0 else "an unknown alias"
            raise self._error(f"{what}: *{event.anchor}", self._place(event))
        self.nodes += size
        self.deepest = max(self.deepest, depth + height)
        self._check_limits(event, depth + height)
        return node

    def _sequence(self, start: Any, events: Iterator[Any], depth: int) -> Sequence:
        items: list[Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                return Sequence(tuple(items), self.places.between(start.start_mark, event.end_mark))
            items.append(self._node(event, events, depth + 1))
        raise AssertionError("the parser closes every sequence")

    def _mapping(self, start: Any, events: Iterator[Any], depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        is_template = False
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                return Mapping(entries, self.places.between(start.start_mark, event.end_mark), is_template)
            place = self._place(event)
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key, Scalar):
                if isinstance(key, Mapping) and start.flow_style:
                    is_template = True
                else:
                    self.errors.append(self._error("a list or mapping as key", place, expected="expected a text"))
            elif key.text in entries:
                first = entries[key.text].key.position.line
                self.errors.append(
                    self._error(
                        f"the key {key.text!r} is there twice",
                        place,
                        expected=f"expected each key once (first in line {first})",
                        hint="remove one of the two",
                    )
                )
            else:
                entries[key.text] = Entry(key, value)
        raise AssertionError("the parser closes every mapping")

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> SpecError:
        mark = error.problem_mark or error.context_mark
        where = Place(self.file, *self.places.at_mark(mark)) if mark else Place(self.file, 1, 1)
        context = f" {error.context}" if error.context else ""
        started = ""
        if error.context_mark and mark and error.context_mark.line != mark.line:
            started = f" that starts in line {self.places.at_mark(error.context_mark)[0]}"
        hint = self._syntax_hint(where) or self._colon_hint(error.context_mark)
        return self._error(f"not YAML: {error.problem}{context}{started}", where, hint=hint)

    def _syntax_hint(self, where: Place) -> str:
        line = line_of(self.lines, where.line)
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return "indent with spaces, not with tabs"
        if re.search(r"[:\[,-]\s*\{\{", line):
            return 'put a template into quotes: "{{ … }}"'
        if re.search(r":\s+[!&*]", line):
            return "a text that begins with !, & or * goes into quotes"
        return ""

    def _colon_hint(self, started: yaml.Mark | None) -> str:
        """``key:value`` is one word to YAML; what it finds wrong is the line after that."""
        line = line_of(self.lines, self.places.at_mark(started)[0]) if started else ""
        glued = re.match(r"\s*(?:- )?(\w+):(?=[^\s:/])", line)
        return f"put a space after {glued[1]}:" if glued and ": " not in line else ""

    def _place(self, event: Any) -> Place:
        return Place(self.file, *self.places.at_mark(event.start_mark))

    def _error(self, message: str, where: Place, *, expected: str = "", hint: str = "") -> SpecError:
        context = line_of(self.lines, where.line)
        return SpecError(message, where, expected=expected, suggestion=hint, context=context)
