"""The block ``workers`` of an iteration: what is wrong with it, and what it makes of the phases' job sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_calib_provider.domain.iteration.mistakes import Misdeclared
from airflow_calib_provider.domain.iteration.workers import (
    HEARTBEAT,
    LOST_AFTER,
    PhaseUse,
    WorkersDeclared,
    worker_mistakes,
)
from airflow_calib_provider.spec.iterate_keys import IterateKeys, MeasureKeys, WorkersKeys
from airflow_calib_provider.spec.job_keys import InputsKeys
from airflow_calib_provider.spec.kinds import backend_kind
from airflow_calib_provider.spec.models import InputsCommand, Jobs, PhaseJobs, Split, Workers
from airflow_calib_provider.spec.templates import is_template


def mistakes_of(keys: IterateKeys) -> Iterator[Misdeclared]:
    """What is wrong with the workers, and with what phases use of theirs."""
    measured = {name: phase.measure for name, phase in keys.phases.items() if phase.measure is not None}
    uses = {name: PhaseUse(one.use, one.has("inputs")) for name, one in measured.items()}
    split = frozenset(name for name, one in measured.items() if one.split is not None)
    yield from worker_mistakes(_declared(keys.workers, split), uses)


def _declared(keys: WorkersKeys | None, split: frozenset[str]) -> WorkersDeclared | None:
    if keys is None:
        return None
    stated = frozenset(name for name in type(keys).declared if keys.has(name))
    return WorkersDeclared(
        count=keys.count,
        reserve=bool(keys.reserve),
        stated=stated,
        heartbeat=keys.heartbeat.total_seconds() if keys.heartbeat is not None else HEARTBEAT,
        lost_after=keys.lost_after.total_seconds() if keys.lost_after is not None else LOST_AFTER,
        wall=keys.wall.total_seconds() if keys.wall is not None else None,
        inputs={name: _number(value) for name, value in keys.inputs.items()},
        own_split=split,
    )


def _number(inputs: object) -> int | None:
    """How many files there are, where nothing has to be rendered."""
    listed = inputs if isinstance(inputs, tuple) else ()
    return len(listed) if listed and not any(is_template(item) for item in listed) else None


def shared(jobs: Jobs, keys: MeasureKeys, workers: WorkersKeys | None) -> Jobs:
    """The jobs that measure, as many as there are workers, with their shares of what the phase uses."""
    if workers is None or workers.count is None:
        return jobs
    changed: dict[str, Any] = {}
    if keys.split is None:
        changed["split"] = Split(count=workers.count)
    if keys.quorum is None and workers.quorum is not None:
        changed["quorum"] = workers.quorum
    if keys.use is not None and keys.use in workers.inputs:
        found = workers.inputs[keys.use]
        changed["inputs"] = InputsCommand(command=found.command or ()) if isinstance(found, InputsKeys) else found
    return jobs.model_copy(update=changed)


def reserved(keys: WorkersKeys | None) -> Workers | None:
    """The workers, if they are reserved."""
    if keys is None or not keys.reserve or keys.count is None:
        return None
    return Workers(
        count=keys.count,
        heartbeat=keys.heartbeat.total_seconds() if keys.heartbeat is not None else HEARTBEAT,
        lost_after=keys.lost_after.total_seconds() if keys.lost_after is not None else LOST_AFTER,
        max_replacements=keys.max_replacements if keys.max_replacements is not None else keys.count,
        wall=keys.wall.total_seconds() if keys.wall is not None else 0.0,
    )


def why_not(backend: str, phases: Mapping[str, PhaseJobs]) -> Iterator[Misdeclared]:
    """Why the phases cannot be measured by reserved workers.

    :param backend: with its connection.
    """
    here = ("workers", "reserve")
    name = backend.partition(":")[0]
    kind = backend_kind(name)
    blocks = {phase: one.measure.options for phase, one in phases.items()}
    for phase, block in blocks.items():
        if said := kind.reserves(block):
            expected = "another backend, or another block for it; or reserve: false"
            yield Misdeclared(here, f"workers of {phase} cannot be reserved {said}", expected)
            return
    first = next(iter(blocks), "")
    for phase, block in blocks.items():
        if block != blocks[first]:
            said = f"the block {name} of {phase} is another one than that of {first}"
            yield Misdeclared(here, said, "the same for all phases, as the workers are the same")
            return
