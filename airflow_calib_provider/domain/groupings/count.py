"""So many runs are a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping
from airflow_calib_provider.domain.groupings.base import GroupingKind, SeveralRunsKeys
from airflow_calib_provider.domain.keys import Words
from airflow_calib_provider.domain.scalars import whole

MOST = 100_000
"""Runs of a group."""


class CountKeys(SeveralRunsKeys):
    """The block ``count``."""

    says: ClassVar[str] = "so many runs: [group_by.count](#group_bycount)"

    runs: Annotated[
        Annotated[int, whole(2, MOST)] | None,
        Words(name="{above}.{key}", missing="so many runs, such as {count: {runs: 10}}"),
        Field(description="a group closes with this many runs"),
    ] = None


class CountKind(GroupingKind):
    """So many runs."""

    name = "count"
    keys = CountKeys
    until = "closes with its last run"
    example = "{count: {runs: 10}}"

    def policy(self, keys: CountKeys, label: str) -> Grouping:
        """With the number of runs."""
        return Grouping(kind=self.name, label=label, options={"runs": keys.runs})

    def ends(self, options: Mapping[str, Any]) -> str:
        """The number of its last run."""
        return f"closes with {options['runs']} runs" if "runs" in options else self.until

    def after(self, group: GroupDraft) -> None:
        """It closes with the run that makes it whole."""
        runs = group.policy.options["runs"]
        if isinstance(runs, int) and group.n_runs >= runs:
            group.finish("counted", runs=group.n_runs)


KIND = CountKind()
