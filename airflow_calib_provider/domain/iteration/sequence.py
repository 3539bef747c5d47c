"""Stages and phases: in which order they are visited, and which step is next. Pure functions.

An iteration is a list of *legs*, each a phase in a stage. A leg has one visit or more: its steps. Steps are numbered
through all legs, and a number is never used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_calib_provider.domain.iteration.endings import ConstantsOf, EndingName, PhaseEnd
from airflow_calib_provider.domain.iteration.phases import JudgedStep, Phase
from airflow_calib_provider.domain.listing import listed
from airflow_calib_provider.errors import CalibError


@dataclass(frozen=True)
class Stage:
    """Phases that are made one after the other."""

    number: int
    phases: tuple[str, ...]


@dataclass(frozen=True)
class Corner:
    """Where an iteration starts or stops, the named phase included.

    :ivar stage: ``None``: the only one that has the phase.
    :ivar phase: ``None``: the first of the stage to start with, the last of it to stop with.
    """

    stage: int | None = None
    phase: str | None = None


@dataclass(frozen=True)
class Iterate:
    """What a task's block ``iterate`` says of phases and their order.

    :ivar sequence: ``None``: one stage, number 1, of all phases in the order in which they are written.
    """

    phases: tuple[Phase, ...]
    sequence: tuple[Stage, ...] | None = None
    start: Corner | None = None
    stop: Corner | None = None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The sequence, or what stands for none."""
        if self.sequence is not None:
            return self.sequence
        return (Stage(1, tuple(dict.fromkeys(phase.name for phase in self.phases))),)

    @property
    def order(self) -> tuple[tuple[int, str], ...]:
        """(stage, phase) of the whole sequence, before start and stop cut it."""
        return tuple((stage.number, phase) for stage in self.stages for phase in stage.phases)

    def positions(self, corner: Corner) -> list[int]:
        """Where in :attr:`order` a corner may be; several, if a phase of several stages is named alone."""
        return [
            position
            for position, (stage, phase) in enumerate(self.order)
            if corner.stage in (None, stage) and corner.phase in (None, phase)
        ]

    def first(self) -> int:
        """The position in :attr:`order` at which it starts; 0 where that cannot be meant."""
        return next(iter(self.positions(self.start)), 0) if self.start else 0

    def last(self) -> int:
        """The position in :attr:`order` at which it stops, included; the last where that cannot be meant."""
        ends = self.positions(self.stop) if self.stop else []
        return ends[-1] if ends else len(self.order) - 1


@dataclass(frozen=True)
class Leg:
    """A phase in a stage, to be made until it ends."""

    stage: int
    phase: Phase


@dataclass(frozen=True)
class IterationPlan:
    """The legs to be made, in their order."""

    legs: tuple[Leg, ...]

    def index(self, stage: int, phase: str) -> int:
        """The position of a leg.

        :raises CalibError: there is no such leg, as after an edit of the sequence.
        """
        for position, leg in enumerate(self.legs):
            if (leg.stage, leg.phase.name) == (stage, phase):
                return position
        raise CalibError(
            f"phase {phase} of stage {stage}, of which steps were made, is not between start and stop any more",
            f"go on from one that is (--from-phase): {listed(list(map(_named, self.legs)), 10)}",
        )


def plan(declared: Iterate) -> IterationPlan:
    """The legs from start to stop. What is declared has no mistakes.

    A phase with ``visits: 1`` is a single pass; how many visits the others take is seen when they are made.
    """
    phases = {phase.name: phase for phase in declared.phases}
    cut = declared.order[declared.first() : declared.last() + 1]
    return IterationPlan(tuple(Leg(stage, phases[name]) for stage, name in cut))


@dataclass(frozen=True)
class Next:
    """The step that is to be made.

    :ivar visit: which step of its phase it is, from 1, :ivar n: and of the iteration.
    :ivar constants: those that it measures; ``None``: those with which the iteration starts.
    :ivar frozen: metrics whose part of the constants the update is to keep.
    """

    stage: int
    phase: str
    visit: int
    n: int
    constants: ConstantsOf | None = None
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class IterationEnd:
    """That there is no next step.

    :ivar name: of the last phase that changed anything; where the spec accepted an ending, the last such: what is
        published says that not all of it converged. ``no_change`` only if no phase changed anything.
    :ivar ends: how the phases ended, in their order.
    :ivar result: the constants that the iteration ends with; ``None``: it has failed.
    :ivar publishes: these are published as new ones, :ivar extends: or the validity of the former payload is extended.
    """

    name: EndingName
    ends: tuple[PhaseEnd, ...]
    result: ConstantsOf | None
    publishes: bool
    extends: bool

    def reason(self) -> dict[str, object]:
        """That of the phase which gave it its name."""
        named = [end for end in self.ends if end.name is self.name]
        return (named or list(self.ends))[-1].reason()


def next_step(plan: IterationPlan, steps: Sequence[JudgedStep], *, taken: int = 0) -> Next | IterationEnd:
    """What follows, from the steps that were judged, and from nothing else.

    A phase that goes on measures what its last update made. After an ending that advances, the next phase begins with
    the constants that the ended one hands on: those that were found good, or those of its last update. After any other
    ending there is no next step, until a person goes on: with what the last update made, or, if that
    step was spoilt, with the constants that it began with, for the same visit.

    :param steps: in the order in which they were made, discarded ones among them.
    :param taken: the highest number of a step that was begun and thrown away before it was judged.
    :raises CalibError: the plan has no such phase any more.
    """
    live = [step for step in steps if not step.discarded]
    n = max([taken, *(step.n for step in steps)]) + 1
    if not live:
        return Next(plan.legs[0].stage, plan.legs[0].phase.name, 1, n)
    last = live[-1]
    position, end = plan.index(last.made.stage, last.made.phase), last.ended
    if end is None or (last.resumed and not end.advances):
        visit = sum(1 for step in live if step.of(last.made.stage, last.made.phase) and not step.spoilt) + 1
        constants = ConstantsOf(last.n, updated=not last.spoilt)
        return Next(last.made.stage, last.made.phase, visit, n, constants, last.frozen)
    if not end.advances or position + 1 == len(plan.legs):
        return _ended([step.ended for step in live if step.ended is not None and not step.resumed])
    following = plan.legs[position + 1]
    return Next(following.stage, following.phase.name, 1, n, end.result)


def _ended(ends: Sequence[PhaseEnd]) -> IterationEnd:
    last = ends[-1]
    if not last.advances:
        return IterationEnd(last.name, tuple(ends), None, publishes=False, extends=False)
    telling = [end for end in ends if end.name is not EndingName.NO_CHANGE]
    named = ([end for end in telling if end.accepted] or telling or [last])[-1]
    return IterationEnd(named.name, tuple(ends), last.result, publishes=bool(telling), extends=not telling)


def _named(leg: Leg) -> str:
    return f"{leg.phase.name} of stage {leg.stage}"
