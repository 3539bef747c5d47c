"""How a task that iterates is to be made for a group: its phases rendered, and where its first constants are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.iteration.metrics import Metric, Within
from airflow_calib_provider.domain.iteration.phases import Detectors, Phase
from airflow_calib_provider.domain.iteration.sequence import IterationPlan, Leg
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.jobsets.context import SPEC_FOLDER, GroupContext
from airflow_calib_provider.jobsets.render import MAILBOX, Rendered, filled, render
from airflow_calib_provider.ledger.rows import Definition
from airflow_calib_provider.ledger.steps import PhasePart, PhasePlan, StoredPlan
from airflow_calib_provider.ledger.workers import StoredWorkers, WorkerSettings
from airflow_calib_provider.payloads import store
from airflow_calib_provider.spec.kinds import FILES
from airflow_calib_provider.spec.models import Iteration, Jobs, PhaseJobs, StartConstants, Task
from airflow_calib_provider.spec.templates import render_text

CONSTANTS, RESULTS_FILE, STEP, VISIT, STAGE, KEPT = (
    "⟦constants⟧",
    "⟦results_file⟧",
    "⟦step⟧",
    "⟦visit⟧",
    "⟦stage⟧",
    "⟦kept⟧",
)
"""What is known only of a step stands in the definitions of its jobs as one of these, until there is the step."""


def results_of(phase: str) -> str:
    """The mark of the results of another phase."""
    return f"⟦results_file of {phase}⟧"


def product_of(phase: str, name: str) -> str:
    """The mark of what the update of another phase has left."""
    return f"⟦{name} of {phase}⟧"


@dataclass(frozen=True)
class Start:
    """The first constants.

    :ivar origin: where they come from, for the provenance.
    """

    file: Path
    origin: Mapping[str, Any]


def start_of(connection: Connection, start: StartConstants, context: GroupContext) -> Start:
    """Find the first constants.

    :raises RenderError: there are none.
    """
    if start.payload is not None:
        rows = store.covering(connection, context.campaign, start.payload, context.runs)
        missing = [run for run in context.runs if not any(run in Iov(row.first_run, row.last_run) for row in rows)]
        older = store.last_before(connection, context.campaign, start.payload, missing[:1]) if not rows else []
        if found := [*rows, *older]:
            newest = max(found, key=lambda row: row.first_run)
            about = {"payload": start.payload, "id": newest.id, "revision": newest.revision}
            return Start(store.content_path(newest), {**about, "hash": newest.content_hash})
        if start.file is None:
            said = f"nothing was published under {start.payload} that could be begun with"
            raise RenderError(said, "publish a payload, or say with what to begin instead: constants: {else: <file>}")
    file = filled(render_text(start.file or "", context.variables), {SPEC_FOLDER: str(context.folder)})
    return Start(Path(file), {"file": file})


@dataclass(frozen=True)
class RenderedIteration:
    """All phases of an iteration, with a digest that tells whether a failed one can be continued.

    :ivar workers: those that are reserved; no part of the digest, as they say how jobs run and not what.
    """

    phases: Mapping[str, PhasePlan]
    digest: str
    named: frozenset[str]
    workers: StoredWorkers | None = None


def render_phases(task: Task, context: GroupContext, folder: Path | None = None) -> RenderedIteration:
    """Render the job sets of all phases.

    :param folder: what ``{{ spec.folder }}`` stands for; by default the folder of the YAML file.
    :raises RenderError: as :func:`~airflow_calib_provider.jobsets.render.render` does.
    """
    iteration = task.iteration
    assert iteration is not None
    phases: dict[str, PhasePlan] = {}
    digests: dict[str, Any] = {"file": iteration.file, "legs": [list(leg) for leg in iteration.legs]}
    named: set[str] = set()
    for name, phase in iteration.phases.items():
        known = _variables(iteration, phase, name)
        measure = _rendered(task, context, phase.measure, phase.measured, known, folder)
        update_variables = {**known, "step": {**known["step"], "results_file": RESULTS_FILE}}
        products = {**phase.updated, "constants": iteration.file}
        update = _rendered(task, context, phase.update, products, update_variables, folder)
        phases[name] = {
            "limits": _limits(phase.phase),
            "measure": _part(measure, phase.measure, phase.measured),
            "update": _part(update, phase.update, products),
        }
        digests[name] = [measure.digest, update.digest, [asdict(one) for one in phase.phase.metrics]]
        named |= measure.named | update.named
    text = json.dumps(digests, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return RenderedIteration(phases, digest, frozenset(named), _workers(iteration))


GIVE_UP = 3600
"""Seconds for which a worker bears a mailbox that cannot be read."""


def _workers(iteration: Iteration) -> StoredWorkers | None:
    """Workers that can do all that measures: each has what the most demanding phase asks for."""
    wanted = iteration.workers
    if wanted is None:
        return None
    measured = [phase.measure for phase in iteration.phases.values()]
    asked = [jobs.resources for jobs in measured]
    cpus, gpus = max(one.cpus for one in asked), max(one.gpus for one in asked)
    memory = max((one.memory for one in asked if one.memory is not None), default=None)
    disk = max((one.disk for one in asked if one.disk is not None), default=None)
    times = [f"{max(1, round(wanted.heartbeat))}", str(GIVE_UP), f"{round(wanted.wall)}"]
    definition: Definition = {
        "command": ["sh", f"{MAILBOX}/worker.sh", MAILBOX, *times],
        "environment": {},
        "inputs": None,
        "cpus": cpus,
        "memory": memory,
        "disk": disk,
        "timeout": None,
        "files": [f"{MAILBOX}/worker.sh"],
        "mailbox": MAILBOX,
    }
    if gpus:
        definition["gpus"] = gpus
    if credentials := {kind: path for jobs in measured for kind, path in jobs.credentials.items()}:
        definition["credentials"] = credentials
    settings: WorkerSettings = {
        "count": wanted.count,
        "heartbeat": wanted.heartbeat,
        "lost_after": wanted.lost_after,
        "max_replacements": wanted.max_replacements,
        "wall": wanted.wall,
        "cpus": cpus,
        "memory": memory,
        "disk": disk,
        "gpus": gpus,
        "options": {name: value for name, value in measured[0].options.items() if name != FILES},
    }
    return {"settings": settings, "definition": definition}


def _variables(iteration: Iteration, phase: PhaseJobs, name: str) -> dict[str, Any]:
    others = {
        other: {
            "results_file": results_of(other),
            "products": {product: product_of(other, product) for product in iteration.phases[other].updated},
        }
        for other in phase.phase.needs
        if other in iteration.phases
    }
    of_step = {"n": STEP, "visit": VISIT, "stage": STAGE, "phase": name, "kept": KEPT}
    return {"constants": {"file": CONSTANTS}, "step": of_step, "phases": others}


def _rendered(
    task: Task,
    context: GroupContext,
    jobs: Jobs,
    products: Mapping[str, str],
    known: Mapping[str, Any],
    folder: Path | None,
) -> Rendered:
    own = task.model_copy(update={"jobs": jobs, "products": dict(products)})
    return render(own, replace(context, variables={**context.variables, **known}), folder)


def _part(rendered: Rendered, jobs: Jobs, products: Mapping[str, str]) -> PhasePart:
    return {
        "definitions": list(rendered.definitions),
        "inputs": list(rendered.inputs),
        "products": dict(products),
        "quorum": jobs.quorum,
        "retries": jobs.retries,
        "failures": [dict(rule) for rule in rendered.failures],
        "options": dict(rendered.options),
    }


def _limits(phase: Phase) -> dict[str, Any]:
    """A phase as JSON; :func:`phase_of` reads it."""
    found = asdict(phase)
    found["metrics"] = [
        {"name": one.name, "target": one.target, "within": one.within.amount, "relative": one.within.relative}
        for one in phase.metrics
    ]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def phase_of(limits: Mapping[str, Any]) -> Phase:
    """The phase that a plan has."""
    metrics = tuple(
        Metric(one["name"], one["target"], Within(one["within"], one["relative"])) for one in limits["metrics"]
    )
    more: dict[str, Any] = {"needs": tuple(limits["needs"]), "accept": tuple(limits["accept"])}
    return Phase(**{**limits, **more, "metrics": metrics, "detectors": Detectors(**limits["detectors"])})


def legs_of(plan: StoredPlan) -> IterationPlan:
    """The legs of a plan."""
    phases = {name: phase_of(phase["limits"]) for name, phase in plan["phases"].items()}
    return IterationPlan(tuple(Leg(int(stage), phases[name]) for stage, name in plan["legs"]))


def of_step(definitions: Sequence[Definition], known: Mapping[str, str]) -> list[Definition]:
    """Definitions with what is known of a step in the place of its marks."""
    made: list[Definition] = []
    for one in definitions:
        item: Definition = {
            **one,
            "command": [filled(text, known) for text in one["command"]],
            "environment": {name: filled(text, known) for name, text in one["environment"].items()},
            "inputs": None if one["inputs"] is None else [filled(text, known) for text in one["inputs"]],
        }
        if "files" in one:
            item["files"] = [filled(text, known) for text in one["files"]]
        made.append(item)
    return made
