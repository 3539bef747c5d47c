"""In which order groups are opened, and how many DAG runs may be open at once (rules 26, 27, 56)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from airflow_calib_provider.ledger import campaigns
from airflow_calib_provider.ledger.rows import Queued
from airflow_calib_provider.settings import number

Dag = tuple[str, str]
"""Workflow and grouping."""


@dataclass(frozen=True)
class OpeningLimits:
    """How many DAG runs may be open (rule 27).

    :ivar max_open: per DAG, all campaigns together.
    :ivar prompt_share: the part of it that only ``prompt`` may use (rule 26).
    :ivar window: per DAG and campaign: how many waiting groups are shown as DAG runs.
    :ivar starting: per DAG, those of other campaigns than ``prompt`` for which Airflow is to start a task: so many may
        be before one of ``prompt``.
    """

    max_open: int = 100
    prompt_share: float = 0.2
    window: int = 20
    starting: int = 2

    @classmethod
    def as_set(cls) -> OpeningLimits:
        """``CALIB_MAX_OPEN``, ``CALIB_WINDOW`` and ``CALIB_STARTING``.

        :raises SettingError: one is not a number.
        """
        return cls(max_open=int(number("MAX_OPEN")), window=int(number("WINDOW")), starting=int(number("STARTING")))

    def working(self, campaign: str) -> int:
        """How many of a DAG may work, as far as a campaign is concerned: a share is for ``prompt`` alone."""
        return self.max_open - (0 if campaign == campaigns.PROMPT else int(self.max_open * self.prompt_share))


class Queue(NamedTuple):
    """A grouping whose groups may be opened.

    :ivar newest: whether those of its newest runs come first.
    :ivar max_groups: how many groups of its campaign may be open.
    :ivar begins_later: its campaign begins in the middle: nothing is opened only to show that it waits, as no sensor
        stands where the DAG has an edge.
    """

    campaign: str
    workflow: str
    grouping: str
    priority: int
    newest: bool
    max_groups: int | None
    begins_later: bool


def in_order(rows: Iterable[Queued], queues: Iterable[Queue]) -> list[Queued]:
    """``prompt`` first, then by priority; of each the forming group, then in the order of the campaign.

    The forming group comes first: what takes data now is what people look for in the grid.
    """
    of_campaign = {queue.campaign: queue for queue in queues}
    found = list(rows)
    ends: dict[str, list[int]] = defaultdict(list)
    for row in found:
        ends[row.campaign].append(row.first_run)

    def place(row: Queued) -> tuple[bool, int, bool, int]:
        queue = of_campaign[row.campaign]
        # Mirrored, so that beside another campaign neither comes first as a whole.
        mirrored = min(ends[row.campaign]) + max(ends[row.campaign]) - row.first_run
        first = mirrored if queue.newest else row.first_run
        return row.campaign != campaigns.PROMPT, -queue.priority, row.state != "forming", first

    return sorted(found, key=place)


@dataclass(frozen=True)
class OpenCounts:
    """The DAG runs that are open.

    :ivar working: by DAG, those that work.
    :ivar waiting: by DAG and campaign, those that wait.
    :ivar of_campaign: by campaign, those in which something runs or can run now.
    :ivar over: groups with one in which nothing is left to do.
    :ivar starting: by DAG, those of other campaigns than ``prompt`` for which Airflow is to start a task: the first,
        the next, or one again whose jobs have ended.
    """

    working: dict[Dag, int]
    waiting: dict[tuple[Dag, str], int]
    of_campaign: dict[str, int]
    over: Sequence[int]
    starting: dict[Dag, int]


@dataclass(frozen=True)
class Room:
    """How many DAG runs may still be opened.

    :ivar of_campaign: what its campaign says, by that.
    """

    limits: OpeningLimits
    counts: OpenCounts
    of_campaign: Mapping[str, Queue]

    def _free(self, campaign: str, dag: tuple[str, str]) -> bool:
        most = self.of_campaign[campaign].max_groups
        if most is not None and self.counts.of_campaign[campaign] >= most:
            return False
        if campaign != campaigns.PROMPT and self.counts.starting[dag] >= self.limits.starting:
            return False
        return self.counts.working[dag] < self.limits.working(campaign)

    def _shown(self, campaign: str, dag: tuple[str, str]) -> bool:
        """Whether one more may be open only to show that it waits."""
        most = self.of_campaign[campaign].max_groups
        if self.of_campaign[campaign].begins_later:
            return False
        window = self.limits.window if most is None else min(self.limits.window, most)
        return self.counts.waiting[dag, campaign] < window

    def of(self, queue: Queue, most: int) -> int:
        """How many groups of this DAG and campaign are looked at.

        :param most: so many, if one of them can be opened to work; only to show that they wait, few are enough.
        """
        dag = (queue.workflow, queue.grouping)
        if self._free(queue.campaign, dag):
            return most
        return min(most, 2 * self.limits.window) if self._shown(queue.campaign, dag) else 0

    def take(self, row: Queued, *, ready: bool) -> bool:
        """Take it for a group, if there is any of its kind."""
        dag = (row.workflow, row.grouping)
        if ready:
            if not self._free(row.campaign, dag):
                return False
            self.counts.working[dag] += 1
            self.counts.of_campaign[row.campaign] += 1
            self.counts.starting[dag] += row.campaign != campaigns.PROMPT
            return True
        if not self._shown(row.campaign, dag):
            return False
        self.counts.waiting[dag, row.campaign] += 1
        return True
