"""The keys of ``iterate``: phases that repeat a job set and an update until constants are good."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain import nodes
from airflow_calib_provider.domain.iteration.endings import ACCEPTABLE
from airflow_calib_provider.domain.iteration.metrics import WITHIN, Within, parse_within
from airflow_calib_provider.domain.keys import Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.scalars import (
    WHAT,
    Duration,
    Flag,
    Fraction,
    Name,
    OneOf,
    Reads,
    Tag,
    Template,
    mistake,
    number,
    text,
    unlike,
    whole,
)
from airflow_calib_provider.spec.job_keys import Inputs, JobsKeys
from airflow_calib_provider.spec.language import MAX_JOBS
from airflow_calib_provider.spec.product_keys import ProductFile, ProductValue

_PERCENT = re.compile(r"([-+]?\d+(?:\.\d*)?) ?%", re.ASCII)

MOST_STEPS = 100_000
"""Of a phase."""


def _within(value: object) -> Within:
    is_number = isinstance(value, nodes.Scalar) and value.kind in ("int", "float")
    if is_number and number(value) <= 0:
        raise mistake(f"{WHAT} is {number(value):g}", f"expected {WITHIN}")
    try:
        return parse_within(number(value) if is_number else text(value, WITHIN))
    except ValueError as error:
        raise unlike(value, WITHIN) from error


def _target(value: object) -> float:
    if isinstance(value, nodes.Scalar) and (percent := _PERCENT.fullmatch(value.text)):
        raise unlike(
            value, "a number", f"write {float(percent[1]) / 100:g}; percents stand only in within, of the target"
        )
    return number(value)


def _accepted(value: object) -> str:
    found, known = text(value), tuple(str(one.value) for one in ACCEPTABLE)
    if found not in known:
        raise mistake(f"{WHAT} is {found!r}", f"expected one of {', '.join(known)}", word=found, options=known)
    return found


Tolerance = Annotated[
    Within, Reads(_within, {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}, WITHIN)
]
Accepted = Annotated[str, Reads(_accepted, {"enum": [str(one.value) for one in ACCEPTABLE]}, "ending")]
Target = Annotated[float, Reads(_target, {"type": "number"}, "number")]
Steps = Annotated[int, whole(1, MOST_STEPS)]
Stage = Annotated[int, whole(1, 10_000)]
Workers = Annotated[int, whole(1, MAX_JOBS)]
Replacements = Annotated[int, whole(0, 10_000_000)]
Events = Annotated[int, whole(1, 10**15)]


class ConstantsFromKeys(Keys):
    """``from``: where the first constants are."""

    called: ClassVar[str] = "{above}.{key}"

    payload: Annotated[
        Tag | None,
        Field(description="the published payload of this tag that holds for the group's runs, else the last before"),
    ] = None
    file: Annotated[Template | None, Field(description="a file")] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """One of them."""
        if self.has("payload") == self.has("file"):
            yield (), mistake(f"{WHAT} has {'both' if self.has('file') else 'neither'}", "expected payload or file")


class ConstantsKeys(Keys):
    """``constants``."""

    called: ClassVar[str] = "{above}.{key}"

    file: Annotated[
        ProductFile | None,
        Words(name="{above}.{key}", missing="what updates call the file in CALIB_OUT"),
        Field(description="the file with the new constants that an update leaves in `CALIB_OUT`"),
    ] = None
    source: Annotated[
        ConstantsFromKeys | None,
        NotEmpty("payload or file"),
        Words(name="{above}.{key}", missing="where the first ones are: {payload: <tag>} or {file: <file>}"),
        Field(alias="from", description="where the first ones are"),
    ] = None
    otherwise: Annotated[
        Template | None,
        Words(default="the task fails"),
        Field(alias="else", description="a file that is taken where no payload was published yet"),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """Something else is taken only where there may be nothing."""
        if self.has("otherwise") and self.source is not None and not self.source.has("payload"):
            yield ("else",), mistake(f"{WHAT} without from.payload", "expected from: {payload: <tag>}")


class MetricKeys(Keys):
    """A metric."""

    called: ClassVar[str] = "{above}.{key}"

    target: Annotated[Target | None, Words(missing="a number"), Field(description="what it is to be")] = None
    within: Annotated[
        Tolerance | None,
        Words(missing=WITHIN),
        Field(description="how far from it is good enough: in its own unit, or of the target: `2%`"),
    ] = None


class MeasuredKeys(Keys):
    """What ``measure`` has besides the keys of ``jobs``."""

    products: Annotated[
        dict[Name, ProductValue],
        Words(key="the product", name="{above}.{key}", type="mapping of names to files"),
        Field(default_factory=dict, description="what each job leaves in `CALIB_OUT` for the update"),
    ]
    min_events: Annotated[
        Events | None,
        Words(name="{above}.{key}", default="no limit"),
        Field(description="with fewer, by the value `events` that its jobs report, a step has not enough data"),
    ] = None
    use: Annotated[
        Name | None,
        Words(name="{above}.{key}", default="`inputs`, or none"),
        Field(description="which of the [workers](#iterateworkers)' inputs are shared out among its jobs"),
    ] = None


class MeasureKeys(MeasuredKeys, JobsKeys):
    """``measure``: a job set, as ``jobs``, run in every step with the constants of the step."""


class UpdateKeys(JobsKeys):
    """``update``: one job that makes new constants of what was measured."""

    products: Annotated[
        dict[Name, ProductValue],
        Words(key="the product", name="{above}.{key}", type="mapping of names to files"),
        Field(default_factory=dict, description="what it leaves besides the constants, for other phases"),
    ]

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """It is one job."""
        if self.has("split"):
            yield ("split",), mistake("an update is split", "expected one job: measure is what is split")
        if self.has("quorum"):
            yield (
                ("quorum",),
                mistake("an update has a quorum", "expected none: it is one job, and measure has several"),
            )


class PhaseKeys(Keys):
    """A phase."""

    measure: Annotated[
        MeasureKeys | None,
        Words(name="{above}.{key}", missing="{command: […]}"),
        Field(description="the job set of each of its steps: as [jobs](#jobs), and [measure](#iteratemeasure)"),
    ] = None
    update: Annotated[
        UpdateKeys | None,
        Words(name="{above}.{key}", missing="{command: […]}"),
        Field(description="one job, which makes new constants and reports the metrics: as [jobs](#jobs)"),
    ] = None
    metrics: Annotated[
        dict[Name, MetricKeys],
        Words(name="{above}.{key}", key="the metric", type="mapping of names to [metrics](#iteratemetrics)"),
        Field(default_factory=dict, description="it ends when all of them are good"),
    ]
    visits: Annotated[
        Steps | None,
        Words(name="{above}.{key}", default="by `metrics` or `until`"),
        Field(description="it ends after so many steps; 1: a single pass"),
    ] = None
    until: Annotated[
        Annotated[Literal["verdict"], OneOf()] | None,
        Words(name="{above}.{key}", default="by `metrics` or `visits`"),
        Field(description="its update says itself: `iterate`, `done`, `not_enough_data`, `failed`"),
    ] = None
    needs: Annotated[
        tuple[Name, ...],
        Words(name="{above}.{key}", item="a phase", type="list of phases"),
        Field(description="phases whose results it uses, which must come before it"),
    ] = ()
    freeze: Annotated[
        Flag | None,
        Words(name="{above}.{key}", default="`false`"),
        Field(description="a metric that is good is kept, and counts no more"),
    ] = None
    confirm: Annotated[
        Steps | None, Words(default="1"), Field(description="in so many steps running all must be good")
    ] = None
    min_steps: Annotated[Steps | None, Words(default="2"), Field(description="it does not end by itself before")] = None
    max_steps: Annotated[Steps | None, Words(default="30"), Field(description="it takes at most so many")] = None
    max_wall: Annotated[
        Duration | None, Words(default="no limit"), Field(description="it goes on for at most so long")
    ] = None
    result: Annotated[
        Annotated[Literal["measured", "updated"], OneOf()] | None,
        Words(default="`measured` with `metrics`, else `updated`"),
        Field(description="it ends with the constants that were found good, or with those of its last update"),
    ] = None
    accept: Annotated[
        tuple[Accepted, ...],
        Words(item="an ending", type="list of endings", default="none"),
        Field(description="further endings that are good enough, with the best step: [endings](iterate.md#endings)"),
    ] = ()


class StageKeys(Keys):
    """A stage of ``sequence``."""

    stage: Annotated[Stage | None, Words(missing="a number"), Field(description="its number")] = None
    phases: Annotated[
        tuple[Name, ...],
        NotEmpty("at least one phase"),
        Words(item="a phase", missing="[<phase>]", type="list of phases"),
        Field(description="one after the other"),
    ] = ()


class CornerKeys(Keys):
    """``start`` and ``stop``."""

    called: ClassVar[str] = "{above}.{key}"

    stage: Annotated[Stage | None, Words(default="the one with the phase"), Field(description="of the sequence")] = None
    phase: Annotated[Name | None, Words(default="the first, or the last"), Field(description="of the stage")] = None


class WorkersKeys(Keys):
    """``workers``."""

    called: ClassVar[str] = "{key}"

    count: Annotated[
        Workers | None,
        Words(name="{above}.{key}", missing="a number"),
        Field(description="so many jobs in each phase that does not say otherwise (`split`)"),
    ] = None
    reserve: Annotated[
        Flag | None,
        Words(name="{above}.{key}", default="`false`"),
        Field(description="they keep their places for the whole iteration, instead of being submitted in each step"),
    ] = None
    quorum: Annotated[
        Fraction | None,
        Words(name="{above}.{key}", default="as of [jobs](#jobs)"),
        Field(description="of `measure`, where a phase does not say otherwise"),
    ] = None
    heartbeat: Annotated[
        Duration | None,
        Words(name="{above}.{key}", default="`30s`"),
        Field(description="how often each gives a sign of life"),
    ] = None
    lost_after: Annotated[
        Duration | None,
        Words(name="{above}.{key}", default="`5m`"),
        Field(description="without one, though the batch system says that it runs, another takes its place"),
    ] = None
    max_replacements: Annotated[
        Replacements | None,
        Words(name="{above}.{key}", default="as many as `count`"),
        Field(description="of all of them together, since the last clear"),
    ] = None
    wall: Annotated[
        Duration | None,
        Words(name="{above}.{key}", default="no limit"),
        Field(description="for how long a place may be kept; in the last tenth of it another takes over"),
    ] = None
    inputs: Annotated[
        dict[Name, Inputs],
        Words(name="{above}.{key}", key="the inputs", type="mapping of names to [inputs](#inputs)", default="none"),
        Field(default_factory=dict, description="files that phases `use`, each in the share of one job"),
    ]


class IterateKeys(Keys):
    """``iterate``."""

    constants: Annotated[
        ConstantsKeys | None,
        Words(missing="{file: <file>, from: …}"),
        Field(description="what is improved: [constants](#iterateconstants)"),
    ] = None
    phases: Annotated[
        dict[Name, PhaseKeys],
        NotEmpty("at least one phase"),
        Words(key="the phase", entry="the phase {key!r}", missing="{<name>: {…}}", type="mapping of names to phases"),
        Field(default_factory=dict, description="what is repeated: [phases](#iteratephases)"),
    ]
    sequence: Annotated[
        tuple[StageKeys, ...] | None,
        Words(item="a stage", type="list of [stages](#iteratesequence)", default="one stage of all phases"),
        Field(description="stages, each with its phases; a phase may be in several"),
    ] = None
    workers: Annotated[
        WorkersKeys | None,
        NotEmpty("count"),
        Words(default="a job set of its own in each step"),
        Field(description="those who measure: [workers](#iterateworkers)"),
    ] = None
    start: Annotated[
        CornerKeys | None, Words(default="the first phase"), Field(description="where it begins: a stage, a phase")
    ] = None
    stop: Annotated[
        CornerKeys | None, Words(default="the last phase"), Field(description="where it ends, this one included")
    ] = None
