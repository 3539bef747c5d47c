"""What is wrong with the phases and stages that a person declares: all of it, each with the key that it concerns.

Only what the keys mean together: their types and limits are their declarations' own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from airflow_calib_provider.domain.iteration.endings import ACCEPTABLE, PUBLISHES
from airflow_calib_provider.domain.iteration.metrics import WITHIN
from airflow_calib_provider.domain.iteration.phases import MEASURED, UPDATED, Phase
from airflow_calib_provider.domain.iteration.sequence import Corner, Iterate, Stage
from airflow_calib_provider.domain.listing import listed

Path = tuple[str | int, ...]
"""Keys, and positions in lists, from the block ``iterate`` down."""


@dataclass(frozen=True)
class Misdeclared:
    """Something that is wrong.

    :ivar path: the key that it concerns; a key that is missing is that of its mapping.
    :ivar expected: what would be right; empty where the message says it.
    :ivar word: what may be misspelt, :ivar options: and what it may have meant.
    """

    path: Path
    message: str
    expected: str = ""
    word: str = ""
    options: tuple[str, ...] = ()


def mistakes(declared: Iterate) -> tuple[Misdeclared, ...]:
    """All mistakes, in the order of the keys; none: :func:`~.sequence.plan` makes a plan of it."""
    found: list[Misdeclared] = []
    if not declared.phases:
        found.append(Misdeclared(("phases",), "there is no phase", "at least one"))
    for name, many in Counter(phase.name for phase in declared.phases).items():
        if many > 1:
            found.append(Misdeclared(("phases", name), f"the phase {name} is declared {many} times"))
    for phase in declared.phases:
        found += [*_ending(phase), *_limits(phase), *_metrics(phase), *_named(declared, phase)]
    found += [*_sequence(declared), *_corners(declared)]
    # With a sequence that is not what is meant, what comes before what is not known either.
    if declared.phases and not any(one.path[0] in ("sequence", "start", "stop") for one in found):
        found += _needs(declared)
    return tuple(found)


def _ending(phase: Phase) -> Iterator[Misdeclared]:
    """By what it ends: exactly one of three."""
    here: Path = ("phases", phase.name)
    if phase.visits is not None and phase.metrics:
        yield Misdeclared(
            (*here, "visits"),
            f"{phase.name} has visits and metrics",
            "one of them: so many visits, or until it is good",
        )
    elif phase.verdict and (phase.metrics or phase.visits is not None):
        other = "metrics" if phase.metrics else "visits"
        yield Misdeclared((*here, "until"), f"{phase.name} has until: verdict and {other}", "one of them")
    elif not phase.metrics and phase.visits is None and not phase.verdict:
        yield Misdeclared(here, f"{phase.name} never ends", "metrics, visits, or until: verdict")
    if phase.visits is not None and phase.visits < 1:
        yield Misdeclared((*here, "visits"), f"{phase.name}.visits is {phase.visits}", "a whole number, at least 1")
    if phase.result not in (None, MEASURED, UPDATED):
        yield Misdeclared(
            (*here, "result"), f"{phase.name}.result is {phase.result}", "", phase.result or "", (MEASURED, UPDATED)
        )
    elif phase.result == MEASURED and phase.visits is not None:
        yield Misdeclared(
            (*here, "result"), f"{phase.name} has visits, so that nothing measures what it ends with", "result: updated"
        )


def _limits(phase: Phase) -> Iterator[Misdeclared]:
    here: Path = ("phases", phase.name)
    for key in ("confirm", "min_steps", "max_steps", "min_events"):
        if (number := getattr(phase, key)) is not None and number < 1:
            yield Misdeclared((*here, key), f"{phase.name}.{key} is {number}", "a whole number, at least 1")
    if phase.max_wall is not None and not 0 < phase.max_wall < math.inf:
        yield Misdeclared((*here, "max_wall"), f"{phase.name}.max_wall is {phase.max_wall:g} s", "a time above 0")
    for key, least in (("confirm", phase.confirm_steps), ("min_steps", phase.least_steps)):
        stated = getattr(phase, key) is not None
        if phase.metrics and least > phase.most_steps:
            yield Misdeclared(
                (*here, key if stated else "max_steps"),
                f"{phase.name} cannot converge: {key} is {least}, and max_steps {phase.most_steps}",
                f"{key} of at most max_steps",
            )
    for key in _meaningless(phase):
        yield Misdeclared((*here, key), f"{phase.name}.{key} means nothing without {_WITHOUT[key]}", "neither, or both")


_WITHOUT = dict.fromkeys(("freeze", "confirm", "min_steps"), "metrics") | dict.fromkeys(
    ("max_steps", "max_wall", "accept"), "metrics or until: verdict"
)


def _meaningless(phase: Phase) -> list[str]:
    """Keys that are stated, and would do nothing, as the phase ends otherwise."""
    if phase.metrics:
        return []
    ends_itself = phase.verdict or phase.visits is None
    stated = [key for key in _WITHOUT if getattr(phase, key) not in (None, ())]
    return [key for key in stated if not (ends_itself and key in ("max_steps", "max_wall", "accept"))]


def _metrics(phase: Phase) -> Iterator[Misdeclared]:
    for name, many in Counter(metric.name for metric in phase.metrics).items():
        if many > 1:
            where = ("phases", phase.name, "metrics", name)
            yield Misdeclared(where, f"the metric {name} of {phase.name} is declared {many} times")
    for metric in phase.metrics:
        here: Path = ("phases", phase.name, "metrics", metric.name)
        if not math.isfinite(metric.target):
            yield Misdeclared((*here, "target"), f"{metric.name}.target is {metric.target}", "a finite number")
        elif said := metric.mistake():
            yield Misdeclared((*here, "within"), f"{metric.name}.within: {said}", WITHIN)


def _named(declared: Iterate, phase: Phase) -> Iterator[Misdeclared]:
    """What a phase names: endings, and phases that exist."""
    names, acceptable = _phases(declared), tuple(str(name) for name in ACCEPTABLE)
    for position, name in enumerate(phase.accept):
        if name not in acceptable:
            here: Path = ("phases", phase.name, "accept", position)
            said = "is published anyway" if name in PUBLISHES else "cannot be accepted"
            yield Misdeclared(here, f"{name} {said}", f"one of {listed(acceptable, 10)}", name, acceptable)
    for position, name in enumerate(phase.needs):
        if name not in names:
            here = ("phases", phase.name, "needs", position)
            yield Misdeclared(here, f"{phase.name} needs {name}, which is no phase", _one(names), name, names)


def _phases(declared: Iterate) -> tuple[str, ...]:
    return tuple(dict.fromkeys(phase.name for phase in declared.phases))


def _one(names: tuple[str, ...]) -> str:
    return f"one of {listed(names, 10)}"


def _sequence(declared: Iterate) -> Iterator[Misdeclared]:
    names = _phases(declared)
    if declared.sequence is None:
        return
    if not any(stage.phases for stage in declared.sequence):
        yield Misdeclared(("sequence",), "the sequence is empty", "at least one stage with a phase")
        return
    for index, stage in enumerate(declared.sequence):
        yield from _stage(index, stage, names)
    for index, (one, other) in enumerate(pairwise(declared.sequence), start=1):
        if other.number <= one.number:
            said = f"stage {other.number} comes after stage {one.number}"
            yield Misdeclared(("sequence", index, "stage"), said, "numbers that rise")
    used = {name for stage in declared.sequence for name in stage.phases}
    for name in names:
        if name not in used:
            yield Misdeclared(("phases", name), f"the phase {name} is in no stage", "a stage that has it")


def _stage(index: int, stage: Stage, names: tuple[str, ...]) -> Iterator[Misdeclared]:
    here: Path = ("sequence", index, "phases")
    if not stage.phases:
        yield Misdeclared(here, f"stage {stage.number} has no phase", "at least one")
    for position, name in enumerate(stage.phases):
        if name not in names:
            said = f"stage {stage.number} has {name}, which is no phase"
            yield Misdeclared((*here, position), said, _one(names), name, names)
        elif name in stage.phases[:position]:
            said = f"stage {stage.number} has {name} twice"
            yield Misdeclared((*here, position), said, "each phase once in a stage; a further stage repeats it")


def _corners(declared: Iterate) -> Iterator[Misdeclared]:
    wrong = [one for key in ("start", "stop") for one in _corner(declared, key, getattr(declared, key))]
    yield from wrong
    if not wrong and declared.order and declared.start and declared.first() > declared.last():
        start, stop = (_at(declared.order[position]) for position in (declared.first(), declared.last()))
        yield Misdeclared(("start",), f"it starts at {start}, after it stops: at {stop}", "a start before the stop")


def _corner(declared: Iterate, key: str, corner: Corner | None) -> Iterator[Misdeclared]:
    if corner is None:
        return
    stages = {stage.number: stage.phases for stage in declared.stages}
    if corner.stage is not None and corner.stage not in stages:
        known = listed(sorted(stages), 10)
        yield Misdeclared((key, "stage"), f"{key}.stage is {corner.stage}, which is no stage", f"one of {known}")
        return
    here = tuple(dict.fromkeys(name for _, name in declared.order))
    if corner.stage is not None:
        here = stages[corner.stage]
    if corner.phase is not None and corner.phase not in here:
        where = "any stage" if corner.stage is None else f"stage {corner.stage}"
        said = f"{key}.phase is {corner.phase}, which is not in {where}"
        yield Misdeclared((key, "phase"), said, _one(here), corner.phase, here)
    elif corner.stage is None and corner.phase is None:
        yield Misdeclared((key,), f"{key} names nothing", "stage, phase, or both")
    elif corner.stage is None and len(found := declared.positions(corner)) > 1:
        said = f"{key}.phase is {corner.phase}, which is in {len(found)} stages"
        numbers = listed([declared.order[position][0] for position in found], 10)
        yield Misdeclared((key,), said, f"{key}.stage, one of {numbers}")


def _needs(declared: Iterate) -> Iterator[Misdeclared]:
    """A phase that is needed is executed before."""
    order = declared.order[declared.first() : declared.last() + 1]
    phases, told = {phase.name: phase for phase in declared.phases}, set()
    for position, (stage, name) in enumerate(order):
        before = {done for _, done in order[:position]}
        for index, need in enumerate(phases[name].needs):
            if need in phases and need not in before and (name, need) not in told:
                told.add((name, need))
                here: Path = ("phases", name, "needs", index)
                yield Misdeclared(
                    here, f"{name} in stage {stage} needs {need}, which {_why(order, name, need)}", _EXPECTED
                )


_EXPECTED = "the phase before it, between start and stop"


def _why(order: tuple[tuple[int, str], ...], name: str, need: str) -> str:
    if need == name:
        return "is itself"
    if need in {later for _, later in order}:
        return "is executed only after it"
    return "is not executed"


def _at(place: tuple[int, str]) -> str:
    return f"stage {place[0]}, {place[1]}"
