"""Every run is a group."""

from __future__ import annotations

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping
from airflow_calib_provider.domain.groupings.base import GroupingKeys, GroupingKind


class RunKind(GroupingKind):
    """Every run is a group."""

    name = "run"
    keys = GroupingKeys
    single = True

    def policy(self, keys: GroupingKeys, label: str) -> Grouping:
        return Grouping(kind=self.name, label=label)

    def after(self, group: GroupDraft) -> None:
        group.close("run")


KIND = RunKind()
