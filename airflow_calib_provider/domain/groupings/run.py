"""Every run is a group."""

from __future__ import annotations

from typing import ClassVar

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping
from airflow_calib_provider.domain.groupings.base import GroupingKeys, GroupingKind


class RunKeys(GroupingKeys):
    """The block ``run``."""

    says: ClassVar[str] = "every run is a group: [group_by.run](#group_byrun)"


class RunKind(GroupingKind):
    """Every run is a group."""

    name = "run"
    keys = RunKeys
    single = True

    def policy(self, keys: GroupingKeys, label: str) -> Grouping:
        """Without parameters."""
        return Grouping(kind=self.name, label=label)

    def after(self, group: GroupDraft) -> None:
        """One run is all that a group takes."""
        group.close("run")


KIND = RunKind()
