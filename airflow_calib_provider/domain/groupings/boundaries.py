"""The runs between two given ones are a group: periods that people have found, or that a file lists."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar

from pydantic import Field, JsonValue
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts
from airflow_calib_provider.domain.groupings.base import GroupingKind, SeveralRunsKeys
from airflow_calib_provider.domain.keys import NotEmpty, Where, Words
from airflow_calib_provider.domain.run import MAX_RUN_NUMBER
from airflow_calib_provider.domain.scalars import WHAT, Filled, Text, mistake, whole

_RUNS, _FILE, _HASH = "first_runs", "file", "sha256"
_ABSORBED = "absorbed"
"""Among the marks of a group: the boundaries beyond which it went on, as it had too little."""

Run = Annotated[int, whole(1, MAX_RUN_NUMBER)]


class BoundariesKeys(SeveralRunsKeys):
    """The block ``boundaries``."""

    says: ClassVar[str] = "the runs between two given ones: [group_by.boundaries](#group_byboundaries)"

    first_runs: Annotated[
        tuple[Run, ...],
        NotEmpty("expected [<run>, …]"),
        Words(type="list of run numbers", default="those of `file`"),
        Field(
            description="with which run each group begins, in order; the last one is open until there is a further one"
        ),
    ] = ()
    file: Annotated[
        Filled | None,
        Words(name="{above}.{key}"),
        Field(
            description="a CSV file with them, relative to this one, which is read at every injection; instead of "
            "`first_runs`"
        ),
    ] = None
    column: Annotated[
        Text, Words(name="{above}.{key}"), Field(description="the header of the file's column with the runs")
    ] = "first_run"

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """They stand in one place, and in order."""
        yield from super().check()
        if self.has(_RUNS) == self.has(_FILE):
            has = "both first_runs and file" if self.has(_FILE) else "neither first_runs nor file"
            yield (), mistake(f"{WHAT} has {has}", "exactly one of them")
        for position, (before, after) in enumerate(pairwise(self.first_runs), 1):
            if after <= before:
                yield (
                    (_RUNS, position),
                    mistake(f"{WHAT} is {after}, after {before}", "each larger than the one before"),
                )

    @classmethod
    def more_schema(cls) -> dict[str, object]:
        """What :meth:`check` says, as JSON Schema."""
        return {**super().more_schema(), "oneOf": [{"required": [_RUNS]}, {"required": [_FILE]}]}


class BoundariesKind(GroupingKind):
    """The runs between two given ones."""

    name = "boundaries"
    cuts = True
    reader = "spec.boundaries_file:read"
    keys = BoundariesKeys
    until = "closes when there is a further boundary and the runs before it are complete"
    example = "{boundaries: {first_runs: [<run>, …]}}"

    def is_short(self) -> bool:
        """Never: somebody must have given the runs."""
        return False

    def policy(self, keys: BoundariesKeys, label: str) -> Grouping:
        """With the runs, or the file that has them."""
        given: dict[str, JsonValue] = (
            {_RUNS: list(keys.first_runs)} if keys.first_runs else {_FILE: keys.file, "column": keys.column}
        )
        return Grouping(kind=self.name, label=label, options=given)

    def stored(self, policy: Grouping) -> Grouping:
        """Without the runs: they are data, read at every injection."""
        options = {name: value for name, value in policy.options.items() if name != _RUNS}
        return policy.model_copy(update={"options": options})

    def live(self, policy: Grouping, now: Grouping) -> Grouping:
        """The policy that a group opened with, and the boundaries of now."""
        return policy.model_copy(update={"options": now.options})

    def refuses(self, policy: Grouping, run: RunFacts) -> Mapping[str, object] | None:
        """A run before the first boundary is in no group."""
        runs = _runs(policy)
        if not runs or run.number >= runs[0]:
            return None
        return {"code": "before_boundaries", "first": runs[0], "grouping": policy.label}

    def opens(self, policy: Grouping, run: RunFacts) -> Mapping[str, JsonValue]:
        """The boundary, and the file that had it."""
        runs = _runs(policy)
        digest = policy.options.get(_HASH)
        opened: dict[str, JsonValue] = {"boundary": runs[bisect_right(runs, run.number) - 1]}
        return {**opened, _HASH: digest} if digest else opened

    def took(self, group: GroupDraft, run: RunFacts) -> None:
        """A group that has too little goes on beyond boundaries, which do not cut it then."""
        known = group.marks.get(_ABSORBED)
        before: list[JsonValue] = list(known) if isinstance(known, list) else []
        behind = max([group.first_run, *(one for one in before if isinstance(one, int))])
        if more := _between(_runs(group.policy), behind, run.number):
            group.marks[_ABSORBED] = [*before, *more]

    def before(self, group: GroupDraft, run: RunFacts) -> None:
        """A run behind the next boundary ends the group."""
        end = _next(group)
        if end is not None and run.number >= end:
            group.finish("boundary", boundary=end)

    def reached(self, group: GroupDraft, bound: int) -> None:
        """So does the boundary itself, when the runs before it are assigned."""
        end = _next(group)
        if end is not None and bound >= end:
            group.finish("boundary", boundary=end)

    def at_last(self, group: GroupDraft) -> None:
        """Nothing follows: only a group that would go on is unfinished."""
        group.finish("last_boundary")

    def cut(self, group: GroupDraft, now: Grouping) -> int | None:
        """A boundary that came after the runs behind it had joined the group."""
        known = group.marks.get(_ABSORBED)
        absorbed = set(known) if isinstance(known, list) else set()
        inside = _between(_runs(now), group.first_run, group.last_run)
        return next((one for one in inside if one not in absorbed), None)


def _runs(policy: Grouping) -> Sequence[int]:
    found: Any = policy.options.get(_RUNS)
    return found or []


def _between(runs: Sequence[int], above: int, to: int) -> Sequence[int]:
    """Those above one run, up to another one: a list may be long, and is asked for each run and each group."""
    return runs[bisect_right(runs, above) : bisect_right(runs, to)]


def _next(group: GroupDraft) -> int | None:
    runs = _runs(group.policy)
    place = bisect_right(runs, group.last_run)
    return runs[place] if place < len(runs) else None


KIND = BoundariesKind()
