"""Runs from values that have types already: the objects of JSON, the rows of a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from airflow_calib_provider.domain.run import FieldValue, RunRecord, time_fault
from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.outside.strict_json import at_path, kind_of
from airflow_calib_provider.runsources.faults import Faults
from airflow_calib_provider.runsources.times import EXPECTED, TimeRules, read_span
from airflow_calib_provider.runsources.values import BadValue, check_sign, read_run_number, read_value
from airflow_calib_provider.spec.models import RESERVED, FieldType
from airflow_calib_provider.spec.problems import nearest


class ObjectReader:
    """Makes runs of objects; what is wrong with any is a fault, with its place.

    :param keys: field → the dotted path to its value, where that is not the field's name.
    :param fields: the declared fields with their types.
    :param folder: of relative files; ``None``: there are none.
    :ivar runs: by number, with the place where each was found first.
    """

    def __init__(
        self,
        keys: Mapping[str, str],
        fields: Mapping[str, FieldType],
        times: TimeRules,
        faults: Faults,
        *,
        folder: Path | None = None,
    ) -> None:
        self.faults = faults
        self.runs: dict[int, tuple[str, RunRecord]] = {}
        self._paths = {name: keys.get(name, name) for name in dict.fromkeys([*RESERVED, *fields])}
        self._needed = {"number", *fields, *keys}
        self._fields = {name: kind for name, kind in fields.items() if name not in RESERVED}
        self._times = times
        self._folder = folder

    def add_all(self, objects: Sequence[tuple[str, object]]) -> None:
        """Read all objects that a source has, each with its place; a key that none of them has is one fault."""
        if missing := self.missing_in(objects):
            where, first = objects[0]
            for name in sorted(missing):
                self.refuse_missing(where, name, list(first) if isinstance(first, dict) else [])
        else:
            self.add(objects)

    def add(self, objects: Sequence[tuple[str, object]]) -> None:
        """Read objects, each with its place; what is not there is null."""
        for where, value in objects:
            self._add(where, value)

    def missing_in(self, objects: Sequence[tuple[str, object]]) -> set[str]:
        """The fields that are needed, and that none of these objects has."""
        missing = set(self._needed) if objects else set()
        for _, value in objects:
            missing = {name for name in missing if not _has(value, self._paths[name])}
            if not missing:
                break
        return missing

    def refuse_missing(self, where: str, name: str, having: Sequence[str]) -> None:
        """Note that a key is nowhere.

        :param having: the keys that are there.
        """
        path = self._paths[name]
        told = f"nothing has {path!r}" + (f" for the field {name!r}" if path != name else "")
        self.faults.at(where, told, one_of(sorted(map(str, having))), nearest(path, having))

    def records(self) -> list[RunRecord]:
        """The runs by ascending number."""
        return [self.runs[number][1] for number in sorted(self.runs)]

    def _add(self, where: str, value: object) -> None:
        if not isinstance(value, dict):
            self.faults.at(where, f"it is {kind_of(value)}", "an object for each run")
            return
        before = len(self.faults.messages)
        found = {name: value_at(value, path) for name, path in self._paths.items()}
        record = self._record(where, found, has_end=_has(value, self._paths["end"]))
        if record is None or len(self.faults.messages) > before:
            return
        first, known = self.runs.setdefault(record.number, (where, record))
        if known != record:
            said = f"run {record.number} is there twice with different content"
            self.faults.at(where, said, f"each run once (first at {first})")

    def _record(self, where: str, found: Mapping[str, object], *, has_end: bool) -> RunRecord | None:
        number = 0
        values: dict[str, FieldValue] = {}
        files: tuple[str, ...] = ()
        completed: bool | None = None
        for name, value in found.items():
            try:
                if name == "number":
                    number = _run_number(value)
                elif name == "files":
                    files = self._files(value)
                elif name == "completed":
                    completed = _boolean(value) if value is not None else None
                elif name in self._fields:
                    values[name] = typed(value, self._fields[name], name, self._times)
            except BadValue as error:
                self.faults.at(f"{where}.{self._paths[name]}", str(error), error.expected)
        start, end = self._span(where, number, found["start"], found["end"])
        if completed is None:
            # What does not say so has ended when it has an end.
            completed = end is not None if has_end or "completed" in self._needed else True
        return RunRecord(number, start, end, completed, values, files)

    def _span(self, where: str, number: int, start: object, end: object) -> tuple[datetime | None, datetime | None]:
        try:
            first, last = read_span(self._times, start or None, end or None)
        except ValueError as error:
            self.faults.at(f"{where}.{self._paths['start']}", str(error), EXPECTED)
            return None, None
        for name, at in (("start", first), ("end", last)):
            if fault := time_fault(at):
                self.faults.at(f"{where}.{self._paths[name]}", *fault)
        if first is not None and last is not None and last < first:
            self.faults.at(f"{where}.{self._paths['end']}", f"run {number} ends before it starts", "end after start")
        return first, last

    def _files(self, value: object) -> tuple[str, ...]:
        if value is None:
            return ()
        listed = [part.strip() for part in value.split(";")] if isinstance(value, str) else value
        if not isinstance(listed, list | tuple):
            raise BadValue(f"it is {kind_of(value)}", "a list of paths and URLs, or a text with ';' between them")
        return tuple(self._file(item) for item in listed if item != "")

    def _file(self, file: object) -> str:
        if not isinstance(file, str) or not file.isprintable():
            raise BadValue(f"a file is {kind_of(file)}", "one path or URL without control characters")
        if "://" in file:
            return file
        if self._folder is not None:
            return str(self._folder / file)
        if not Path(file).is_absolute():
            raise BadValue(
                f"the file {file[:60]!r} is relative, and nothing says to what", "an absolute path, or a URL"
            )
        return file


def typed(value: object, kind: FieldType, name: str, times: TimeRules) -> FieldValue:
    """A value of a declared type; a text is read as in a CSV file.

    :param name: of the field.
    :raises BadValue: it is not of this type.
    """
    if value is None:
        return None
    if kind is FieldType.STRING:
        return _text(value)
    if kind is FieldType.BOOL:
        return _boolean(value)
    if kind is FieldType.TIME or isinstance(value, str):
        if isinstance(value, str):
            return read_value(value, kind, name, times)
        try:
            return times.read(value).isoformat()
        except ValueError as error:
            raise BadValue(str(error), EXPECTED) from None
    found = _number(value, whole=kind is FieldType.INT)
    check_sign(found, name)
    return found


LARGEST = 2.0**1023
"""No number of a field is as large: it would be none as a float, or an infinite one."""


def _number(value: object, *, whole: bool) -> int | float:
    if isinstance(value, Decimal) and value.is_finite():
        value = int(value) if value == value.to_integral_value() and abs(value) < 2**63 else float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise BadValue(f"it is {kind_of(value)}", "a whole number" if whole else "a finite number")
    if whole and (not isinstance(value, int) or abs(value) >= 2**63):
        raise BadValue(f"it is {kind_of(value)}", "a whole number below 2^63")
    return value if whole else float(value)


def _run_number(value: object) -> int:
    if value is None:
        raise BadValue("the run number is null", "a whole number above 0")
    if isinstance(value, str):
        return read_run_number(value)
    return read_run_number(str(_number(value, whole=True)))


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in (0, 1) and isinstance(value, int | Decimal):
        return bool(value)
    raise BadValue(f"it is {kind_of(value)}", "true or false")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadValue(f"it is {kind_of(value)}", "a text")
    if "\x00" in value or not _encodable(value):
        raise BadValue("it has a character that no text in UTF-8 has", "a text")
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def value_at(found: Mapping[str, object], path: str) -> object:
    """A value by its key, or by a dotted path; null if it is not there."""
    if path in found:
        return found[path]
    try:
        return at_path(found, path)
    except KeyError:
        return None


def _has(found: object, path: str) -> bool:
    if not isinstance(found, dict):
        return True  # that is told otherwise
    if path in found:
        return True
    try:
        at_path(found, path)
    except KeyError:
        return False
    return True
