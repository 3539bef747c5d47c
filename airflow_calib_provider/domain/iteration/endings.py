"""How a phase ends, by name, and what follows from it.

As PETSc gives a reason with each end of a solver, good ones apart from bad ones, and Keras keeps the best epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class EndingName(StrEnum):
    """How a phase ends."""

    CONVERGED = "converged"
    """All metrics are inside, or the update says that it is done."""
    SINGLE_PASS = "single_pass"  # noqa: S105 - no password
    """Its one visit is made."""
    FIXED_COUNT = "fixed_count"
    """Its visits are made."""
    NO_CHANGE = "no_change"
    """Inside, and the constants are those with which the phase began: the update finds nothing that is significant."""
    MAX_STEPS = "max_steps"
    """Not good after as many steps, or as long, as it may take."""
    STALLED = "stalled"
    """Outside, and no longer coming closer."""
    OSCILLATING = "oscillating"
    """From one side of the target to the other, and hardly coming closer."""
    DIVERGING = "diverging"
    """Ever further away."""
    NOT_FINITE = "not_finite"
    """A value is NaN or infinite."""
    NOT_ENOUGH_DATA = "not_enough_data"
    """Whether it is inside would be luck."""
    FAILED = "failed"
    """A step has no result: no quorum, no report, constants that cannot be read."""
    KILLED = "killed"
    """A person ended it."""


PUBLISHES = frozenset({EndingName.CONVERGED, EndingName.SINGLE_PASS, EndingName.FIXED_COUNT})
"""Whose constants may be published, without anybody accepting them."""

ADVANCES = PUBLISHES | {EndingName.NO_CHANGE}
"""After which the next phase begins."""

ACCEPTABLE = (
    EndingName.MAX_STEPS,
    EndingName.STALLED,
    EndingName.OSCILLATING,
    EndingName.DIVERGING,
    EndingName.NOT_ENOUGH_DATA,
)
"""What a spec may accept by name: then its best step counts, the next phase begins, and the result is published."""

SPOILT = frozenset({EndingName.NOT_FINITE, EndingName.NOT_ENOUGH_DATA, EndingName.FAILED, EndingName.KILLED})
"""After which the constants that the last step made are not to be trusted, and its visit is made again."""


@dataclass(frozen=True)
class ConstantsOf:
    """Which constants: those that a step began with, or those that its update made.

    :ivar step: its number.
    :ivar updated: ``False``: the ones that it measured.
    """

    step: int
    updated: bool


@dataclass(frozen=True)
class PhaseEnd:
    """That a phase has ended, how and why.

    :ivar step: the number of the step at which it ended, :ivar visit: which of the phase's it is, from 1.
    :ivar metric: the one that decided, or is worst; ``None`` where there is none.
    :ivar best: the number of the step with the least u; the earliest of equals.
    :ivar result: the constants that the phase hands on; ``None`` if it does not advance.
    :ivar accepted: by name, in the spec.
    :ivar numbers: what stands behind it, as JSON, for :mod:`~airflow_calib_provider.domain.iteration.words`.
    """

    name: EndingName
    stage: int
    phase: str
    step: int
    visit: int
    metric: str | None = None
    best: int | None = None
    result: ConstantsOf | None = None
    accepted: bool = False
    numbers: Mapping[str, object] = field(default_factory=dict)

    @property
    def advances(self) -> bool:
        """Whether the next phase begins."""
        return self.accepted or self.name in ADVANCES

    @property
    def publishes(self) -> bool:
        """Whether its constants may be published as new ones."""
        return self.accepted or self.name in PUBLISHES

    def reason(self) -> dict[str, object]:
        """As it is stored, and told."""
        about = {"stage": self.stage, "phase": self.phase, "step": self.step, "visit": self.visit}
        more = {"metric": self.metric, "best": self.best, "accepted": self.accepted or None}
        known = {key: value for key, value in more.items() if value is not None}
        return {"code": f"iteration_{self.name}", **about, **known, **self.numbers}
