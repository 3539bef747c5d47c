"""Point by point: what the events say, compared with what an InfluxDB has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_calib_provider.errors import MirrorError
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Event
from airflow_calib_provider.mirror import aside, outbox, reading, state
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.lines import line_of
from airflow_calib_provider.mirror.points import PointMaker
from airflow_calib_provider.mirror.reading import Fields, Key
from airflow_calib_provider.mirror.schema import MEASUREMENTS, Point

EVENTS = 1_000
"""Events of one window."""

POINTS = 20_000
"""Points of one question."""

NEAR = 60_000_000_000
"""Nanoseconds between two points that are read by one question."""

NEAR_POINTS = 1_000

EXAMPLES = 5
"""Examples of each kind that are named."""


@dataclass(frozen=True)
class MirrorCounts:
    """How one measurement compares.

    :ivar extra: points that InfluxDB has although no event says so.
    :ivar beyond_retention: that are missing because they are older than what is kept.
    :ivar set_aside: that are missing because InfluxDB would not have them.
    """

    expected: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    beyond_retention: int = 0
    set_aside: int = 0
    examples: Sequence[str] = ()

    @property
    def clean(self) -> bool:
        """Whether every point is there as it should be, and no other."""
        return not (self.missing or self.extra or self.different)


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    :ivar first: the first event that was looked at.
    :ivar last: the last one; what comes after it was not carried yet.
    :ivar not_carried: how many do.
    :ivar skipped: events of which no point can be made.
    """

    first: int
    last: int
    not_carried: int
    skipped: int
    measurements: Mapping[str, MirrorCounts]

    @property
    def clean(self) -> bool:
        """Whether nothing differs in any measurement."""
        return all(counts.clean for counts in self.measurements.values())

    def drift(self) -> list[str]:
        """What is not as it should be and what to do, one line for each measurement."""
        return [
            f"mirror: {name}: {counts.missing} missing, {counts.extra} extra, {counts.different} different points"
            f" ({'; '.join(counts.examples[:2])}): `calib mirror rebuild{' --delete-first' if counts.extra else ''}`"
            " makes it right"
            for name, counts in self.measurements.items()
            if not counts.clean
        ]

    def total(self, name: str) -> int:
        """The sum of a count."""
        return sum(int(getattr(counts, name)) for counts in self.measurements.values())


@dataclass
class _Tally:
    """The counts of a measurement while the windows go by."""

    expected: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    beyond_retention: int = 0
    set_aside: int = 0
    examples: list[str] = field(default_factory=list)

    def show(self, kind: str, text: str) -> None:
        """Remember an example."""
        if sum(item.startswith(f"{kind}: ") for item in self.examples) < EXAMPLES:
            self.examples.append(f"{kind}: {text}")


def check(
    ledger: Ledger, client: InfluxClient, since: int | None = None, *, tell: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Compare everything that has been carried.

    :param since: a time in nanoseconds; events before it are left out.
    :param tell: called after each window with the events that were looked at, and how many there are.
    :raises MirrorError: InfluxDB cannot be read, or the target is none to which anything was carried.
    """
    reading.ensure_readable(client)
    name = client.target.name
    with ledger.read() as connection:
        row = state.find(connection, name)
        first = 1 if since is None else outbox.first_since(connection, since)
        newest = outbox.last_id(connection)
    if row is None:
        hint = "let calib_mirror run; `calib mirror status` lists what is mirrored, by the names of its connections"
        raise MirrorError(f"nothing was ever carried to {name}, so there is nothing to compare", hint)
    last = min(row.cursor, newest)
    comparison = _Comparison(ledger, client, first, last, since)
    done = first - 1
    while done < last:
        with ledger.read() as connection:
            rows = [item for item in outbox.after(connection, done, EVENTS) if item.id <= last]
        done = comparison.window(rows, done + 1, last)
        if tell is not None:
            tell(max(0, done - first + 1), last - first + 1)
    comparison.finish()
    measurements = {name: MirrorCounts(**vars(tally)) for name, tally in comparison.tallies.items()}
    return CheckReport(first, last, newest - last, comparison.skipped, measurements)


class _Comparison:
    """One check, window by window."""

    def __init__(self, ledger: Ledger, client: InfluxClient, first: int, last: int, since: int | None) -> None:
        self._ledger, self._client, self._since = ledger, client, since
        self._first, self._last = first, last
        self.tallies = {name: _Tally() for name in MEASUREMENTS}
        self.skipped = 0
        self._maker = PointMaker()
        self._horizon: dict[str, int] = {}
        now = time.time()
        for name in MEASUREMENTS:
            kept = reading.retention(client, name)
            self._horizon[name] = int((now - kept) * 1e9) if kept else -(2**63)
        with ledger.read() as connection:
            rows = aside.listed(connection, client.target.name, first, last)
        self._aside = {(row.event_id, row.line) for row in rows}
        self._seen = dict.fromkeys(MEASUREMENTS, 0)
        self._earliest: dict[str, int] = {}
        self._open_values: dict[Key, Point] = {}

    def window(self, rows: Sequence[Event], start: int, last: int) -> int:
        """Compare the next events.

        :returns: the last event that was compared.
        """
        if not rows:
            return last
        with self._ledger.read() as connection:
            self._maker.prepare(connection, rows)
        expected: dict[str, dict[Key, Point]] = {name: {} for name in MEASUREMENTS}
        size, begin = 0, start
        for row in rows:
            for point in self._points(row):
                expected[point.measurement][point.tags, point.time] = point
                size += 1
            if size >= POINTS:
                self._compare_all(expected, begin, row.id)
                expected, size, begin = {name: {} for name in MEASUREMENTS}, 0, row.id + 1
        self._compare_all(expected, begin, rows[-1].id)
        return int(rows[-1].id)

    def _points(self, row: Event) -> Iterable[Point]:
        try:
            return self._maker.points(row)
        except Exception:  # noqa: BLE001 - set aside by the carrier, which says why
            self.skipped += 1
            return ()

    def _compare_all(self, expected: dict[str, dict[Key, Point]], first: int, last: int) -> None:
        for name, points in expected.items():
            if not points:
                continue
            least, most = min(key[1] for key in points), max(key[1] for key in points)
            self._earliest[name] = min(least, self._earliest.get(name, least))
            where = f'"event" >= {first} AND "event" <= {last} AND time >= {least} AND time <= {most}'
            actual = reading.points(self._client, name, where)
            self._seen[name] += len(actual)
            self._compare(name, points, actual)

    def _compare(self, name: str, expected: dict[Key, Point], actual: dict[Key, Fields]) -> None:
        counts = self.tallies[name]
        for key, point in expected.items():
            if name == "value":
                # What a later event says of the same point has taken the place of what an earlier one said.
                counts.expected -= self._open_values.pop(key, None) is not None
            counts.expected += 1
            found = actual.pop(key, None)
            if found is None:
                if name == "value":
                    self._open_values[key] = point
                else:
                    self._missing(counts, point)
            elif found != point.fields:
                counts.different += 1
                counts.show("different", f"{line_of(point)} but found {_shown(name, found)}")
        for (tags, moment), fields in actual.items():
            counts.extra += 1
            counts.show("extra", f"{','.join((name, *tags))} {_shown(name, fields)} {moment}")

    def _missing(self, counts: _Tally, point: Point) -> None:
        line = line_of(point)
        if (_event(point), line) in self._aside:
            counts.set_aside += 1
            counts.show("set aside", line)
        elif point.time < self._horizon[point.measurement]:
            counts.beyond_retention += 1
        else:
            counts.missing += 1
            counts.show("missing", line)

    def finish(self) -> None:
        """What no window shows: newer values, points of no event."""
        self._settle_values()
        for name, counts in self.tallies.items():
            period = f'"event" >= {self._first} AND "event" <= {self._last}'
            times = self._times(name)
            elsewhere = reading.count(self._client, name, period + (times and f" AND {times}")) - self._seen[name]
            self._extra(counts, elsewhere, "at times where no point belongs")
            self._extra(counts, self._of_no_event(name, times), "of events that the ledger does not have")
            self._extra(counts, reading.without_event(self._client, name, times), "without the field event")

    def _times(self, name: str) -> str:
        """The period as a condition.

        An InfluxDB that has years must not be read as a whole for some hours. A value's time says nothing about when it
        was written.
        """
        if self._since is None or name == "value":
            return ""
        return f"time >= {min(self._since, self._earliest.get(name, self._since))}"

    def _extra(self, counts: _Tally, number: int, what: str) -> None:
        if number > 0:
            counts.extra += number
            counts.show("extra", f"{number} points {what}")

    def _of_no_event(self, name: str, times: str) -> int:
        """Points of events that the ledger has not, after the newest one or before the first.

        There are such when the ledger was restored from a backup.
        """
        while True:
            with self._ledger.read() as connection:
                newest = outbox.last_id(connection)
            found = sum(
                reading.count(self._client, name, " AND ".join(part for part in (condition, times) if part))
                for condition in (f'"event" > {newest}', '"event" < 1')
            )
            with self._ledger.read() as connection:
                if not found or outbox.last_id(connection) == newest:
                    return found

    def _settle_values(self) -> None:
        """Values that no window had: one of a later event may have taken the place, and is fine."""
        for part in _near(sorted(self._open_values, key=lambda key: key[1])):
            there = reading.points(self._client, "value", f"time >= {part[0][1]} AND time <= {part[-1][1]}")
            for key in part:
                self._settle_value(self._open_values[key], there.get(key))

    def _settle_value(self, point: Point, found: Fields | None) -> None:
        counts = self.tallies["value"]
        event = found[list(MEASUREMENTS["value"].fields).index("event")] if found else None
        if isinstance(event, int) and event > self._last:
            counts.expected -= 1
        elif found is not None and event != _event(point):
            counts.different += 1
            counts.show("different", f"{line_of(point)} but found {_shown('value', found)}")
        else:
            self._missing(counts, point)


def _near(keys: Sequence[Key]) -> Iterator[list[Key]]:
    """Parts of keys in the order of their times, of which one question reads little else."""
    part: list[Key] = []
    for key in keys:
        if part and (len(part) == NEAR_POINTS or key[1] - part[-1][1] > NEAR):
            yield part
            part = []
        part.append(key)
    if part:
        yield part


def _event(point: Point) -> int | float | str | bool | None:
    return point.fields[list(MEASUREMENTS[point.measurement].fields).index("event")]


def _shown(measurement: str, fields: Fields) -> str:
    names = MEASUREMENTS[measurement].fields
    return ",".join(f"{name}={value}" for name, value in zip(names, fields, strict=True) if value is not None)
