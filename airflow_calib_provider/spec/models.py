"""The language ``calib/v1`` as models: what a workflow's YAML file may say.

Unknown keys are errors everywhere, and nothing is converted in silence: a number where text is expected is a mistake of
the file, not a value to be turned into text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, JsonValue

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.iteration.phases import Phase
from airflow_calib_provider.domain.locks.deadlines import GO_ON, LAST_GOOD
from airflow_calib_provider.domain.model import Model, Name
from airflow_calib_provider.domain.verdicts import Limit
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.kinds import DEFAULT_BACKEND
from airflow_calib_provider.spec.language import PRESET
from airflow_calib_provider.spec.publication_models import Approval as Approval
from airflow_calib_provider.spec.publication_models import OutsideTarget as OutsideTarget
from airflow_calib_provider.spec.publication_models import Publish as Publish
from airflow_calib_provider.spec.publication_models import PublishBy as PublishBy


class Lock(Model):
    """Something that is waited for, of one of :data:`airflow_calib_provider.kinds.LOCKS`.

    :ivar kind: ``any``: one of the alternatives is enough.
    :ivar parameters: the block, as its kind reads it; ``tag`` always names a payload's tag.
    :ivar limits: how long it is waited for, and what then: as
        :class:`~airflow_calib_provider.domain.locks.deadlines.Limits` writes it; empty: for ever.
    """

    kind: str
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    alternatives: tuple[Lock, ...] = ()
    limits: dict[str, JsonValue] = Field(default_factory=dict)

    def leaves(self) -> tuple[Lock, ...]:
        """The locks of which each has a kind: itself, or its alternatives."""
        return self.alternatives or (self,)

    @property
    def holds_for_ever(self) -> bool:
        """Whether nothing but what it waits for opens it: no other lock, and no deadline."""
        return not self.alternatives and self.limits.get("then") not in (GO_ON, LAST_GOOD)


def locks_of_tags(locks: Iterable[Lock]) -> dict[str, Lock]:
    """Tag → the lock that waits for its payloads."""
    return {str(leaf.parameters["tag"]): leaf for lock in locks for leaf in lock.leaves() if "tag" in leaf.parameters}


class Need(Model):
    """A task that must be done first (rule 21). ``workflow`` is always filled in.

    :ivar grouping: the label of the needed task's grouping; of another workflow known only once that was read
        (:func:`~airflow_calib_provider.spec.loader.load_folder` fills it in).
    """

    workflow: Name
    task: Name
    grouping: str | None = None


class Split(Model):
    """How a job set becomes jobs: so many jobs, or so many inputs per job; neither is one job.

    :ivar inputs: of ``count`` jobs each gets its share of the inputs, or all of them.
    """

    count: int | str | None = None
    per_job: int | None = None
    inputs: Literal["shared", "all"] = "shared"


class ResourceRequest(Model):
    """``memory`` and ``disk`` in bytes."""

    cpus: int = 1
    memory: int | None = None
    disk: int | None = None
    gpus: int = 0


class FailureRule(Model):
    """What becomes of a job that failed or is held in one way (rule 37). Empty conditions match everything.

    :ivar times: releases before it is tried again as a new attempt.
    :ivar after: before it is released.
    :ivar factor: by which the next attempt asks for more memory; ``at_most`` in bytes.
    """

    classes: tuple[str, ...] = ()
    exit_codes: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()
    hold_codes: tuple[int, ...] = ()
    then: Literal["retry", "release", "fail"]
    times: int | None = None
    after: timedelta | None = None
    factor: float | None = None
    at_most: int | None = None


class InputsCommand(Model):
    """A command that prints one input per line (rule 33)."""

    command: tuple[str, ...]


class Jobs(Model):
    """One job set. Strings are templates; ``timeout`` is wall time per attempt.

    :ivar failures: the task's rules, then those of the defaults; the first that matches holds.
    :ivar options: the block of the task's backend, as its kind reads it; ``files`` are templates.
    :ivar credentials: kind → path; those that the jobs are told of stand in ``environment`` too.
    :ivar keep: how long logs and failed attempts are kept after the end of a generation.
    """

    command: tuple[str, ...]
    split: Split = Split()
    inputs: str | tuple[str, ...] | InputsCommand | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    resources: ResourceRequest = ResourceRequest()
    credentials: dict[str, str] = Field(default_factory=dict)
    retries: int = 3
    quorum: float = 1.0
    timeout: timedelta | None = None
    failures: tuple[FailureRule, ...] = ()
    options: dict[str, JsonValue] = Field(default_factory=dict)
    keep: timedelta = timedelta(days=30)


class StartConstants(Model):
    """Where the first constants are.

    :ivar payload: a tag; the payload that holds for the group's runs, else the last before.
    :ivar file: a template; with a tag: taken where nothing was published yet.
    """

    payload: str | None = None
    file: str | None = None


class PhaseJobs(Model):
    """What a phase repeats: a job set that measures, and one job that updates.

    :ivar phase: with its limits.
    """

    phase: Phase
    measure: Jobs
    measured: dict[str, str] = Field(default_factory=dict)
    update: Jobs
    updated: dict[str, str] = Field(default_factory=dict)


class Workers(Model):
    """Workers that are reserved for a whole iteration; times are in seconds.

    :ivar max_replacements: of all of them together.
    :ivar wall: for how long each has its place; 0: for ever.
    """

    count: int
    heartbeat: float
    lost_after: float
    max_replacements: int
    wall: float = 0.0


class Iteration(Model):
    """Job sets that are repeated until constants are good (rule 64).

    :ivar file: what updates call the constants.
    :ivar legs: stage and phase of each, from start to stop.
    :ivar workers: those who measure, if they are reserved.
    """

    file: str
    start: StartConstants
    phases: dict[str, PhaseJobs]
    legs: tuple[tuple[int, str], ...]
    workers: Workers | None = None


class Task(Model):
    """One step of a workflow: a job set, or the publication of a file."""

    name: Name
    policy: Grouping
    needs: tuple[Need, ...] = ()
    locks: tuple[Lock, ...] = ()
    backend: str = DEFAULT_BACKEND
    jobs: Jobs | None = None
    products: dict[str, str] = Field(default_factory=dict)
    """Product name → file, relative to ``CALIB_OUT``."""
    drops: dict[str, timedelta] = Field(default_factory=dict)
    """Product name → for how long it is kept; others are kept for ever."""
    publish: Publish | None = None
    verdict: dict[str, Limit] = Field(default_factory=dict)
    """Value → what it must be, so that what this task looks at is validated."""
    iteration: Iteration | None = None
    """Of a task that iterates, whose ``jobs`` are what its result is: one job, without a command."""

    @property
    def locked_tags(self) -> tuple[str, ...]:
        """The tags that are waited for, whose payloads templates may name."""
        return tuple(locks_of_tags(self.locks))

    def leaves(self, kind: str) -> tuple[Lock, ...]:
        """Its locks of a kind, also those of which one of several is enough."""
        return tuple(leaf for lock in self.locks for leaf in lock.leaves() if leaf.kind == kind)


class RunSelection(Model):
    """Which runs enter (rules 2, 9, 10, 52).

    :ivar categories: category → its condition, of which a run must meet one; of none all enter. Empty where the text
        alone was read, without what the folder's categories say.
    """

    source: Name
    categories: dict[str, str] = Field(default_factory=dict)
    where: str | None = None
    since: int | datetime | None = None
    incomplete_after: timedelta | None = None
    settle: timedelta | None = None


class Workflow(Model):
    """One YAML file, checked and normalized: defaults merged, groupings resolved, needs qualified.

    :ivar params: with those of the preset that holds, :ivar preset: which it is, :ivar presets: of these.
    :ivar text: the file's text, byte for byte as stored in the ledger.
    :ivar hash: SHA-256 of the text (hexadecimal).
    :ivar file: the path as given.
    :ivar base: as a campaign runs it that begins in the middle: the campaign that has the rest (rule 55).
    :ivar from_base: the tasks of the rest, as ``workflow.task``, of this workflow and of those that it needs.
    """

    name: Name
    description: str = ""
    owner: str = "airflow"
    tags: tuple[str, ...] = ()
    runs: RunSelection
    params: dict[str, Any] = Field(default_factory=dict)
    presets: dict[str, dict[str, Any]] = Field(default_factory=dict)
    preset: str | None = None
    tasks: dict[str, Task]
    text: str
    hash: str
    file: str
    base: str | None = None
    from_base: frozenset[str] = frozenset()

    def params_with(self, stated: Mapping[str, object]) -> dict[str, object]:
        """The params of a DAG run.

        :param stated: what it sets otherwise; ``preset`` among it is the name of one of the presets.
        :raises RenderError: there is no such preset.
        """
        chosen = stated.get(PRESET) if self.presets else None
        if chosen is not None and str(chosen) not in self.presets:
            raise RenderError(f"{self.name} has no preset {chosen}", f"it has {', '.join(self.presets)}")
        of_preset = {} if chosen is None else self.presets[str(chosen)]
        own = {name: value for name, value in stated.items() if not (self.presets and name == PRESET)}
        return {**self.params, **of_preset, **own}

    def groupings(self) -> dict[str, Grouping]:
        """The distinct groupings by label, in the order of the tasks."""
        return {task.policy.label: task.policy for task in self.tasks.values() if self.runs_task(task.name)}

    def tasks_of(self, grouping: str) -> tuple[Task, ...]:
        """The tasks of one grouping, in the order of the file."""
        return tuple(
            task for task in self.tasks.values() if task.policy.label == grouping and self.runs_task(task.name)
        )

    def runs_task(self, name: str) -> bool:
        """Whether a task is run here, and not taken from the base campaign."""
        return f"{self.name}.{name}" not in self.from_base

    def validated_by(self, name: str) -> list[str]:
        """The tags of the publications that a task validates."""
        publications = [task.publish for task in self.tasks.values() if task.publish is not None]
        return [one.tag for one in publications if one.validated_by == name]

    def awaited_of(self, policy: Grouping) -> Need | None:
        """The task whose values a grouping waits for, as the campaign runs the workflow; ``None``: there is none."""
        task = self.tasks.get(policy.awaits) if policy.awaits else None
        if task is None or task.jobs is None or not task.policy.is_single:
            return None
        return Need(workflow=self.name, task=task.name, grouping=task.policy.label)

    def base_of(self, need: Need) -> str | None:
        """The campaign that has a needed task; ``None``: the same one."""
        return self.base if f"{need.workflow}.{need.task}" in self.from_base else None

    def from_on(self, first: Iterable[str]) -> set[str]:
        """Tasks, and all that come after them."""
        found = set(first)
        left = True
        while left:
            after = {
                task.name
                for task in self.tasks.values()
                if task.policy.awaits in found
                or any(need.workflow == self.name and need.task in found for need in task.needs)
            }
            left = bool(after - found)
            found |= after
        return found

    def dag_id(self, grouping: str) -> str:
        """The DAG of one grouping of this workflow."""
        return f"{self.name}__{grouping}"

    def inside_needs(self, task: Task) -> tuple[Need, ...]:
        """The needs that are edges of the task's own DAG."""
        return tuple(need for need in task.needs if self._is_inside(task, need))

    def names_inside(self, task: Task) -> list[str]:
        """The names of the tasks of its own DAG that a task needs."""
        return [need.task for need in self.inside_needs(task)]

    def outside_needs(self, task: Task) -> tuple[Need, ...]:
        """The needs that are locks: of another workflow or another grouping (rule 30)."""
        return tuple(need for need in task.needs if not self._is_inside(task, need))

    def _is_inside(self, task: Task, need: Need) -> bool:
        here = need.workflow == self.name and self.base_of(need) is None
        return here and self.tasks[need.task].policy.label == task.policy.label


class FieldType(StrEnum):
    """What a field of a run holds."""

    INT = "int"
    FLOAT = "float"
    STRING = "string"
    BOOL = "bool"
    TIME = "time"


FieldTypeName = Literal["int", "float", "string", "bool", "time"]
"""As specs write them."""

RESERVED = {
    "number": FieldType.INT,
    "start": FieldType.TIME,
    "end": FieldType.TIME,
    "completed": FieldType.BOOL,
    "files": FieldType.STRING,
}
"""Fields with a meaning of their own and therefore a fixed type."""


class RunSource(Model):
    """One entry of ``sources.yaml``.

    :ivar fields: the metadata that the source supplies, with types. ``number`` always, and of ``start``, ``end``,
        ``completed``, ``files`` what it has.
    :ivar kind: one of :data:`airflow_calib_provider.kinds.RUN_SOURCES`.
    :ivar options: its block, as the kind reads it.
    """

    name: Name
    fields: dict[str, FieldType]
    kind: str
    options: dict[str, JsonValue] = Field(default_factory=dict)
