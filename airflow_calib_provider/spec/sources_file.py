"""Reading ``sources.yaml``: where runs come from, and which fields they have."""

from __future__ import annotations

from airflow_calib_provider.errors import SpecError
from airflow_calib_provider.spec.language import API_VERSION, KEYS
from airflow_calib_provider.spec.models import CsvSource, EventsSource, FieldType, RunSource
from airflow_calib_provider.spec.positions import Document, Entry, Mapping, Node, Scalar
from airflow_calib_provider.spec.problems import Problems, nearest, one_of
from airflow_calib_provider.spec.reading import Keys, Reader
from airflow_calib_provider.spec.templates import TemplateSyntaxError, is_template, uses_of

RESERVED = {
    "number": FieldType.INT,
    "start": FieldType.TIME,
    "end": FieldType.TIME,
    "completed": FieldType.BOOL,
    "files": FieldType.STRING,
}
"""Fields with a meaning of their own and therefore a fixed type."""

_TYPES = tuple(kind.value for kind in FieldType)


class SourcesFile:
    """A sources file as read.

    :ivar sources: those without mistakes.
    :ivar broken: the names of those with mistakes.
    :ivar errors: all mistakes, in the order of the file.
    """

    def __init__(self, document: Document) -> None:
        self.sources: dict[str, RunSource] = {}
        self.broken: set[str] = set()
        self._problems = Problems(document)
        self._reader = Reader(self._problems)
        self._read(document.root)
        self.errors: list[SpecError] = self._problems.sorted()

    def _read(self, root: Node) -> None:
        keys = Keys(self._reader, root, "the sources file", KEYS["the sources file"])
        version = keys.require("apiVersion", lambda node, what: self._reader.text(node, what), API_VERSION)
        if version is not None and version != API_VERSION:
            self._problems.add(f"apiVersion {version!r} is not known", keys["apiVersion"], expected=API_VERSION)
        node = keys.node("sources", "{<name>: {csv: …} or {events: …}}")
        if node is None:
            return
        entries = self._reader.mapping(node, "sources")
        if entries is not None and not entries:
            self._problems.add("there are no sources", node, expected="at least one source")
        for name, entry in (entries or {}).items():
            before = len(self._problems.errors)
            source = self._source(name, entry)
            if source is None or len(self._problems.errors) > before:
                self.broken.add(name)
            else:
                self.sources[name] = source

    def _source(self, name: str, entry: Entry) -> RunSource | None:
        if self._reader.name(entry.key, "the source") is None:
            return None
        keys = Keys(self._reader, entry.value, f"the source {name!r}", KEYS["a source"])
        declared = self._fields(keys["fields"]) if "fields" in keys else {}
        if ("csv" in keys) == ("events" in keys):
            if isinstance(entry.value, Mapping):
                has = "both csv and events" if "csv" in keys else "neither csv nor events"
                self._problems.add(f"the source {name!r} has {has}", entry.key, expected="exactly one of them")
            return None
        fields = {"number": FieldType.INT, **declared}
        if "csv" in keys:
            csv = self._csv(keys["csv"], fields)
            return RunSource(name=name, fields=fields, csv=csv) if csv else None
        events = self._events(keys["events"])
        if "events" in declared and declared["events"] is not FieldType.INT and isinstance(keys["fields"], Mapping):
            place = keys["fields"].entries["events"].value
            self._problems.add("the field 'events' of an event file is counted", place, expected="int")
        fields["events"] = FieldType.INT
        return RunSource(name=name, fields=fields, events=events) if events else None

    def _fields(self, node: Node) -> dict[str, FieldType]:
        fields = {}
        for name, entry in (self._reader.mapping(node, "fields") or {}).items():
            text = self._reader.name(entry.key, "the field")
            kind = self._reader.choice(_TYPES)(entry.value, f"fields.{name}")
            if text is None or kind is None:
                continue
            if name in RESERVED and RESERVED[name].value != kind:
                self._problems.add(
                    f"fields.{name} is {kind!r}",
                    entry.value,
                    expected=f"{RESERVED[name].value}, as always for {name!r}",
                )
                continue
            fields[name] = FieldType(kind)
        return fields

    def _csv(self, node: Node, fields: dict[str, FieldType]) -> CsvSource | None:
        keys = Keys(self._reader, node, "csv", KEYS["csv"])
        path = keys.require("path", self._path, "the path of the CSV file")
        columns: dict[str, str] = {}
        if "columns" in keys:
            columns = self._columns(keys["columns"], fields)
        separator = keys.get("separator", self._separator)
        files_separator = keys.get("files_separator", self._separator)
        if separator is not None and separator == (files_separator or ";"):
            self._problems.add(
                "separator and files_separator are the same", keys["separator"], expected="different characters"
            )
        if path is None:
            return None
        return CsvSource(path=path, columns=columns, separator=separator or ",", files_separator=files_separator or ";")

    def _columns(self, node: Node, fields: dict[str, FieldType]) -> dict[str, str]:
        columns = {}
        for name, entry in (self._reader.mapping(node, "columns") or {}).items():
            header = self._reader.filled(entry.value, f"columns.{name}")
            if name not in fields and name not in RESERVED:
                options = [*RESERVED, *fields]
                self._problems.add(
                    f"columns.{name} is no declared field",
                    entry.key,
                    expected=one_of(dict.fromkeys(options)),
                    hint=nearest(name, options) or "declare it with its type under 'fields'",
                )
                continue
            if header is not None:
                columns[name] = header
                if name in RESERVED:
                    fields[name] = RESERVED[name]
        return columns

    def _separator(self, node: Node, what: str) -> str | None:
        text = self._reader.text(node, what, "one character")
        if text is not None and (len(text) != 1 or text in '"\n\r'):
            self._reader.wrong(node, what, "one character", r'a tab is written "\t"' if text == r"\t" else "")
            return None
        return text

    def _events(self, node: Node) -> EventsSource | None:
        keys = Keys(self._reader, node, "events", KEYS["events"])
        path = keys.require("path", self._path, "the path of the event file")
        run = keys.get("run", self._reader.filled)
        return EventsSource(path=path, run=run or "run") if path is not None else None

    def _path(self, node: Node, what: str) -> str | None:
        text = self._reader.filled(node, what)
        if text is None or not is_template(text) or not isinstance(node, Scalar):
            return text
        try:
            uses = uses_of(text)
        except TemplateSyntaxError as error:
            self._problems.add(error.message, node, hint=error.hint)
            return None
        for use in uses:
            if len(use.path) != 2 or use.path[0] != "env" or not use.path[1].startswith("CALIB_"):
                dotted = ".".join(use.path)
                self._problems.add(
                    f"unknown variable {dotted!r}",
                    self._problems.find(node, dotted),
                    expected="an environment variable whose name starts with CALIB_: env.CALIB_…",
                )
        return text
