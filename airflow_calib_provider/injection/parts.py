"""What an assignment decided, written in parts: a group that is too large for one is forming until its last part."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime

from airflow_calib_provider.domain.grouping import Assignment, GroupDraft, Grouping, RunFacts, assign
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import IllegalTransition


def decided(
    policy: Grouping,
    forming: GroupDraft | None,
    history: Sequence[RunFacts],
    runs: Sequence[RunFacts],
    now: datetime,
    *,
    finite: bool,
    before: Reason | None = None,
    bound: int | None = None,
    gone: str = "",
) -> Assignment:
    """An assignment, which of a finite campaign is its last.

    :param history: all runs from the first one of the forming group on that were assigned by an injection that died.
        What it decided is decided once more, from the beginning of that group, so that of a tail is known which runs
        have joined.
    :param before: how the last group ended.
    :param bound: all runs below are assigned then.
    :param gone: as of :func:`~airflow_calib_provider.domain.grouping.assign`.
    """
    if history and forming is not None:
        again = GroupDraft(forming.policy, id=forming.id, open_reason=forming.open_reason)
        found = assign(policy, again, [*history, *runs], now, final=finite, finite=finite, bound=bound, gone=gone)
        written = {run.number for run in history}
        if not any(written & set(draft.added) for draft in found.groups if draft is not again):
            again.added = [number for number in again.added if number not in written]
            return found
    return assign(policy, forming, runs, now, final=finite, finite=finite, before=before, bound=bound, gone=gone)


class Parts:
    """The groups of an assignment, as they are written one part after the other.

    A crash between two parts leaves a ledger as if the source had listed the runs up to there only, so that the next
    injection goes on from it.

    :param forming: the group that took runs before, as it was then.
    :param facts: of every run.
    """

    def __init__(self, assignment: Assignment, forming: GroupDraft | None, facts: Mapping[int, RunFacts]) -> None:
        self.refused: Mapping[int, Reason] = assignment.refused
        self._drafts = assignment.groups
        self._facts = facts
        self._group_of = {number: n for n, draft in enumerate(self._drafts) for number in draft.added}
        self._written = [
            deepcopy(forming)
            if forming is not None and draft.id == forming.id
            else GroupDraft(draft.policy, late=draft.late, open_reason=draft.open_reason)
            for draft in self._drafts
        ]
        self._left = [len(draft.added) for draft in self._drafts]
        self._places: dict[int, int] = {}
        self._first: set[int] = set()

    def check(self, forming: GroupDraft | None) -> None:
        """Make sure that nobody else has grouped meanwhile.

        :param forming: the group that takes runs now.
        :raises IllegalTransition: it is another one than is known here.
        """
        open_now = [one for one in self._written if one.id is not None and one.state == "forming"]
        known = [(one.id, one.last_run, one.n_runs) for one in open_now]
        if known != ([] if forming is None else [(forming.id, forming.last_run, forming.n_runs)]):
            raise IllegalTransition("the group that takes runs was changed by another injection meanwhile")

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to be written."""
        return not self._group_of and all(one.state == "forming" for one in self._drafts)

    def of(self, numbers: Sequence[int]) -> tuple[list[GroupDraft], list[GroupDraft]]:
        """The groups that these runs are in, as they are to be written now; and those of them of which nothing is left.

        :param numbers: the next runs, in order.
        """
        taken: dict[int, list[int]] = defaultdict(list)
        for number in numbers:
            if (place := self._group_of.get(number)) is not None:
                taken[place].append(number)
        ended = [place for place, left in enumerate(self._left) if not left and place not in taken]
        for place in ended:
            if self._written[place].state == "forming" != self._drafts[place].state:
                taken[place] = []
        drafts, complete = [], []
        self._places, self._first = {}, set()
        for place, added in sorted(taken.items()):
            written = self._written[place]
            written.added = []
            for number in added:
                written.add(self._facts[number])
            self._left[place] -= len(added)
            part = replace(written, added=added)
            if not self._left[place]:
                part = replace(self._drafts[place], id=written.id, added=added)
                complete.append(part)
            written.state = part.state
            if part.id is None:
                self._first.add(id(part))
            self._places[id(part)] = place
            drafts.append(part)
        return drafts, complete

    def dropping(self, numbers: Sequence[int]) -> list[int]:
        """The groups, by id, that are dropped with these runs, and have others from before."""
        with_these = Counter(place for number in numbers if (place := self._group_of.get(number)) is not None)
        return [
            written.id
            for place, (draft, written) in enumerate(zip(self._drafts, self._written, strict=True))
            if draft.state == "dropped" and written.state == "forming" and self._left[place] == with_these[place]
            if written.id is not None
        ]

    def stored(self, drafts: Sequence[GroupDraft]) -> None:
        """These have their ids now."""
        for part in drafts:
            self._written[self._places[id(part)]].id = part.id

    def is_new(self, part: GroupDraft) -> bool:
        """Whether this was the first part of a group."""
        return id(part) in self._first

    def group_of(self, number: int) -> GroupDraft | None:
        """The group that a run is in, as far as it is written."""
        place = self._group_of.get(number)
        return None if place is None else self._written[place]
