"""What a generation remembers of what it reads: the JSON of its column ``used``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from airflow_calib_provider.domain.reasons import Reason


class UsedPayload(TypedDict):
    """A payload that jobs read."""

    id: int
    tag: str
    revision: int
    hash: str


class Used(TypedDict, total=False):
    """What a generation reads.

    :ivar generations: need → ids of generations.
    :ivar not_selected: need → runs that its workflow did not select.
    :ivar former: payloads that a validation compares with: what it makes is not made of them.
    :ivar gone_on: the locks that it went on without, :ivar outside: and payloads of outside stores.
    :ivar failed_runs: run → why it was left out, here or in what it was made from (rule 49).
    """

    generations: dict[str, list[int]]
    payloads: list[UsedPayload]
    former: list[UsedPayload]
    not_selected: dict[str, list[int]]
    gone_on: list[Mapping[str, Any]]
    outside: list[Mapping[str, Any]]
    failed_runs: dict[str, Reason]
