"""From events to points. Every point follows from events, and from rows that never change once an event names them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, select

from airflow_calib_provider.ledger import campaigns, tables
from airflow_calib_provider.ledger.rows import Event, read_rows, select_of
from airflow_calib_provider.mirror.history import DeadlineChange, GroupHistory, reason_of
from airflow_calib_provider.mirror.schema import NONE, STATE_CODES, Point, point

MILLISECOND = 1_000_000
ENTITIES = (
    "membership",
    "group_task",
    "run_group",
    "job",
    "payload",
    "value",
    "system",
    "campaign",
    "campaign_figures",
    "step",
    "publication_deadline",
)
"""Those of which points are made."""

REMEMBERED = 5_000
"""Groups whose histories are kept between batches."""

AT_ONCE = 400
"""Names in one statement."""

GroupKey = tuple[str, str, str]
"""Campaign, workflow, name."""

event, run_group = tables.event, tables.run_group
HISTORY = ("membership", "group_task", "run_group")
"""Those that say what a group was when, as :data:`~airflow_calib_provider.ledger.tables.GROUP_HISTORY`."""


_OUT_OF_IT = {"dropped": "skipped", "removed": "removed"}
"""What has become of a run that is in its group no more → the state that it has in its tasks."""

T = TypeVar("T")


class GroupFacts(NamedTuple):
    """What never changes of a group.

    :ivar start: of its data, where the events do not tell it.
    """

    grouping: str
    first_run: int
    start: datetime | None


def time_of(row: Event) -> int:
    """The time of an event's points: its own to a millisecond, made unique by its id.

    A point overwrites another one of its series and time, and processes on several hosts may write within one
    nanosecond.
    """
    return int(row.at // MILLISECOND * MILLISECOND + row.id % MILLISECOND)


def group_of(row: Event) -> GroupKey | None:
    """The group that an event is about."""
    if row.campaign is None or row.workflow is None or row.group_name is None:
        return None
    return row.campaign, row.workflow, row.group_name


class PointMaker:
    """Makes the points of events that come in the order of their ids.

    After the first of a group none of it is left out.
    """

    def __init__(self) -> None:
        self._histories: OrderedDict[GroupKey, GroupHistory] = OrderedDict()
        self._facts: OrderedDict[GroupKey, GroupFacts] = OrderedDict()

    def forget(self, groups: Iterable[GroupKey] | None = None) -> None:
        """Read the histories of these groups anew, or of all: an event turned up late, or a batch was not finished."""
        if groups is None:
            self._histories.clear()
            return
        for key in groups:
            self._histories.pop(key, None)

    def prepare(self, connection: Connection, rows: Sequence[Event]) -> None:
        """Read what :meth:`points` of these events needs."""
        if not rows:
            return
        first: dict[GroupKey, int] = {}
        for row in rows:
            if (row.entity in HISTORY or _needs_facts(row)) and (key := group_of(row)):
                first.setdefault(key, row.id)
        keys = set(first)
        self._load_histories(connection, {key: first[key] for key in keys - self._histories.keys()})
        named = {key for row in rows if _needs_facts(row) and (key := group_of(row))}
        self._load_facts(connection, named - self._facts.keys())
        _shrink(self._histories, keys)
        _shrink(self._facts, named)

    def points(self, row: Event) -> list[Point]:
        """The points of one event of those that were prepared."""
        make = _MAKERS.get(row.entity)
        return make(self, row) if make else []

    def _load_histories(self, connection: Connection, before: Mapping[GroupKey, int]) -> None:
        """Read what the groups were before these events."""
        for campaign, workflow, names in _by_workflow(before):
            query = select_of(Event, event).where(
                event.c.campaign == campaign,
                event.c.workflow == workflow,
                event.c.group_name.in_(names),
                tables.GROUP_HISTORY,
                event.c.id < max(before[campaign, workflow, name] for name in names),
            )
            found = {name: GroupHistory() for name in names}
            for row in read_rows(connection, query.order_by(event.c.id), Event):
                if (key := group_of(row)) is not None and row.id < before[key]:
                    found[key[2]].apply(row)
            self._histories.update({(campaign, workflow, name): history for name, history in found.items()})

    def _load_facts(self, connection: Connection, keys: set[GroupKey]) -> None:
        columns = ("name", "grouping", "first_run", "start")
        for campaign, workflow, names in _by_workflow(keys):
            query = select(*(run_group.c[name] for name in columns)).where(
                run_group.c.campaign == campaign, run_group.c.workflow == workflow, run_group.c.name.in_(names)
            )
            for row in connection.execute(query):
                self._facts[campaign, workflow, row.name] = GroupFacts(row.grouping, row.first_run, row.start)

    # one method per entity

    def _of_membership(self, row: Event) -> list[Point]:
        key = group_of(row)
        if key is None or row.run is None:
            return []
        history = self._histories[key]
        history.apply(row)
        if row.to_state not in ("grouped", *_OUT_OF_IT):
            return []
        made = []
        for name, task in sorted(history.tasks.items()):
            state = _OUT_OF_IT.get(row.to_state, task.state)
            code = row.to_state if row.to_state in _OUT_OF_IT else task.code
            made.append(_run_task(row, key, name, row.run, state, task.generation, code))
        return made

    def _of_group_task(self, row: Event) -> list[Point]:
        key = group_of(row)
        if key is None or row.task is None:
            return []
        history = self._histories[key]
        changes = history.apply(row)
        task = history.tasks.get(row.task)
        code, generation = (task.code, task.generation) if task else ("", 0)
        made = []
        for run, dropped in sorted(history.members.items()):
            state = "skipped" if dropped else row.to_state or "removed"
            made.append(_run_task(row, key, row.task, run, state, generation, code))
        for change in changes:
            if isinstance(change, DeadlineChange):
                made.append(_deadline(row, key, change))
                continue
            tags = (*key[:2], row.task, change.awaited.name, change.state)
            fields = {
                "group": row.group_name,
                "waited": change.waited,
                "done": change.awaited.done,
                "total": change.awaited.total,
                "event": row.id,
            }
            made.append(point("lock", tags, fields, time_of(row)))
        return made

    def _of_run_group(self, row: Event) -> list[Point]:
        key = group_of(row)
        if key is None:
            return []
        history = self._histories[key]
        history.apply(row)
        facts = self._facts.get(key)
        fields = {
            "group": row.group_name,
            "first_run": facts and facts.first_run,
            "last_run": self._last_run(key),
            "runs": history.runs,
            "open_seconds": round((row.at - (history.opened or row.at)) / 1e9, 3),
            "reason": (reason_of(row) or {}).get("code", ""),
            "late": history.late,
            "edition": history.edition,
            "event": row.id,
        }
        return [point("group", (*key[:2], facts.grouping if facts else NONE, row.to_state), fields, time_of(row))]

    def _of_job(self, row: Event) -> list[Point]:
        data = row.data
        fields = {
            **data,  # of which the fields are taken
            "group": row.group_name,
            "generation": row.generation,
            "job": row.job_index,
            "attempt": row.attempt,
            "from_state": row.from_state or "",
            "reason": data.get("reason") or "",
            "progress": None,
            "event": row.id,
        }
        tags = (row.campaign, row.workflow, row.task, row.to_state, data.get("failure"))
        made = [point("job", tags, fields, time_of(row))]
        if row.to_state == "succeeded":
            made += self._values(row, final=True)
        return made

    def _of_value(self, row: Event) -> list[Point]:
        made = self._values(row, final=False)
        if row.data.get("progress") is not None:
            fields = {
                "group": row.group_name,
                "generation": row.generation,
                "job": row.job_index,
                "attempt": row.attempt,
                "from_state": "running",
                "progress": row.data["progress"],
                "event": row.id,
            }
            made.append(point("job", (row.campaign, row.workflow, row.task, "running", None), fields, time_of(row)))
        return made

    def _values(self, row: Event, *, final: bool) -> list[Point]:
        told = row.data.get("values") or {}
        if not isinstance(told, dict):
            raise TypeError(f"the values are {told!r}"[:200])
        key = group_of(row)
        facts = self._facts.get(key) if key else None
        made: dict[tuple[str, ...], Point] = {}
        for name, (value, error) in sorted(told.items()):
            fields = {
                "value": value,
                # A point that overwrites another one leaves fields that it does not have as they were.
                "error": error if error is not None else 0.0,
                "group": row.group_name or "",
                "first_run": facts.first_run if facts else 0,
                "last_run": self._last_run(key) or 0,
                "generation": row.generation or 0,
                "job": row.job_index or 0,
                "recorded_at": row.at,
                "final": final,
                "event": row.id,
            }
            tags = (row.campaign, row.workflow, row.task, name)
            item = point("value", tags, fields, self._detector_time(row, key))
            made[item.tags] = item  # two names that only differ in what a tag cannot have are one series
        return list(made.values())

    def _last_run(self, key: GroupKey | None) -> int | None:
        """The last run that a group has by now; one of a hand-written DAG has a single number."""
        if key is None:
            return None
        history, facts = self._histories.get(key), self._facts.get(key)
        return history.last_run if history and history.last_run is not None else facts and facts.first_run

    def _detector_time(self, row: Event, key: GroupKey | None) -> int:
        """The start of the group's data, made unique by its first run and the job; without a start the event's time."""
        facts = self._facts.get(key) if key else None
        history = self._histories.get(key) if key else None
        start = history.start if history and history.says_start else facts and facts.start
        if facts is None or start is None:
            return time_of(row)
        seconds = int((start - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() // 1)
        return seconds * 10**9 + facts.first_run % 1000 * MILLISECOND + (row.job_index or 0) % MILLISECOND

    def _of_payload(self, row: Event) -> list[Point]:
        fields = {
            **{name: row.data.get(name) for name in ("first_run", "last_run", "revision", "size")},
            "group": row.group_name,
            "content_hash": row.data.get("hash"),
            "event": row.id,
        }
        tags = (row.campaign, row.workflow, row.task, row.data.get("tag"), row.to_state)
        return [point("payload", tags, fields, time_of(row))]

    def _of_system(self, row: Event) -> list[Point]:
        return [point("system", (row.campaign, row.workflow), {**row.data, "event": row.id}, time_of(row))]

    def _of_campaign(self, row: Event) -> list[Point]:
        """What a person or injection has changed; the figures follow within a minute."""
        if row.campaign == campaigns.DAGS:
            return []
        changed = {name: row.data[name] or 0 for name in ("priority", "max_groups", "max_jobs") if name in row.data}
        fields = {"state": row.to_state, **changed, "event": row.id}
        return [point("campaign", (row.campaign,), fields, time_of(row))]

    def _of_campaign_figures(self, row: Event) -> list[Point]:
        return [point("campaign", (row.campaign,), {**row.data, "event": row.id}, time_of(row))]

    def _of_publication_deadline(self, row: Event) -> list[Point]:
        """A publication's deadline, as those of locks are; it is none before its group is closed."""
        data: Mapping[str, Any] = row.data
        if "due" not in data:
            return []
        ends = datetime.fromisoformat(data["due"]).timestamp()
        fields = {
            "group": row.group_name,
            "ends": int(ends),
            "left": round(ends - row.at / 1e9, 3),
            "near": row.to_state == "near",
            "then": data.get("then"),
            "event": row.id,
        }
        state = "waiting" if row.to_state in ("counting", "near") else row.to_state
        return [point("deadline", (row.campaign, row.workflow, row.task, "publication", state), fields, time_of(row))]

    def _of_step(self, row: Event) -> list[Point]:
        """What was found of a step of an iteration: a point for each metric, or one if there is none."""
        if row.to_state != "judged":
            return []
        data: Mapping[str, Any] = row.data
        report, judged = data.get("report") or {}, data.get("judged") or {}
        ended, off = judged.get("ended") or {}, judged.get("deviations") or {}
        about = {
            "group": row.group_name,
            "generation": row.generation,
            "step": row.data.get("step"),
            "ending": ended.get("name"),
            "event": row.id,
        }
        metrics = report.get("metrics") or {NONE: {}}
        place = (row.campaign, row.workflow, row.task, row.data.get("stage"), row.data.get("phase"))
        return [
            point("step", (*place, name), {**about, **one, "deviation": off.get(name)}, time_of(row))
            for name, one in metrics.items()
        ]


_MAKERS = {name: getattr(PointMaker, f"_of_{name}") for name in ENTITIES}


def _needs_facts(row: Event) -> bool:
    return row.entity == "run_group" or bool(row.entity in ("job", "value") and row.data.get("values"))


def _run_task(row: Event, key: GroupKey, task: str, run: int, state: str, generation: int, code: str) -> Point:
    fields = {
        "state": state,
        "state_code": STATE_CODES.get(state),
        "group": key[2],
        "generation": generation,
        "reason": code,
        "event": row.id,
    }
    return point("run_task", (key[0], key[1], task, run), fields, time_of(row))


def _deadline(row: Event, key: GroupKey, change: DeadlineChange) -> Point:
    one = change.deadline
    fields = {
        "group": key[2],
        "ends": int(one.ends.timestamp()),
        "left": change.left,
        "near": one.near,
        "then": one.then,
        "event": row.id,
    }
    return point("deadline", (*key[:2], row.task, change.lock, change.state), fields, time_of(row))


def _by_workflow(keys: Iterable[GroupKey]) -> Iterator[tuple[str, str, list[str]]]:
    """Campaign, workflow and some names of groups, so many that a statement can have them."""
    workflows: dict[tuple[str, str], list[str]] = {}
    for campaign, workflow, name in sorted(keys):
        workflows.setdefault((campaign, workflow), []).append(name)
    for (campaign, workflow), names in workflows.items():
        for start in range(0, len(names), AT_ONCE):
            yield campaign, workflow, names[start : start + AT_ONCE]


def _shrink(kept: OrderedDict[GroupKey, T], used: set[GroupKey]) -> None:
    """Forget what was not used for longest; never what is used now."""
    for key in used & kept.keys():
        kept.move_to_end(key)
    while len(kept) > max(REMEMBERED, len(used)):
        kept.popitem(last=False)
