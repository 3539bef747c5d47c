"""A grouping: so many runs each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping
from airflow_calib_provider.domain.groupings.base import GroupingKeys, GroupingKind


class PairsKeys(GroupingKeys):
    """The block ``pairs``."""

    size: Annotated[int, Field(ge=1, description="so many runs")] = 2


class PairsKind(GroupingKind):
    """So many runs each."""

    name = "pairs"
    keys = PairsKeys
    until = "closes with its last run"

    def policy(self, keys: PairsKeys, label: str) -> Grouping:
        return Grouping(kind=self.name, label=label, options={"size": keys.size})

    def after(self, group: GroupDraft) -> None:
        if group.n_runs >= int(str(group.policy.options["size"])):
            group.close("counted")


KIND = PairsKind()
