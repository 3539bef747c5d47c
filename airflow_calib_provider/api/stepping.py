"""The steps of what iterates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_calib_provider.api.reading import PROMPT
from airflow_calib_provider.errors import CalibError, NotFound
from airflow_calib_provider.ledger import generations, results, steps, workers
from airflow_calib_provider.ledger.engine import Ledger


@dataclass(frozen=True)
class MetricRecord:
    """A metric of a step.

    :ivar error: one standard deviation; ``None``: nobody knows.
    :ivar deviation: (value − target) / tolerance; ``None``: it has no target.
    :ivar target: in the metric's own unit, :ivar tolerance: likewise.
    """

    value: float
    error: float | None
    deviation: float | None
    target: float | None
    tolerance: float | None


@dataclass(frozen=True)
class StepRecord:
    """One step of an iteration.

    :ivar state: ``planned``, ``measuring``, ``frozen``, ``updating``, ``judged``, ``discarded``.
    :ivar constants: the file that was measured with; :ivar constants_hash: its SHA-256 in hexadecimal.
    :ivar accepted: how many results are used; :ivar left_out: jobs whose results are not, each with why.
    :ivar events: that these counted; ``None``: they did not.
    :ivar ending: how the phase ended with it; empty: it goes on.
    :ivar reason: the ending with its numbers.
    :ivar refused: results of reserved workers that are not used, each by the name of its file with why.
    """

    generation: int
    n: int
    stage: int
    phase: str
    visit: int
    state: str
    n_jobs: int
    succeeded: int
    accepted: int | None
    left_out: Mapping[int, str]
    events: int | None
    metrics: Mapping[str, MetricRecord]
    fault: str
    ending: str
    reason: Mapping[str, object]
    constants: Path
    constants_hash: str
    planned_at: datetime
    judged_at: datetime | None
    refused: Mapping[str, str] = field(default_factory=dict)


def steps_made(
    ledger: Ledger,
    group: str | int,
    *,
    task: str | None = None,
    campaign: str = PROMPT,
    workflow: str | None = None,
    source: str | None = None,
    generation: int | None = None,
) -> list[StepRecord]:
    """The steps of a task that iterates, of its latest generation, in their order.

    :param group: its name, or a run of it.
    :param task: may be left out if one task of the group iterates.
    :raises NotFound: there is no such group or task, or it does not iterate.
    """
    name, run = (group, None) if isinstance(group, str) else (None, group)
    with ledger.read() as connection:
        meant = results.meant(connection, campaign, workflow, str(name or run), run, task, source)
        ids = steps.iterating(connection, [one.id for one in meant], task)
        found = [generations.by_id(connection, number) for number in ids]
        if not found:
            raise NotFound(f"no task of {group} iterates, or has begun to", f"`calib explain {group}` says more")
        if len(found) > 1:
            listed = ", ".join(f"{row.task} of {row.group_name}" for row in found)
            raise NotFound(f"several tasks iterate: {listed}", "name a --task, or a --workflow")
        (row,) = found
        if generation is not None and generation != row.n:
            other = results.generation_numbered(connection, row.group_id, row.task, generation, row.n)
            row = generations.by_id(connection, other.id)
        plan = steps.plan_of(connection, row.id)
        done = steps.succeeded(connection, row.id)
        refused = workers.refused_of(connection, row.id)
        made = steps.steps_of(connection, row.id)
        return [_record(row.n, plan, item, done.get(item.n, 0), refused) for item in made]


def _record(
    generation: int,
    plan: steps.StoredPlan,
    item: steps.StepRow,
    succeeded: int,
    refused: Sequence[workers.RefusedResult],
) -> StepRecord:
    from airflow_calib_provider.jobsets.folders import generation_folder
    from airflow_calib_provider.jobsets.iteration_plan import phase_of
    from airflow_calib_provider.jobsets.judged_steps import judged_of

    judged, report = item.judged or {}, item.report or {}
    targets = {one.name: one for one in phase_of(plan["phases"][item.phase]["limits"]).metrics}
    deviations: Mapping[str, Any] = judged.get("deviations", {})
    metrics = {
        name: MetricRecord(
            one["value"],
            one["error"],
            deviations.get(name),
            targets[name].target if name in targets else None,
            targets[name].tolerance if name in targets else None,
        )
        for name, one in report.get("metrics", {}).items()
    }
    ended = judged_of(item).ended
    return StepRecord(
        generation=generation,
        n=item.n,
        stage=item.stage,
        phase=item.phase,
        visit=item.visit,
        state=item.state,
        n_jobs=item.n_jobs,
        succeeded=succeeded,
        accepted=None if item.accepted is None else len(item.accepted),
        left_out={int(index): why for index, why in (item.left_out or {}).items()},
        events=item.events,
        metrics=metrics,
        fault=str(report.get("said", "")),
        ending="" if ended is None else ended.name.value,
        reason={} if ended is None else ended.reason(),
        constants=generation_folder(item.constants),
        constants_hash=item.constants_hash,
        planned_at=item.planned_at,
        judged_at=item.judged_at,
        refused={one.file: one.why for one in refused if one.step == item.n},
    )


@dataclass(frozen=True)
class GoingBack:
    """From which step on an iteration is to be made anew.

    :ivar discarded: the numbers of the steps that count for nothing any more then.
    """

    step: int
    discarded: Sequence[int]

    @property
    def rerun(self) -> str:
        """What a generation remembers of it."""
        return f"{steps.FROM_STEP}{self.step}"


def step_to_go_back_to(
    ledger: Ledger,
    group: str,
    campaign: str,
    workflow: str | None,
    task: str | None,
    step: int | None,
    phase: str | None,
) -> GoingBack:
    """A person's wish to go on from a step, or from the beginning of a phase.

    :param phase: its name, or ``STAGE.PHASE``.
    :raises NotFound: nothing iterates there, or there is no such step.
    :raises CalibError: it has not failed.
    """
    made = steps_made(ledger, group, task=task, campaign=campaign, workflow=workflow)
    live = [one for one in made if one.state != "discarded"]
    if phase is not None:
        stage, dot, name = phase.rpartition(".")
        mine = [one for one in live if one.phase == name and (not dot or str(one.stage) == stage)]
        stages = sorted({one.stage for one in mine})
        if len(stages) > 1:
            raise NotFound(f"{name} was made in several stages", f"name one: {stages[0]}.{name}")
        if not mine:
            known = ", ".join(dict.fromkeys(f"{one.stage}.{one.phase}" for one in live))
            raise NotFound(f"no step of {phase} was made", f"made were steps of {known}")
        step = mine[0].n
    if step is None or step not in [one.n for one in live]:
        raise NotFound(f"there is no step {step}", f"there are {', '.join(str(one.n) for one in live)}")
    with ledger.read() as connection:
        meant = results.meant(connection, campaign, workflow, group, None, task)
        (number,) = steps.iterating(connection, [one.id for one in meant], task)
        state = generations.by_id(connection, number).state
    if state != "failed":
        hint = "`calib retry` without it begins a done one anew"
        raise CalibError(f"it is {state}: only what has failed goes on from a step", hint)
    return GoingBack(step, [one.n for one in live if one.n >= step])
