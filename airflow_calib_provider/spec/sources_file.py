"""Reading ``sources.yaml``: where runs come from, and which fields they have."""

from __future__ import annotations

from airflow_calib_provider.errors import SpecError
from airflow_calib_provider.spec.kinds import run_source_kind
from airflow_calib_provider.spec.models import RESERVED, FieldType, RunSource
from airflow_calib_provider.spec.positions import Document
from airflow_calib_provider.spec.problems import Problems
from airflow_calib_provider.spec.sources_keys import SourceKeys, SourcesKeys
from airflow_calib_provider.spec.written import read_keys, report


class SourcesFile:
    """A sources file as read.

    :ivar sources: those without mistakes.
    :ivar broken: the names of those with mistakes.
    :ivar approvers: list → user ids.
    :ivar errors: all mistakes, in the order of the file.
    """

    def __init__(self, document: Document) -> None:
        self.sources: dict[str, RunSource] = {}
        self.broken: set[str] = set()
        self.approvers: dict[str, tuple[str, ...]] = {}
        self._problems = Problems(document)
        self._read = read_keys(SourcesKeys, document.root, "the sources file", self._problems)
        if self._read.keys is not None:
            self._sources(self._read.keys)
        self.errors: list[SpecError] = self._problems.sorted()

    def _sources(self, keys: SourcesKeys) -> None:
        # A list that nobody is in is there, too: that is told once, here.
        self.approvers = {**dict.fromkeys(self._lists(), ()), **keys.approvers}
        self.broken.update(str(where[1]) for where in self._read.wrong if where[0] == "sources" and len(where) > 1)
        for name, source in keys.sources.items():
            before = len(self._problems.errors)
            found = self._source(name, source)
            if found is None or len(self._problems.errors) > before:
                self.broken.add(name)
            elif name not in self.broken:
                self.sources[name] = found

    def _lists(self) -> list[str]:
        return [str(where[1]) for where in self._read.wrong if where[0] == "approvers" and len(where) > 1]

    def _source(self, name: str, keys: SourceKeys) -> RunSource | None:
        fields = {"number": FieldType.INT}
        for field, word in keys.fields.items():
            if field in RESERVED and RESERVED[field] != word:
                place = self._read.at("sources", name, "fields", field)
                expected = f"{RESERVED[field].value}, as always for {field!r}"
                self._problems.add(f"fields.{field} is {word!r}", place, expected=expected)
            else:
                fields[field] = FieldType(word)
        if len(keys.blocks) != 1 or len(keys.stated()) != 1:
            return None
        ((way, block),) = keys.blocks.items()
        kind = run_source_kind(way)
        for where, error in kind.check(block, fields):
            report(self._read, ("sources", name, *where), error, self._problems)
        fields |= kind.supplies(block, fields)
        return RunSource(name=name, fields=fields, kind=way, options=block.model_dump(mode="json"))
