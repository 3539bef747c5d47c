"""The keys of a workflow's file and of its tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.groupings.base import SeveralRunsKeys
from airflow_calib_provider.domain.keys import BLOCKS, Blocks, Either, Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.scalars import (
    NAME,
    NAME_LENGTH,
    NAME_SCHEMA,
    WHAT,
    Duration,
    Filled,
    Name,
    Plain,
    Reads,
    RunOrTime,
    Schema,
    Text,
    filled,
    is_text,
    mistake,
    name,
    single,
    text,
    unlike,
)
from airflow_calib_provider.kinds import GROUPINGS
from airflow_calib_provider.spec.iterate_keys import IterateKeys
from airflow_calib_provider.spec.job_keys import Backend, DefaultsKeys, JobsKeys
from airflow_calib_provider.spec.kinds import grouping_kind
from airflow_calib_provider.spec.language import API_VERSION, SOURCES_FILE
from airflow_calib_provider.spec.lock_keys import LockKeys
from airflow_calib_provider.spec.product_keys import ProductValue, files_of, same_files
from airflow_calib_provider.spec.publish_keys import PublishKeys
from airflow_calib_provider.spec.sources_keys import Version
from airflow_calib_provider.spec.verdict_keys import LimitBlock


def grouping_forms() -> str:
    """How ``group_by`` may be written, in words."""
    names = GROUPINGS.names()
    short = [name for name in names if name in GROUPINGS.own and grouping_kind(name).is_short()]
    blocks = [f"{{{name}: …}}" for name in names]
    return " or ".join([", ".join([*short, *blocks[:-1]]), blocks[-1]])


def _policy(value: object) -> str:
    return text(value, "" if is_text(value) else grouping_forms())


def _need(value: object) -> tuple[str | None, str]:
    found = text(value, "task or workflow.task")
    parts = found.split(".")
    if len(parts) > 2 or not all(NAME.fullmatch(part) and len(part) <= NAME_LENGTH for part in parts):
        raise unlike(value, "task or workflow.task")
    return (parts[0] if len(parts) == 2 else None), parts[-1]


def _workflow(value: object) -> str:
    return single(name(value), "the workflow's name")


def _grouping(value: object) -> str:
    found = single(name(value), WHAT)
    if found in GROUPINGS:
        raise mistake(f"{WHAT} {found!r} is called like a kind of groupings", "another name")
    return found


_SINGLE = {**NAME_SCHEMA, "not": {"pattern": "__"}}


def _policy_schema() -> Schema:
    alone = [name for name in GROUPINGS.names() if not grouping_kind(name).is_short()]
    return {**NAME_SCHEMA, "not": {"enum": alone}}


Policy = Annotated[str, Reads(_policy, _policy_schema, "text")]
WorkflowName = Annotated[str, Reads(_workflow, _SINGLE, "name")]
GroupingName = Annotated[str, Reads(_grouping, _SINGLE, "name")]
Needed = Annotated[
    tuple[str | None, str],
    Reads(_need, {"type": "string", "pattern": rf"^({NAME.pattern}\.)?{NAME.pattern}$"}, "`task` or `workflow.task`"),
]
Value = Annotated[
    str | bool | int | float | tuple[str | bool | int | float, ...],
    Either(scalar=Plain, sequence=tuple[Plain, ...]),
]


def _at_most(length: int) -> Callable[[object], str]:
    def read(value: object) -> str:
        found = filled(value)
        if len(found) > length:
            raise mistake(f"{WHAT} has {len(found):,} characters", f"at most {length}, which is what Airflow takes")
        return found

    return read


def _short(length: int) -> Schema:
    return {"type": "string", "pattern": r"\S", "maxLength": length}


Owner = Annotated[str, Reads(_at_most(500), _short(500), "text")]
DagTag = Annotated[str, Reads(_at_most(100), _short(100), "text")]


class PolicyKeys(Keys):
    """``group_by`` as a mapping: the block of exactly one kind."""

    absent: ClassVar[Mapping[str, str]] = {
        key: f"it stands inside the kind: {{fill: {{{key}: …}}}}" for key in SeveralRunsKeys.declared
    }

    blocks: Annotated[dict[str, Keys], Blocks(GROUPINGS), Field(default_factory=dict, alias=BLOCKS)]

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A grouping is of exactly one kind."""
        stated = [kind for kind in GROUPINGS.names() if kind in self.blocks or self.has(kind)]
        if len(stated) > 1:
            yield (), mistake(f"{WHAT} has {' and '.join(stated)}", f"expected {grouping_forms()}")

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        return {"minProperties": 1, "maxProperties": 1}


PolicyBlock = Annotated[PolicyKeys, NotEmpty(lambda: f"expected {grouping_forms()}", f"{WHAT} has no kind")]


_DOES = ("jobs", "iterate", "publish")
"""What a task may do."""


class TaskKeys(Keys):
    """One task."""

    group_by: Annotated[
        str | PolicyKeys | None,
        Either(mapping=PolicyBlock, scalar=Policy),
        Words(type="text or mapping", default="as the needed tasks of this workflow, where these agree"),
        Field(description="how runs are put together: [group_by](#group_by)"),
    ] = None
    needs: Annotated[
        tuple[Needed, ...],
        Words(type="list of `task` or `workflow.task`"),
        Field(description="what must be done first, for every run of the group"),
    ] = ()
    locks: Annotated[
        tuple[LockKeys, ...],
        Words(item="a lock", type="list of locks"),
        Field(description="what else is waited for: [locks](#locks)"),
    ] = ()
    backend: Annotated[
        Backend | None,
        Words(type="as in [defaults](#defaults)", default="from `defaults`"),
        Field(description="where jobs run; not with `publish`"),
    ] = None
    jobs: Annotated[JobsKeys | None, Words(default=" "), Field(description="the job set: [jobs](#jobs)")] = None
    products: Annotated[
        dict[Name, ProductValue],
        Words(key="the product", type="mapping of names to files, or to [products](#products)"),
        Field(
            default_factory=dict,
            description="files that a job leaves in `CALIB_OUT`, relative to it, without `..`; not with `publish`",
        ),
    ]
    iterate: Annotated[
        IterateKeys | None,
        Words(default=" "),
        Field(description="job sets that are repeated until constants are good: [iterate](#iterate)"),
    ] = None
    verdict: Annotated[
        dict[Name, LimitBlock],
        NotEmpty("at least one value, such as {jump: {below: 0.05}}"),
        Words(key="the value", type="mapping of values to what they must be", default="none"),
        Field(
            default_factory=dict,
            description="what the values that its jobs report must be, for `publish.validated_by`: [verdict](#verdict)",
        ),
    ]
    publish: Annotated[
        PublishKeys | None,
        Words(default=" "),
        Field(description="publication of a file: [publish](#publish); such a task needs at least one other"),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A task runs jobs or publishes, and has the keys of what it does."""
        yield from same_files(files_of(self.products), ("products",))
        stated = [key for key in _DOES if self.has(key)]
        if len(stated) != 1:
            both = "both " * (len(stated) == 2) + " and ".join(stated)
            has = both if stated else "neither jobs nor iterate nor publish"
            yield (), mistake(f"{WHAT} has {has}", "exactly one of them", at_key=True)
            return
        if not self.has("publish"):
            return
        for key in ("products", "backend", "verdict"):
            if self.has(key):
                yield (key,), mistake(f"{key!r} in a task that publishes", f"{key} with jobs")

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        refused: dict[str, object] = {"products": False, "backend": False, "verdict": False}
        return {
            "oneOf": [
                {"required": ["jobs"]},
                {"required": ["iterate"]},
                {"required": ["publish", "needs"], "properties": {**refused, "needs": {"minItems": 1}}},
            ]
        }


class RunsKeys(Keys):
    """``runs``."""

    source: Annotated[
        Name | None,
        Words(missing=f"a run source of {SOURCES_FILE}"),
        Field(description="an entry of `sources.yaml`"),
    ] = None
    categories: Annotated[
        tuple[Name, ...],
        NotEmpty("at least one category"),
        Words(item="a category", type="list of names", default="all runs"),
        Field(description="which runs enter: those of any of these [categories](#categories)"),
    ] = ()
    where: Annotated[
        Filled | None,
        Words(type="[condition](#conditions)", default="all runs"),
        Field(description="which runs enter; with `categories`: which of theirs"),
    ] = None
    since: Annotated[
        RunOrTime | None,
        Words(default="when the workflow was first seen"),
        Field(
            description="the first run, or the time from which completed runs enter; required, as a number, with an "
            "`events` source"
        ),
    ] = None
    incomplete_after: Annotated[
        Duration | None,
        Words(default="never"),
        Field(
            description="a run that is not completed this long after its start no longer holds the others back",
        ),
    ] = None
    settle: Annotated[
        Duration | None,
        Words(default="0"),
        Field(description="completed runs are taken only this long after their end"),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A category stands there once."""
        for number, category in enumerate(self.categories):
            if category in self.categories[:number]:
                yield ("categories", number), mistake(f"the category {category!r} is there twice", "each once")


class WorkflowKeys(Keys):
    """The whole file."""

    version: Annotated[
        Version | None,
        Words(missing=API_VERSION),
        Field(alias="apiVersion", description="the version of the language"),
    ] = None
    workflow: Annotated[
        WorkflowName | None,
        Words(missing="the workflow's name"),
        Field(
            description="becomes part of the DAGs' ids, `<workflow>__<grouping>`; unique in the folder",
        ),
    ] = None
    description: Annotated[Text, Words(default="empty"), Field(description="for people")] = ""
    owner: Annotated[Owner, Field(description="owner of the DAGs")] = "airflow"
    tags: Annotated[tuple[DagTag, ...], Words(type="list of texts"), Field(description="tags of the DAGs")] = ()
    runs: Annotated[
        RunsKeys | None,
        Words(missing="{source: <name>}"),
        Field(description="which runs enter: [runs](#runs)"),
    ] = None
    params: Annotated[
        dict[Name, Value],
        Words(key="the parameter", type="mapping of names to plain values"),
        Field(
            default_factory=dict,
            description="text, number, `true` or `false`, or a list of these; `{{ params.<name> }}`",
        ),
    ]
    presets: Annotated[
        dict[Name, Annotated[dict[Name, Value], Words(key="the parameter", type="mapping of names to plain values")]],
        Words(key="the preset", name="presets", entry="the preset {key!r}", type="mapping of names to `params`"),
        Field(default_factory=dict, description="params that are chosen together: [presets](#presets)"),
    ]
    preset: Annotated[
        Name | None,
        Words(default="required with `presets`"),
        Field(description="which of them holds, unless a campaign or a DAG run chooses another"),
    ] = None
    groupings: Annotated[
        dict[GroupingName, PolicyBlock],
        Words(key="the grouping", type="mapping of names to policies"),
        Field(
            default_factory=dict,
            description="policies that tasks name in `group_by`: [groupings](#groupings)",
        ),
    ]
    defaults: Annotated[
        DefaultsKeys | None,
        Words(default="none"),
        Field(description="for the job sets of all tasks: [defaults](#defaults)"),
    ] = None
    tasks: Annotated[
        dict[Name, TaskKeys],
        NotEmpty("at least one task", "there are no tasks"),
        Words(
            key="the task",
            entry="the task {key!r}",
            missing="{<name>: {…}}",
            type="mapping of names to tasks",
        ),
        Field(default_factory=dict, description="at least one: [tasks](#tasks)"),
    ]

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A named grouping has its name from its key, and no other."""
        for grouping, policy in self.groupings.items():
            for kind, block in policy.blocks.items():
                if "name" in block.model_fields_set:
                    said = f"groupings.{grouping} has a name already"
                    yield ("groupings", grouping, kind, "name"), mistake(said, f"only {grouping!r}", "remove it")
