"""A judged step as its row keeps it, and as the rules of iterations see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from airflow_calib_provider.domain.iteration.endings import ConstantsOf, EndingName, PhaseEnd
from airflow_calib_provider.domain.iteration.metrics import Fault, Measured, Reported
from airflow_calib_provider.domain.iteration.phases import JudgedStep, MadeStep
from airflow_calib_provider.ledger.steps import StepRow


def judged_of(item: StepRow) -> JudgedStep:
    """A judged step, as its row keeps it."""
    report, judged = item.report or {}, item.judged or {}
    outcome: Reported | Fault
    if "fault" in report:
        outcome = Fault(EndingName(report["fault"]), report["said"])
    else:
        metrics = {name: Measured(one["value"], one["error"]) for name, one in report.get("metrics", {}).items()}
        outcome = Reported(metrics, report.get("verdict"))
    made = MadeStep(
        item.n,
        item.stage,
        item.phase,
        item.visit,
        outcome,
        item.constants_hash,
        item.updated_hash or "",
        item.events,
    )
    ended = judged.get("ended")
    return JudgedStep(
        made,
        deviations=judged.get("deviations", {}),
        u=judged.get("u"),
        worst=judged.get("worst"),
        frozen=tuple(judged.get("frozen", ())),
        ended=None if ended is None else _ended_of(ended),
        resumed=bool(judged.get("resumed")),
        discarded=item.state == "discarded",
    )


def _ended_of(stored: Mapping[str, Any]) -> PhaseEnd:
    result = stored["result"]
    constants = None if result is None else ConstantsOf(result["step"], updated=result["updated"])
    return PhaseEnd(**{**stored, "name": EndingName(stored["name"]), "result": constants})


def reported_as_json(outcome: Reported | Fault) -> dict[str, Any]:
    """What an update said; :func:`judged_of` reads it."""
    if isinstance(outcome, Fault):
        return {"fault": outcome.name.value, "said": outcome.said}
    metrics = {name: {"value": one.value, "error": one.error} for name, one in outcome.metrics.items()}
    return {"metrics": metrics, **({"verdict": outcome.verdict} if outcome.verdict is not None else {})}


def judged_as_json(step: JudgedStep) -> dict[str, Any]:
    """What was made of it; :func:`judged_of` reads it."""
    found = {"deviations": dict(step.deviations), "u": step.u, "worst": step.worst, "frozen": list(step.frozen)}
    return {**found, "ended": None if step.ended is None else asdict(step.ended)}


def phase_begun(item: StepRow, made: Sequence[StepRow]) -> datetime:
    """When the phase began, or was resumed."""
    begun = item.planned_at
    for one in reversed(made):
        if one.n >= item.n or one.state == "discarded":
            continue
        if (one.stage, one.phase) != (item.stage, item.phase) or (one.judged or {}).get("resumed"):
            break
        begun = one.planned_at
    return begun
