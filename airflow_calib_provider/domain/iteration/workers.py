"""What is wrong with the workers that a person declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from airflow_calib_provider.domain.iteration.mistakes import Misdeclared
from airflow_calib_provider.domain.listing import listed
from airflow_calib_provider.domain.quantities import format_duration

HEARTBEAT, LOST_AFTER = 30.0, 300.0
"""Seconds, of workers that say nothing else."""

_SIGNS = 3
"""Signs of life that there are to be in ``lost_after``."""

ONLY_RESERVED = ("heartbeat", "lost_after", "max_replacements", "wall")
"""Keys that mean nothing of workers that are submitted anew for each step."""


@dataclass(frozen=True)
class PhaseUse:
    """What a phase says of the inputs of its jobs.

    :ivar use: the workers' inputs that it names, :ivar inputs: and whether it has its own.
    """

    use: str | None = None
    inputs: bool = False


@dataclass(frozen=True)
class WorkersDeclared:
    """The block ``workers``; times are in seconds.

    :ivar count: ``None``: it is missing, which is told elsewhere.
    :ivar stated: the keys that stand there.
    :ivar inputs: names; the number of files where it is known without rendering.
    :ivar own_split: phases that say themselves how they are split.
    """

    count: int | None
    reserve: bool
    stated: frozenset[str] = frozenset()
    heartbeat: float = HEARTBEAT
    lost_after: float = LOST_AFTER
    wall: float | None = None
    inputs: Mapping[str, int | None] = field(default_factory=dict)
    own_split: frozenset[str] = frozenset()


def worker_mistakes(workers: WorkersDeclared | None, phases: Mapping[str, PhaseUse]) -> Iterator[Misdeclared]:
    """All mistakes, in the order of the keys.

    :param workers: ``None``: there is no such block.
    """
    names = tuple(workers.inputs) if workers is not None else ()
    if workers is not None:
        yield from _times(workers)
        yield from _unused(workers, {phase.use for phase in phases.values()})
    for phase, one in phases.items():
        here = ("phases", phase, "measure")
        if one.use is None:
            continue
        if one.use not in names:
            said = f"{phase} uses {one.use}, which is none of workers.inputs"
            expected = f"one of {listed(names, 10)}" if names else "workers: {inputs: {<name>: <files>}}"
            yield Misdeclared((*here, "use"), said, expected, one.use, names)
        elif one.inputs:
            yield Misdeclared((*here, "use"), f"{phase} has use and inputs", "one of them")
        elif workers is not None and phase not in workers.own_split:
            known = workers.inputs[one.use]
            if known is not None and workers.count is not None and workers.count > known:
                said = f"{workers.count} workers cannot share the {known} files of {one.use}"
                yield Misdeclared(("workers", "inputs", one.use), said, "at least one file for each worker")


def _times(workers: WorkersDeclared) -> Iterator[Misdeclared]:
    if not workers.reserve:
        for key in ONLY_RESERVED:
            if key in workers.stated:
                yield Misdeclared(("workers", key), f"workers.{key} means nothing without reserve", "reserve: true")
        return
    beat = _time(workers.heartbeat)
    # One that sleeps gives its sign of life up to a heartbeat later.
    if workers.lost_after < _SIGNS * max(workers.heartbeat, 1):
        lost = _time(workers.lost_after)
        key = "lost_after" if "lost_after" in workers.stated else "heartbeat"
        said = f"workers.lost_after is {lost}, and there is a sign of life every {beat}"
        yield Misdeclared(("workers", key), said, "at least three times heartbeat")
    if workers.wall is not None and workers.wall < 10 * workers.heartbeat:
        said = f"workers.wall is {_time(workers.wall)}, and there is a sign of life every {beat}"
        yield Misdeclared(("workers", "wall"), said, "at least ten times heartbeat")


def _time(seconds: float) -> str:
    return format_duration(timedelta(seconds=seconds))


def _unused(workers: WorkersDeclared, used: set[str | None]) -> Iterator[Misdeclared]:
    for name in workers.inputs:
        if name not in used:
            said = f"no phase uses the inputs {name}"
            yield Misdeclared(("workers", "inputs", name), said, f"measure: {{use: {name}}}")
