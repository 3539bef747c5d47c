"""A phase as it is declared, and a step as it was made and judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_calib_provider.domain.iteration.endings import SPOILT, EndingName, PhaseEnd
from airflow_calib_provider.domain.iteration.metrics import Fault, Metric, Reported

MIN_STEPS, CONFIRM, MAX_STEPS = 2, 1, 30
"""What holds of a phase that says nothing else; in steps."""

MEASURED, UPDATED = "measured", "updated"
"""Which constants a phase ends with: those that were found good, or those that its last update made."""


@dataclass(frozen=True)
class Detectors:
    """From when on an iteration is not going where it should; what each number is, says its detector.

    All are pure numbers: u is in tolerances, the others are ratios.
    """

    far: float = 10.0
    wild: float = 1000.0
    risen: float = 2.0
    swing: float = 0.9
    progress: float = 0.95


@dataclass(frozen=True)
class Phase:
    """What is repeated, and until when: by ``metrics``, a number of ``visits``, or the update's ``verdict``.

    Limits that are not stated are ``None``; :attr:`confirm_steps` and the others say what holds.

    :ivar needs: phases whose results it uses.
    :ivar freeze: a metric that is inside is kept, and counts no more.
    :ivar confirm: in so many steps running everything must be inside.
    :ivar min_steps: so many steps are made before the phase can end by itself, :ivar max_steps: and at most so many.
    :ivar max_wall: seconds that it may take; looked at when a step is judged.
    :ivar min_events: a step with fewer has not enough data.
    :ivar result: ``measured`` or ``updated``.
    :ivar accept: endings of :data:`~airflow_calib_provider.domain.iteration.endings.ACCEPTABLE`, by name.
    """

    name: str
    metrics: tuple[Metric, ...] = ()
    visits: int | None = None
    verdict: bool = False
    needs: tuple[str, ...] = ()
    freeze: bool | None = None
    confirm: int | None = None
    min_steps: int | None = None
    max_steps: int | None = None
    max_wall: float | None = None
    min_events: int | None = None
    result: str | None = None
    accept: tuple[str, ...] = ()
    detectors: Detectors = Detectors()

    @property
    def confirm_steps(self) -> int:
        """In so many steps running everything must be inside."""
        return CONFIRM if self.confirm is None else self.confirm

    @property
    def least_steps(self) -> int:
        """So many steps are made before it can end by itself."""
        return MIN_STEPS if self.min_steps is None else self.min_steps

    @property
    def most_steps(self) -> int:
        """So many steps it may take."""
        return MAX_STEPS if self.max_steps is None else self.max_steps

    @property
    def ends_updated(self) -> bool:
        """Whether it ends with the constants of its last update: by default only where nothing measures them."""
        return self.result == UPDATED if self.result is not None else not self.metrics


@dataclass(frozen=True)
class MadeStep:
    """A step whose update has ended, before it is judged.

    :ivar n: its number in the iteration, from 1, never used again, :ivar visit: and in its phase.
    :ivar constants_in: the hash of the constants that were measured, :ivar constants_out: of those that the update
        made; empty: not known.
    :ivar events: on which it rests; ``None``: nobody counted.
    :ivar seconds: since its phase began or was resumed.
    """

    n: int
    stage: int
    phase: str
    visit: int
    outcome: Reported | Fault = field(default_factory=Reported)
    constants_in: str = ""
    constants_out: str = ""
    events: int | None = None
    seconds: float | None = None

    @property
    def unchanged(self) -> bool:
        """Whether the update has made the very constants that it was given."""
        return bool(self.constants_in) and self.constants_in == self.constants_out


@dataclass(frozen=True)
class JudgedStep:
    """A step with what was found: a row that never changes, but for its two flags.

    :ivar deviations: metric → d; empty where nothing could be compared, :ivar u: the largest |d| that counts.
    :ivar worst: the metric that it is of.
    :ivar frozen: the metrics that are frozen after it.
    :ivar ended: how the phase ended with it; ``None``: it goes on.
    :ivar resumed: a person went on after its ending, which was none to go on from.
    :ivar discarded: a person went back to before it: it counts for nothing any more.
    """

    made: MadeStep
    deviations: Mapping[str, float] = field(default_factory=dict)
    u: float | None = None
    worst: str | None = None
    frozen: tuple[str, ...] = ()
    ended: PhaseEnd | None = None
    resumed: bool = False
    discarded: bool = False

    @property
    def n(self) -> int:
        """Its number."""
        return self.made.n

    @property
    def spoilt(self) -> bool:
        """Whether its visit does not count."""
        return self.ended is not None and not self.ended.advances and self.ended.name in SPOILT

    def of(self, stage: int, phase: str) -> bool:
        """Whether it is a step of this phase, in this stage, that counts."""
        return (self.made.stage, self.made.phase, self.discarded) == (stage, phase, False)

    @property
    def verdict(self) -> str:
        """A word for what was found: ``iterate``, or the name of the ending."""
        return "iterate" if self.ended is None else EndingName(self.ended.name).value
