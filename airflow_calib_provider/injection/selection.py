"""Which runs of a source enter a workflow, and why the others do not (rules 9, 10, 52)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.ledger.rows import Run
from airflow_calib_provider.spec.conditions import Condition, ConditionError
from airflow_calib_provider.spec.language import CATEGORIES_FILE
from airflow_calib_provider.spec.models import RunSelection, RunSource


@dataclass(frozen=True)
class Admission:
    """What is decided about one run: ``state`` is ``grouped``, ``not_selected`` or ``refused``."""

    state: str
    reason: Reason | None = None


ADMITTED = Admission("grouped")


class Outcomes:
    """What conditions say of runs: each is compiled once, and asked once of each run, for all who name it."""

    def __init__(self) -> None:
        self._conditions: dict[tuple[str, str], Condition] = {}
        self._known: dict[tuple[str, str, int, str], bool | ConditionError] = {}

    def condition(self, text: str, source: RunSource) -> Condition:
        """:raises ConditionError: it cannot be read, or does not fit the source."""
        key = (source.name, text)
        if key not in self._conditions:
            self._conditions[key] = Condition(text, source.fields)
        return self._conditions[key]

    def of(self, text: str, source: RunSource, row: Run) -> bool | ConditionError:
        """Whether a run, as it is in the ledger, meets a condition; or why that cannot be told."""
        key = (source.name, text, row.number, row.content_hash)
        if key not in self._known:
            try:
                self._known[key] = self.condition(text, source).evaluate(values_of(row))
            except ConditionError as error:
                self._known[key] = error
        return self._known[key]


def values_of(row: Run) -> dict[str, object]:
    """What conditions see of a run."""
    return {**row.fields, "number": row.number, "start": row.start, "end": row.end}


class Admissions:
    """What a workflow's categories and condition say of runs.

    Each run is asked about once in an injection, however many groupings and campaigns want to know.

    :param source: where the runs come from: it declares the types of their fields.
    :param outcomes: shared with other workflows.
    :raises ConditionError: a condition cannot be read, or a category has none any more.
    """

    def __init__(self, selection: RunSelection, source: RunSource, outcomes: Outcomes | None = None) -> None:
        self._where, self._categories, self._source = selection.where, selection.categories, source
        self._outcomes = Outcomes() if outcomes is None else outcomes
        for name, text in self._categories.items():
            if not text:
                raise ConditionError(f"there is no category {name!r} any more", f"declare it in {CATEGORIES_FILE}")
        for text in (*self._categories.values(), *([self._where] if self._where else [])):
            self._outcomes.condition(text, source)
        self._known: dict[tuple[int, str], Admission] = {}

    def admission(self, row: Run) -> Admission:
        """Whether the conditions admit a run, as it is in the ledger."""
        if not self._categories and self._where is None:
            return ADMITTED
        key = (row.number, row.content_hash)
        if key not in self._known:
            self._known[key] = self._of_categories(row) or self._of_where(row)
        return self._known[key]

    def _of_categories(self, row: Run) -> Admission | None:
        """Why a run is in none of the categories; ``None``: it is in one, or there are none.

        What cannot be told of one of them does not matter where it is in another.
        """
        found = {name: self._outcomes.of(text, self._source, row) for name, text in self._categories.items()}
        if not found or any(one is True for one in found.values()):
            return None
        for name, one in found.items():
            if isinstance(one, ConditionError):
                message = f"in the category {name}: {one}"
                return Admission("refused", {"code": "condition_error", "message": message})
        return Admission("not_selected", {"code": "in_no_category", "categories": list(found)})

    def _of_where(self, row: Run) -> Admission:
        fits = True if self._where is None else self._outcomes.of(self._where, self._source, row)
        if isinstance(fits, ConditionError):
            return Admission("refused", {"code": "condition_error", "message": str(fits)})
        return ADMITTED if fits else Admission("not_selected", {"code": "where_false", "where": self._where})


@dataclass(frozen=True)
class Selector:
    """The rules of one workflow in one campaign.

    :ivar first_seen: when the workflow was first seen; runs that ended before are not taken unless ``since`` is stated.
    :ivar members: a finite campaign's runs; ``None`` in a streamed one.
    """

    selection: RunSelection
    admissions: Admissions
    first_seen: datetime
    members: frozenset[int] | None = None

    def decide(self, row: Run, skipped: Mapping[int, Mapping[str, object]], now: datetime) -> Admission:
        """Decide about a run below the horizon, completed or not.

        :param skipped: runs that a person skipped here, with what was said.
        """
        if row.completed or (self.members is not None and row.number not in self.members):
            return self.admit(row)
        if row.number in skipped:
            return Admission("refused", {"code": "run_skipped", **skipped[row.number]})
        after = self.selection.incomplete_after
        if after is None or row.start is None or now - row.start <= after:
            return Admission("refused", {"code": "not_listed"})
        return Admission("refused", {"code": "incomplete_too_long", "after": format_duration(after)})

    def admit(self, row: Run) -> Admission:
        """Decide about a completed run. Decided once, at injection; the outcome is stored."""
        return self.without_condition(row) or self.admissions.admission(row)

    def without_condition(self, row: Run) -> Admission | None:
        """What is decided about a run whatever the condition says; ``None``: ask it."""
        if self.members is not None:
            return None if row.number in self.members else Admission("not_selected", {"code": "not_in_campaign"})
        # Of sources that do not tell a run's end, the time counts when it was first read as completed.
        return self._before(row.number, row.start, row.end, row.completed_at)

    def _before(
        self, number: int, start: datetime | None, end: datetime | None, completed_at: datetime | None
    ) -> Admission | None:
        since = self.selection.since
        if isinstance(since, int):
            early = number < since
        elif isinstance(since, datetime):
            early = start is None or start < since
        else:
            if end is not None and end >= self.first_seen:
                return None
            # What the read that comes with the workflow's first sight brings may be years old.
            if end is None and completed_at is not None and completed_at > self.first_seen:
                return None
            return Admission("not_selected", {"code": "before_first_seen", "first_seen": self.first_seen.isoformat()})
        return Admission("not_selected", {"code": "before_since", "since": str(since)}) if early else None


def outcome(
    number: int,
    admission: Admission,
    refused: Mapping[int, Reason],
    assigned_below: int,
    grouped_late: Collection[int] = (),
) -> tuple[str, Reason | None]:
    """The state of a run in a grouping, with its reason.

    :param refused: runs that cannot be grouped.
    :param assigned_below: runs below were assigned before.
    :param grouped_late: runs that are in a group though they arrived late.
    """
    if admission is not ADMITTED:
        return admission.state, admission.reason
    if number in refused:
        return "refused", refused[number]
    if number < assigned_below:
        return "grouped" if number in grouped_late else "late", {"code": "late", "assigned_below": assigned_below}
    return "grouped", None
