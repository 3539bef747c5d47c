"""The jobs of one step: with what is known only of it, and what an update is given of the results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from airflow_calib_provider.domain.iteration.endings import ConstantsOf
from airflow_calib_provider.domain.iteration.sequence import Next
from airflow_calib_provider.jobsets.folders import generation_folder, job_folder
from airflow_calib_provider.jobsets.iteration_plan import (
    CONSTANTS,
    KEPT,
    RESULTS_FILE,
    STAGE,
    STEP,
    VISIT,
    of_step,
    product_of,
    results_of,
)
from airflow_calib_provider.ledger import steps
from airflow_calib_provider.ledger.rows import Definition
from airflow_calib_provider.ledger.steps import PhasePart, Planned, StepRow, StoredPlan

RESULTS = "results.json"
"""In the folder of a step: what its update is made of."""


def planned_of(plan: StoredPlan, following: Next, made: Sequence[StepRow]) -> Planned:
    """A step that is to be made, with its jobs."""
    file, digest = constants_of(plan, following.constants, made)
    place = Planned(following.n, following.stage, following.phase, following.visit, file, digest, following.frozen, ())
    known = known_of(plan, place, made)
    definitions = of_step(plan["phases"][following.phase]["measure"]["definitions"], known)
    return place._replace(definitions=with_contract(definitions, known, digest))


def constants_of(plan: StoredPlan, which: ConstantsOf | None, made: Sequence[StepRow]) -> tuple[str, str]:
    """A file of constants, relative to the products folder, and its hash."""
    if which is None:
        return plan["start"], plan["start_hash"]
    item = next(one for one in made if one.n == which.step)
    if not which.updated:
        return item.constants, item.constants_hash
    assert item.updated is not None
    assert item.updated_hash is not None
    return item.updated, item.updated_hash


def results_text(item: StepRow, measure: PhasePart, folder: str) -> str:
    """The file that an update reads: what is used, and what was left out."""
    results = []
    for index, attempt in item.accepted or ():
        out = job_folder(folder, index) / "out"
        products = {name: str(out / file) for name, file in measure["products"].items()}
        results.append({"job": index, "attempt": attempt, "folder": str(out), "products": products})
    about = {"step": item.n, "stage": item.stage, "phase": item.phase, "visit": item.visit, "events": item.events}
    left_out = [{"job": int(index), "why": why} for index, why in (item.left_out or {}).items()]
    constants = str(generation_folder(item.constants))
    return json.dumps({**about, "constants": constants, "results": results, "left_out": left_out}, indent=1) + "\n"


def measured_files(item: StepRow, measure: PhasePart, folder: str) -> list[str]:
    """The files that are used, as the inputs of an update that has no others."""
    outs = [job_folder(folder, index) / "out" for index, _ in item.accepted or ()]
    return [str(out / file) for out in outs for file in measure["products"].values()]


def known_of(plan: StoredPlan, item: StepRow | Planned, made: Sequence[StepRow]) -> dict[str, str]:
    """What the marks of a step stand for."""
    known = {
        CONSTANTS: str(generation_folder(item.constants)),
        STEP: str(item.n),
        VISIT: str(item.visit),
        STAGE: str(item.stage),
        KEPT: ",".join(item.kept),
    }
    for one in made:
        if one.n >= item.n or one.state == "discarded":
            continue
        folder = steps.folder_of(plan["folder"], one.n)
        known[results_of(one.phase)] = str(generation_folder(folder) / RESULTS)
        if one.state == "judged":
            out = job_folder(folder, one.n_jobs) / "out"
            for name, file in plan["phases"][one.phase]["update"]["products"].items():
                known[product_of(one.phase, name)] = str(out / file)
    return known


def with_contract(definitions: Iterable[Definition], known: Mapping[str, str], digest: str) -> list[Definition]:
    """With the variables that jobs of a step have besides.

    :param digest: of the constants, as the ledger has it.
    """
    told = {
        "CALIB_CONSTANTS": known[CONSTANTS],
        "CALIB_CONSTANTS_SHA256": digest,
        "CALIB_STEP": known[STEP],
        **({"CALIB_RESULTS_FILE": known[RESULTS_FILE]} if RESULTS_FILE in known else {}),
    }
    made: list[Definition] = []
    for one in definitions:
        changed: Definition = {**one, "environment": {**one["environment"], **told}}
        # Where files are transferred, these go with the job.
        own = [known[mark] for mark in (CONSTANTS, RESULTS_FILE) if mark in known]
        changed["files"] = [*one.get("files", ()), *own]
        made.append(changed)
    return made
