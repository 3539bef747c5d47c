"""Every run is a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from airflow_calib_provider.domain.grouping import GroupDraft
from airflow_calib_provider.domain.groupings.base import GroupingKeys, GroupingKind


class RunKeys(GroupingKeys):
    """The block ``run``."""

    says: ClassVar[str] = "every run is a group: [group_by.run](#group_byrun)"
    absent: ClassVar[Mapping[str, str]] = {
        "failed_runs": "a group of a single run has no others to go on with; it waits, or `calib skip` ends it"
    }


class RunKind(GroupingKind):
    """Every run is a group."""

    name = "run"
    keys = RunKeys
    single = True

    def after(self, group: GroupDraft) -> None:
        """One run is all that a group takes."""
        group.close("run")


KIND = RunKind()
