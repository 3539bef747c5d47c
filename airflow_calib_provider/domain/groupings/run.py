"""Every run is a group."""

from __future__ import annotations

from airflow_calib_provider.domain.grouping import Grouping, GroupKind
from airflow_calib_provider.domain.groupings.base import GroupingKeys, GroupingKind


class RunKind(GroupingKind):
    """Every run is a group."""

    name = "run"
    keys = GroupingKeys

    def policy(self, keys: GroupingKeys, label: str) -> Grouping:
        return Grouping(kind=GroupKind.RUN, label=label)


KIND = RunKind()
