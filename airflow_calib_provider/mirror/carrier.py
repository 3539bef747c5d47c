"""Carries events to an InfluxDB: at least once, with the effect of exactly once (every point overwrites itself)."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Event, MirrorTarget
from airflow_calib_provider.mirror import aside, outbox, state
from airflow_calib_provider.mirror.client import HINTS, Answer, InfluxClient, Kind
from airflow_calib_provider.mirror.delivery import Delivery, Line, deliver
from airflow_calib_provider.mirror.lines import line_of
from airflow_calib_provider.mirror.points import PointMaker, group_of
from airflow_calib_provider.settings import number

log = logging.getLogger(__name__)

EVENTS = 5_000
"""Events that are read at once."""

LINES = 5_000
"""Lines of one request."""

BYTES = 2_000_000
"""Size of one request: servers and proxies have limits."""


LONGEST_BACK_OFF = 60.0
"""Seconds between two tries while a target is in trouble."""

NOTE_AGAIN = 3600.0
"""Seconds between two notes about a clock."""

ASIDE_AGAIN = 3600.0
"""Seconds after which what was set aside is tried again."""

ASIDE_AT_ONCE = 1_000

LOST = (
    "after event {} had been carried the place for it was not there: what was in it may be lost; "
    "`calib mirror check` says so, `calib mirror rebuild` fills it anew"
)

CLOCK = 1_000_000_000
"""Nanoseconds by which a clock may go backwards before it is told."""


@dataclass(frozen=True)
class Step:
    """What one step did.

    :ivar carried: events.
    :ivar points: that were written.
    :ivar pause: seconds after which the next step is due.
    :ivar trouble: what is in the way, for people; empty: nothing.
    """

    carried: int = 0
    points: int = 0
    pause: float = 0.0
    trouble: str = ""


@dataclass
class _Batch:
    """What became of some events.

    :ivar cursor: the last event of which all points were written.
    """

    cursor: int
    points: int = 0
    delivery: Delivery = field(default_factory=Delivery)


class _Buffer:
    """Lines that wait for a request, by route."""

    def __init__(self) -> None:
        self.lines: dict[str, list[Line]] = {}
        self.size = self.count = 0

    def add(self, route: str, line: Line) -> None:
        self.lines.setdefault(route, []).append(line)
        self.size += len(line.text) + 1
        self.count += 1

    @property
    def full(self) -> bool:
        return self.count >= LINES or self.size >= BYTES


class Carrier:
    """Carries to one target; of several for the same target one works, and the others wait.

    :param name: the target's, in the ledger.
    :param set_aside_as: under which name refused points are kept, if it is another one.
    :param before_step: done at the beginning of each step while this carrier has the target.
    """

    def __init__(
        self,
        ledger: Ledger,
        client: InfluxClient,
        *,
        name: str = "",
        set_aside_as: str = "",
        before_step: Callable[[Ledger, str], None] | None = None,
    ) -> None:
        self.ledger = ledger
        self.client = client
        self.name = name or client.target.name
        self.holder = uuid.uuid4().hex
        self._aside = set_aside_as or self.name
        self._before_step = before_step
        self._turn = threading.Lock()
        self._ending = False
        self._row: MirrorTarget | None = None
        self._renew_at = 0.0
        self._maker = PointMaker()
        self._troubles = 0
        self._latest: tuple[int, int] = (0, 0)  # the highest time of an event, and its id
        self._watched = 0
        self._note = ""
        self._note_after = 0.0
        self._missing: set[str] = set()  # routes that cannot be written while others can
        self._look_at = 0.0
        self._aside_at = time.monotonic()
        self._aside_after = 0  # while what was set aside is tried again: up to which event it was

    def begin_at(self, cursor: int) -> None:
        """Take the target, and begin after this event.

        :raises LedgerError: the ledger cannot be written.
        """
        self._row = state.acquire(self.ledger, self.name, self.client.target.place, self.holder, cursor=cursor)

    @property
    def cursor(self) -> int:
        """The last event that was carried."""
        return int(self._row.cursor) if self._row is not None else 0

    def step(self) -> Step:
        """Carry the next batch, if this carrier has the target.

        :raises LedgerError: the ledger cannot be used.
        """
        with self._turn:
            return self._step()

    def _step(self) -> Step:
        if not self._hold():
            return Step(pause=state.LEASE.total_seconds() / 10, trouble="another carrier works for this target")
        if self._before_step is not None:
            self._before_step(self.ledger, self.name)
        late = self._carry_late()
        if late.trouble:
            return late
        with self.ledger.read() as connection:
            rows = outbox.after(connection, self.cursor, EVENTS)
            self._maker.prepare(connection, rows)
            last = self.cursor if rows else outbox.last_id(connection)
        if last < self.cursor:
            return self._go_back(last)
        if not rows:
            return self._idle(late)
        self._watch_clock(rows)
        batch = self._carry(rows, self._maker, self.cursor)
        holes = list(self._row.holes) if self._row is not None else []
        holes += outbox.gaps(self.cursor, (row.id for row in rows if row.id <= batch.cursor), time.time())
        return self._finish(batch, holes, backlog=len(rows) == EVENTS)

    def release(self) -> None:
        """Let another carrier have the target at once.

        A step that goes on in another thread is cut short and waited for: what it wrote later could overwrite the
        other carrier's newer values.
        """
        self._ending = True
        with self._turn:
            self._ending = False
            if self._row is not None:
                state.release(self.ledger, self.name, self.holder)
                self._row = None

    # one step

    def _hold(self) -> bool:
        """Whether this carrier has the target; if it can, it takes it."""
        if self._row is not None and time.monotonic() < self._renew_at:
            return True
        before = self._row
        self._row = state.acquire(self.ledger, self.name, self.client.target.place, self.holder)
        self._renew_at = time.monotonic() + state.LEASE.total_seconds() / 3
        if before is None or self._row is None or self._row.cursor != before.cursor:
            self._maker.forget()
        return self._row is not None

    def _idle(self, late: Step) -> Step:
        self._troubles = 0
        self._look_for_missing()
        if self._aside_after or time.monotonic() - self._aside_at > ASIDE_AGAIN:
            self._aside_at = time.monotonic()
            again = self._carry_aside()
            if again.trouble or self._aside_after:
                return again
        return Step(late.carried, late.points, number("MIRROR_INTERVAL"))

    def _go_back(self, last: int) -> Step:
        """Follow events that were put back to an earlier state without the cursor."""
        self._note = (
            f"the ledger's last event is {last}, but {self.cursor} was carried: were they restored from a backup? "
            "`calib mirror rebuild --delete-first` makes the mirror follow"
        )
        log.warning("%s: %s", self.name, self._note)
        self._maker.forget()
        self._latest, self._watched = (0, 0), last
        if not self._advance(_Batch(last), []):
            return Step(trouble="another carrier took over")
        return Step()

    def _finish(self, batch: _Batch, holes: outbox.Holes, *, backlog: bool) -> Step:
        made = batch.delivery
        carried = batch.cursor - self.cursor
        news = batch.cursor > self.cursor or made.refused or made.too_old
        if news and not self._advance(batch, holes):
            return Step(trouble="another carrier took over")
        if made.trouble is not None:
            self._maker.forget()
            return self._in_trouble(made.trouble, carried, batch.points)
        self._troubles = 0
        return Step(carried, batch.points, 0.0 if backlog else number("MIRROR_INTERVAL"))

    def _advance(self, batch: _Batch, holes: outbox.Holes) -> bool:
        """Store what was achieved; False if another carrier has the target."""
        made, note = batch.delivery, self._take_note()
        before = self.cursor
        with self.ledger.write() as connection:
            ahead = state.advance(
                connection,
                self.name,
                self.holder,
                before,
                batch.cursor,
                holes,
                success=batch.cursor > before or made.trouble is None,
                too_old=made.too_old,
                note=note,
            )
            if ahead:
                aside.put(connection, self._aside, made.refused)
                self._row = state.find(connection, self.name)
        if not ahead:
            self._row = None
            self._maker.forget()
            return False
        self._renew_at = time.monotonic() + state.LEASE.total_seconds() / 3
        for line, reason in made.refused[:5]:
            log.warning("%s: a point of event %d was set aside: %s", self.name, line.event, reason)
        return True

    def _in_trouble(self, answer: Answer, carried: int = 0, points: int = 0) -> Step:
        """Keep what is in the way, and say when to try again."""
        self._troubles = 0 if carried > 0 else self._troubles
        self._troubles += 1
        text = f"{self.client.target.place}: {answer.said}"
        text = "; ".join(part for part in (text, HINTS.get(answer.kind, "")) if part)
        lost = answer.kind is Kind.MISSING and self.cursor > 0
        state.note_trouble(self.ledger, self.name, text, LOST.format(self.cursor) if lost else "")
        longest = min(LONGEST_BACK_OFF, 2.0 ** min(self._troubles - 1, 10))
        pause = max(longest * random.uniform(0.5, 1.0), answer.retry_after or 0.0)
        return Step(carried, points, pause, text)

    # events to lines

    def _carry(self, rows: Sequence[Event], maker: PointMaker, cursor: int) -> _Batch:
        """Write the points of events that were prepared."""
        batch, buffer, target = _Batch(cursor), _Buffer(), self.client.target
        for row in rows:
            for line in self._lines_of(row, maker, batch):
                buffer.add(target.route(line.measurement), line)
            if buffer.full:
                if not self._flush(buffer, batch):
                    return batch
                batch.cursor = row.id
                buffer = _Buffer()
                if self._ending:
                    return batch
        if self._flush(buffer, batch):
            batch.cursor = rows[-1].id
        return batch

    def _lines_of(self, row: Event, maker: PointMaker, batch: _Batch) -> list[Line]:
        try:
            return [Line(row.id, point.measurement, line_of(point)) for point in maker.points(row)]
        except Exception as error:
            # One event that cannot be understood must not hold up the others.
            log.exception("%s: no point can be made of event %d, %s", self.name, row.id, row.entity)
            reason = f"no point can be made of the event: {type(error).__name__}: {error}"
            batch.delivery.refused.append((Line(row.id, "", ""), reason))
            return []

    def _flush(self, buffer: _Buffer, batch: _Batch) -> bool:
        """Write what waits; False if something is in the way."""
        for route, lines in buffer.lines.items():
            for start in range(0, len(lines), LINES):
                made = deliver(self.client, route, lines[start : start + LINES], stop=self._interrupted)
                batch.delivery.refused += made.refused
                batch.delivery.too_old += made.too_old
                if made.trouble is not None and self._only_here(route, made.trouble):
                    said = f"{route}: {made.trouble.said}"
                    batch.delivery.refused += [(line, said) for line in lines[start:]]
                    break
                if made.stopped:
                    batch.delivery.trouble = made.trouble
                    return False
                self._is_there(route)
        batch.points += buffer.count
        return True

    def _interrupted(self) -> bool:
        """Asked between requests, of which a step may need thousands: so the target is kept meanwhile."""
        if self._ending:
            return True
        if time.monotonic() < self._renew_at:
            return False
        if state.acquire(self.ledger, self.name, self.client.target.place, self.holder) is None:
            return True
        self._renew_at = time.monotonic() + state.LEASE.total_seconds() / 3
        return False

    def _only_here(self, route: str, answer: Answer) -> bool:
        """Whether a place of this target is not there, or may not be written, while another one can be.

        What goes to the others must not wait for it.
        """
        if answer.kind not in (Kind.MISSING, Kind.REFUSED):
            return False
        others = (other for other in self.client.target.routes_of() if other != route and other not in self._missing)
        if not any(self.client.try_route(other).ok for other in others):
            return False
        if route not in self._missing:
            self._missing.add(route)
            self._look_at = time.monotonic() + LONGEST_BACK_OFF
            hint = HINTS[answer.kind].partition(";")[0]
            self._note = f"{route}: {answer.said}: what goes there is set aside until it can be written; {hint}"
            log.warning("%s: %s", self.name, self._note)
        return True

    def _look_for_missing(self) -> None:
        if self._missing and time.monotonic() > self._look_at:
            self._look_at = time.monotonic() + LONGEST_BACK_OFF
            for route in sorted(self._missing):
                if self.client.try_route(route).ok:
                    self._is_there(route)

    def _is_there(self, route: str) -> None:
        """A place can be written: what was set aside for it is tried again at once."""
        if route in self._missing:
            self._missing.discard(route)
            self._aside_at = float("-inf")

    def _watch_clock(self, rows: Sequence[Event]) -> None:
        """Notice a clock that goes backwards; dashboards take the latest state by its event's id, not by its time."""
        at, event_id = self._latest
        for row in rows:
            if row.id <= self._watched:
                continue  # a batch that is tried again
            if row.at >= at:
                at, event_id = row.at, row.id
            elif at - row.at > CLOCK and time.monotonic() >= self._note_after:
                self._note_after = time.monotonic() + NOTE_AGAIN
                back = (at - row.at) / 1e9
                self._note = f"a clock went backwards: event {row.id} is {back:.1f} s earlier than event {event_id}"
                log.warning("%s: %s", self.name, self._note)
        self._latest, self._watched = (at, event_id), max(self._watched, rows[-1].id)

    def _take_note(self) -> str:
        note, self._note = self._note, ""
        return note

    # what turns up late

    def _carry_late(self) -> Step:
        """Carry the events that have turned up in holes, and what depends on them."""
        holes = list(self._row.holes) if self._row is not None else []
        if not holes:
            return Step()
        now = time.time()
        with self.ledger.read() as connection:
            filled = outbox.in_holes(connection, holes)
        left = outbox.still_open(holes, (row.id for row in filled), now)
        if not filled:
            if left != holes and not self._advance(_Batch(self.cursor), left):
                return Step(trouble="another carrier took over")
            return Step()
        batch = self._carry_again(filled)
        if batch.delivery.trouble is not None:
            return self._in_trouble(batch.delivery.trouble)
        if self._ending:
            return Step()  # perhaps cut short: the next carrier does all of it
        if not self._advance(_Batch(self.cursor, batch.points, batch.delivery), left):
            return Step(trouble="another carrier took over")
        return Step(len(filled), batch.points)

    def _carry_again(self, rows: Sequence[Event]) -> _Batch:
        """Write the points of earlier events, and of later ones of the same groups."""
        maker = PointMaker()
        with self.ledger.read() as connection:
            rows = outbox.with_what_follows(connection, rows, self.cursor)
            maker.prepare(connection, rows)
        self._maker.forget(key for row in rows if (key := group_of(row)))
        return self._carry(rows, maker, self.cursor)

    def _carry_aside(self) -> Step:
        """Try again a part of what was set aside; the next idle step takes the next part."""
        with self.ledger.read() as connection:
            numbers = aside.event_ids(connection, self._aside, ASIDE_AT_ONCE, after=self._aside_after)
            rows = outbox.in_holes(connection, [[one, one, 0] for one in numbers])
        if not rows:
            self._aside_after = 0
            return Step()
        batch = self._carry_again(rows)
        if batch.delivery.trouble is not None:
            return self._in_trouble(batch.delivery.trouble)
        if self._ending:
            return Step()  # perhaps cut short: the next carrier does all of it
        with self.ledger.write() as connection:
            aside.remove(connection, self._aside, numbers)
            aside.put(connection, self._aside, batch.delivery.refused)
        self._aside_after = numbers[-1]
        return Step(len(rows), batch.points)
