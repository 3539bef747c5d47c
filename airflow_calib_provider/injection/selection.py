"""Which runs of a source enter a workflow, and why the others do not (rules 9, 10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.spec.models import RunSelection


@dataclass(frozen=True)
class Admission:
    """What is decided about one run: ``state`` is ``grouped``, ``not_selected`` or ``refused``."""

    state: str
    reason: Reason | None = None


ADMITTED = Admission("grouped")


@dataclass(frozen=True)
class Selector:
    """The rules of one workflow in one campaign.

    :ivar first_seen: when the workflow was first seen; runs that ended before are not taken unless ``since`` is stated.
    :ivar members: a finite campaign's runs; ``None`` in a streamed one.
    """

    selection: RunSelection
    condition: Callable[[Mapping[str, Any]], bool] | None
    first_seen: datetime
    members: frozenset[int] | None = None

    def admit(
        self,
        number: int,
        start: datetime | None,
        end: datetime | None,
        fields: Mapping[str, Any],
        completed_at: datetime | None = None,
    ) -> Admission:
        """Decide about a completed run. Evaluated once, at injection; the outcome is stored.

        :param completed_at: when the run was first read as completed, for sources that do not tell its end.
        """
        if self.members is not None:
            if number not in self.members:
                return Admission("not_selected", {"code": "not_in_campaign"})
        elif before := self._before(number, start, end, completed_at):
            return before
        if self.condition is None:
            return ADMITTED
        try:
            fits = self.condition({"number": number, "start": start, "end": end, **fields})
        except CalibError as error:
            return Admission("refused", {"code": "condition_error", "message": str(error)})
        return ADMITTED if fits else Admission("not_selected", {"code": "where_false", "where": self.selection.where})

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
