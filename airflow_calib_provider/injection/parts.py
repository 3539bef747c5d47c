"""What an assignment decided, written in parts: a group that is too large for one is forming until its last part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

from airflow_calib_provider.domain.grouping import Assignment, GroupDraft, RunFacts
from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import IllegalTransition


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
            deepcopy(forming) if forming is not None and draft.id == forming.id else GroupDraft(draft.policy)
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
