"""The language ``calib/v1`` as models: what a workflow's YAML file may say.

Unknown keys are errors everywhere, and nothing is converted in silence: a number where text is expected is a mistake of
the file, not a value to be turned into text.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, JsonValue

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.model import Model, Name
from airflow_calib_provider.kinds import DEFAULT_BACKEND, DEFAULT_STORE


class Lock(Model):
    """Something that is waited for, of one of :data:`airflow_calib_provider.kinds.LOCKS`.

    :ivar parameters: the block, as its kind reads it; ``tag`` always names a payload's tag.
    """

    kind: str
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


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
    :ivar keep: how long logs and failed attempts are kept after the end of a generation.
    """

    command: tuple[str, ...]
    split: Split = Split()
    inputs: str | tuple[str, ...] | InputsCommand | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    resources: ResourceRequest = ResourceRequest()
    retries: int = 3
    quorum: float = 1.0
    timeout: timedelta | None = None
    failures: tuple[FailureRule, ...] = ()
    options: dict[str, JsonValue] = Field(default_factory=dict)
    keep: timedelta = timedelta(days=30)


class Publish(Model):
    """What is published under which tag; the interval of validity is the group's (rule 25).

    :ivar store: one of :data:`airflow_calib_provider.kinds.PAYLOAD_STORES`.
    """

    tag: str
    file: str
    iov: Literal["group"] = "group"
    store: str = DEFAULT_STORE


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

    @property
    def locked_tags(self) -> tuple[str, ...]:
        """The tags that are waited for, whose payloads templates may name."""
        return tuple(str(lock.parameters["tag"]) for lock in self.locks if "tag" in lock.parameters)


class RunSelection(Model):
    """Which runs enter (rules 2, 9, 10)."""

    source: Name
    where: str | None = None
    since: int | datetime | None = None
    incomplete_after: timedelta | None = None
    settle: timedelta | None = None


class Workflow(Model):
    """One YAML file, checked and normalized: defaults merged, groupings resolved, needs qualified.

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
    tasks: dict[str, Task]
    text: str
    hash: str
    file: str
    base: str | None = None
    from_base: frozenset[str] = frozenset()

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
                if any(need.workflow == self.name and need.task in found for need in task.needs)
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
