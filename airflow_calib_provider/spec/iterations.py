"""From ``iterate`` as written to phases that can be made: job sets with the defaults, limits, and their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_calib_provider.domain.iteration.metrics import Metric
from airflow_calib_provider.domain.iteration.mistakes import Misdeclared, mistakes
from airflow_calib_provider.domain.iteration.phases import Phase
from airflow_calib_provider.domain.iteration.sequence import Corner, Iterate, Stage, plan
from airflow_calib_provider.domain.keys import Where
from airflow_calib_provider.domain.nodes import Node
from airflow_calib_provider.spec.iterate_keys import CornerKeys, IterateKeys, MetricKeys, PhaseKeys, WorkersKeys
from airflow_calib_provider.spec.iteration_workers import mistakes_of, reserved, shared, why_not
from airflow_calib_provider.spec.language import PICTURE
from airflow_calib_provider.spec.models import Iteration, Jobs, PhaseJobs, ResourceRequest, StartConstants
from airflow_calib_provider.spec.problems import nearest
from airflow_calib_provider.spec.product_keys import files_of, same_files
from airflow_calib_provider.spec.written import report

if TYPE_CHECKING:
    from airflow_calib_provider.spec.job_keys import JobsKeys
    from airflow_calib_provider.spec.tasks import RawTask, TaskReader

RESULT = Jobs(command=(), resources=ResourceRequest(), retries=0)
"""What the result of an iteration is to those that need it: one job."""


class IterationReader:
    """Reads the block ``iterate`` of a task into it.

    :param reader: of the workflow.
    :param task: what it becomes a part of.
    :param where: the block stands.
    :param unsure: the task's backend could not be read.
    """

    def __init__(self, reader: TaskReader, task: RawTask, where: Where, *, unsure: bool) -> None:
        self.reader, self.written, self.problems = reader, reader.written, reader.problems
        self.task, self.where, self.unsure = task, where, unsure

    def read(self, keys: IterateKeys) -> None:
        """Read it, and tell what is wrong with it as a whole."""
        self.task.jobs = RESULT
        self.task.products_wrong |= self.written.is_wrong(*self.where)
        file = keys.constants.file if keys.constants is not None else None
        phases = {name: self._phase(name, phase, file, keys.workers) for name, phase in keys.phases.items()}
        declared = self._declared(keys)
        unreadable = self.written.is_wrong(*self.where)
        wrong = [*mistakes(declared), *mistakes_of(keys)] if not unreadable else []
        whole = {name: phase for name, phase in phases.items() if phase is not None}
        workers = reserved(keys.workers)
        if workers is not None and not self.unsure:
            wrong += why_not(self.task.backend, whole)
        for one in wrong:
            self._tell(one)
        self._products(file)
        self._templates(keys)
        if wrong or unreadable or file is None or len(whole) != len(phases) or not whole:
            return
        legs = tuple((leg.stage, leg.phase.name) for leg in plan(declared).legs)
        self.task.iteration = Iteration(file=file, start=_start(keys), phases=whole, legs=legs, workers=workers)

    def _phase(self, name: str, keys: PhaseKeys, file: str | None, workers: WorkersKeys | None) -> PhaseJobs | None:
        here: Where = (*self.where, "phases", name)
        measure = self._jobs(keys.measure, (*here, "measure"))
        update = self._jobs(keys.update, (*here, "update"))
        for key, block in (("measure", keys.measure), ("update", keys.update)):
            files = files_of(block.products) if block is not None else {}
            for place, error in same_files(files, ("products",)):
                report(self.written, (*here, key, *place), error, self.problems)
            for product, made in files.items() if key == "update" else ():
                if made == file:
                    said = f"products.{product} is {made!r}, which are the constants"
                    self.problems.add(said, self.written.at(*here, key, "products", product), expected="another file")
                elif product == "constants":
                    said = f"products.{product} is {made!r}, and the constants are {file!r}"
                    self.problems.add(said, self.written.at(*here, key, "products", product), expected="another name")
        if measure is None or update is None or keys.measure is None or keys.update is None:
            return None
        return PhaseJobs(
            phase=_phase(name, keys),
            measure=shared(measure, keys.measure, workers),
            measured=files_of(keys.measure.products),
            update=update,
            updated=files_of(keys.update.products),
        )

    def _jobs(self, keys: JobsKeys | None, where: Where) -> Jobs | None:
        return None if keys is None else self.reader.job_set(keys, self.task.backend, where, unsure=self.unsure)

    def _declared(self, keys: IterateKeys) -> Iterate:
        stages = keys.sequence
        return Iterate(
            phases=tuple(_phase(name, phase) for name, phase in keys.phases.items()),
            sequence=None if stages is None else tuple(Stage(one.stage or 0, one.phases) for one in stages),
            start=_corner(keys.start),
            stop=_corner(keys.stop),
        )

    def _tell(self, one: Misdeclared) -> None:
        place: Node = self.written.at(*self.where)
        for depth in range(len(one.path), 0, -1):
            found = self.written.find(*self.where, *one.path[:depth])
            if found is not None:
                place = found
                break
        hint = nearest(one.word, one.options) if one.word else ""
        self.problems.add(one.message, place, expected=one.expected, hint=hint)

    def _products(self, file: str | None) -> None:
        """The result of an iteration is its constants, with the picture of how it went."""
        for name, made in self.task.products.items():
            if file is not None and made not in (file, PICTURE):
                place = self.written.at("tasks", self.task.name, "products", name)
                said = f"products.{name} is {made!r}, and what an iteration leaves are its constants"
                self.problems.add(said, place, expected=f"{file}, or {PICTURE}: how its metrics went")
        if file == PICTURE:
            said = f"the constants are called {file!r}, as the picture of an iteration is"
            self.problems.add(said, self.written.at(*self.where, "constants", "file"), expected="another name")

    def _templates(self, keys: IterateKeys) -> None:
        if not self.reader.deep:
            return
        found = self.task.templates
        found += self.reader.texts((*self.where, "constants", "from", "file"))
        found += self.reader.texts((*self.where, "constants", "else"))
        for name in keys.workers.inputs if keys.workers is not None else ():
            found += self.reader.inputs((*self.where, "workers", "inputs", name))
        for name, phase in keys.phases.items():
            for key, block in (("measure", phase.measure), ("update", phase.update)):
                here = (*self.where, "phases", name, key)
                found += [replace(one, of_phase=f"{name}.{key}") for one in self.reader.templates(here, block)]


def _start(keys: IterateKeys) -> StartConstants:
    source = keys.constants.source if keys.constants is not None else None
    if keys.constants is None or source is None:
        return StartConstants()
    return StartConstants(payload=source.payload, file=source.file or keys.constants.otherwise)


def _corner(keys: CornerKeys | None) -> Corner | None:
    return None if keys is None else Corner(keys.stage, keys.phase)


def _phase(name: str, keys: PhaseKeys) -> Phase:
    return Phase(
        name=name,
        metrics=tuple(_metrics(keys.metrics)),
        visits=keys.visits,
        verdict=keys.until is not None,
        needs=keys.needs,
        freeze=keys.freeze,
        confirm=keys.confirm,
        min_steps=keys.min_steps,
        max_steps=keys.max_steps,
        max_wall=keys.max_wall.total_seconds() if keys.max_wall is not None else None,
        min_events=keys.measure.min_events if keys.measure is not None else None,
        result=keys.result,
        accept=keys.accept,
    )


def _metrics(keys: Mapping[str, MetricKeys]) -> Iterator[Metric]:
    for name, metric in keys.items():
        if metric.target is not None and metric.within is not None:
            yield Metric(name, metric.target, metric.within)
