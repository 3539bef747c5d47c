"""What the language, connections and people need of a member of a kind: the bases that members fill in (rule 45).

The tables of :mod:`airflow_calib_provider.kinds` name the members; the functions here look them up. Every process of
Airflow asks for the provider's information, hence imports this module and all backends' kinds: models of keys, which
take long to make, are imported when a block is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from airflow_calib_provider.errors import KindError
from airflow_calib_provider.kinds import BACKENDS, CHANNELS, GROUPINGS, LOCKS, RUN_SOURCES, Kinds

if TYPE_CHECKING:
    from datetime import datetime

    from pydantic_core import PydanticCustomError

    from airflow_calib_provider.domain.groupings.base import GroupingKind
    from airflow_calib_provider.domain.keys import Keys, Where
    from airflow_calib_provider.domain.locks.base import LockKind
    from airflow_calib_provider.domain.run import RunListing, RunRecord
    from airflow_calib_provider.spec.models import FieldType, RunSource

T = TypeVar("T")

FILES = "files"
"""The key of a backend's block whose texts are templates: files that each job is given."""


@dataclass(frozen=True)
class Integration:
    """What a member works with, as Airflow's provider information has it.

    :ivar name: for people.
    :ivar url: of a page that describes it.
    :ivar tags: as those of Airflow's own providers: ``service``, ``software``, ``protocol``.
    """

    name: str
    url: str
    tags: Sequence[str] = ("software",)

    def entry(self) -> dict[str, object]:
        """Its entry in Airflow's provider information."""
        return {"integration-name": self.name, "external-doc-url": self.url, "tags": list(self.tags)}


@dataclass(frozen=True)
class ConnectionType:
    """A type of Airflow connection.

    :ivar name: the type.
    :ivar settings: ``module:function``, from an Airflow connection to what the member is made with.
    :ivar hook: ``module.Class`` of its hook, which tests the connection.
    :ivar title: what Airflow's form calls it.
    :ivar behaviour: hidden fields, labels and placeholders of Airflow's own fields.
    :ivar fields: those of its own, all as Airflow's provider information has them.
    :ivar integration: what it leads to.
    :ivar default_id: the connection that is meant where none is named; empty: the one called as the type.
    :ivar of: the package whose type it is, and whose form; empty: ours.
    """

    name: str
    settings: str
    hook: str
    title: str = ""
    behaviour: Mapping[str, object] = field(default_factory=dict)
    fields: Mapping[str, object] = field(default_factory=dict)
    integration: Integration | None = None
    default_id: str = ""
    of: str = ""

    @property
    def default(self) -> str:
        """The id of the connection that is meant where none is named."""
        return self.default_id or self.name

    def form(self) -> dict[str, object]:
        """Its entry in Airflow's provider information."""
        return {
            "connection-type": self.name,
            "hook-name": self.title,
            "hook-class-name": self.hook,
            "ui-field-behaviour": dict(self.behaviour),
            "conn-fields": dict(self.fields),
        }


def form_field(label: str, kind: str, description: str, default: object = None) -> dict[str, object]:
    """One of a connection's own fields.

    :param kind: of JSON Schema.
    """
    schema: dict[str, object] = {"type": [kind, "null"]}
    if default is not None:
        schema["default"] = default
    return {"label": label, "schema": schema, "description": description}


class BackendKind:
    """A place where jobs run, without what talks to it: light enough to be imported in every process of Airflow.

    :ivar name: in specs.
    :ivar loader: ``module:Class`` of the :class:`~airflow_calib_provider.backends.base.Backend`; one with a connection
        is made with ``settings=``.
    :ivar keys: the model of its block in ``jobs`` and ``defaults``, which has the backend's name; ``None``: it has
        none. A key ``files`` holds templates; what they come to is given to the jobs, not to the backend. A property
        where importing the model takes long.
    :ivar connection: the Airflow connection that says where it is; there may be several, ``<name>:<connection id>``.
    :ivar operators: modules with operators for hand-written DAGs.
    :ivar release: what a person does with a held job, in words.
    :ivar awaited: what submitted jobs wait for, where it is always the same; empty: the backend says it of each.
    """

    name: str
    loader: str
    connection: ConnectionType | None = None
    operators: Sequence[str] = ()
    release: str = "releasing it"
    awaited: str = ""

    @property
    def keys(self) -> type[Keys] | None:
        """The model of its block."""
        return None

    def merged(self, defaults: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
        """A task's block over that of the defaults."""
        return {**defaults, **own}

    def brings(self, block: Mapping[str, object]) -> frozenset[str]:
        """The kinds of credentials that the backend itself gives to the jobs, and tells them of.

        :param block: what is stated, as JSON has it.
        """
        return frozenset()

    def check(self, block: Mapping[str, object]) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What is wrong with a task's block over that of the defaults, each with its place in the block.

        :param block: what is stated, as JSON has it.
        """
        yield from ()

    def shares(self, block: Mapping[str, object], path: Path) -> bool:
        """Whether jobs have a file of Airflow's machine, under the same path; else theirs is one that nobody here sees.

        :param block: a task's block, over that of the defaults.
        """
        return True

    def reserves(self, block: Mapping[str, object]) -> str:
        """Why an iteration cannot reserve workers here; empty: it can.

        Jobs see the files of this side, or are given a way to the folder that
        :attr:`~airflow_calib_provider.domain.submission.JobSubmission.mailbox` names.

        :param block: a task's block, over that of the defaults.
        """
        return f"on {self.name}"


class RunSourceKind:
    """A way to learn of runs.

    :ivar name: the key of its block in a source.
    :ivar keys: the model of that block.
    :ivar timeless: why its runs have neither start nor end; empty: they may have.
    """

    name: str
    keys: type[Keys]
    timeless: str = ""

    def supplies(self, keys: Keys, fields: Mapping[str, FieldType]) -> dict[str, FieldType]:
        """The fields of its runs besides those that are declared.

        :param keys: the block, as far as it could be read.
        """
        return {}

    def check(self, keys: Keys, fields: Mapping[str, FieldType]) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What is wrong between the block and the declared fields, each with its place in the source."""
        yield from ()

    def read(self, source: RunSource, folder: Path) -> list[RunRecord]:
        """All runs, by ascending number, each once, with all declared fields.

        :param source: its ``options`` are the block, as JSON has it.
        :param folder: what a relative path is relative to.
        :raises RunSourceError: it cannot be read completely, or contradicts itself.
        """
        raise NotImplementedError

    def read_on(self, source: RunSource, folder: Path, mark: Mapping[str, object], now: datetime) -> RunListing:
        """What is new since the read that has left this mark, or all; read by those that leave marks only.

        :param mark: empty: all is to be read, and a mark to be left.
        """
        from airflow_calib_provider.domain.run import RunListing

        return RunListing(self.read(source, folder))

    def connection(self, source: RunSource) -> str:
        """The Airflow connection that is used to read it; empty: none."""
        return ""

    def identity(self, source: RunSource, folder: Path) -> str | None:
        """What tells whether anything has changed since the source was read, asked before it is read.

        :returns: as long as it is the same, the source is not read again; ``None``: it is read every time.
        """
        return None

    def warnings(self, source: RunSource, folder: Path) -> Iterator[tuple[str, str, str]]:
        """What is missing on this machine, so that there are no runs yet: the key, what is wrong, what to do."""
        yield from ()


class ChannelKind:
    """A way by which messages reach people.

    :ivar name: the key of its block in a channel.
    :ivar keys: the model of that block; a property where importing the model takes long.
    :ivar loader: ``module:Class`` of the :class:`~airflow_calib_provider.messages.base.Channel`, which is made of the
        block, as JSON has it, and of the connection.
    :ivar connection_type: the type of its connections, where that is one of its own.
    """

    name: str
    loader: str
    connection_type: ConnectionType | None = None

    @property
    def keys(self) -> type[Keys]:
        """The model of its block."""
        raise NotImplementedError

    def connection(self, block: Mapping[str, object]) -> str:
        """The Airflow connection that it needs; empty: none."""
        return str(block.get("connection", ""))

    def place(self, block: Mapping[str, object]) -> str:
        """Where it leads, for people, without secrets."""
        return f"{self.name} by {self.connection(block)}"


def grouping_kind(name: str) -> GroupingKind:
    """The kind of groupings of a name.

    :raises KindError: there is none of this name, or it cannot be loaded.
    """
    from airflow_calib_provider.domain.groupings.base import GroupingKind

    return _checked(GROUPINGS, name, GroupingKind)


def lock_kind(name: str) -> LockKind:
    """The kind of locks of a name.

    :raises KindError: there is none of this name, or it cannot be loaded.
    """
    from airflow_calib_provider.domain.locks.base import LockKind

    return _checked(LOCKS, name, LockKind)


def run_source_kind(name: str) -> RunSourceKind:
    """The way of a name.

    :raises KindError: there is none of this name, or it cannot be loaded.
    """
    return _checked(RUN_SOURCES, name, RunSourceKind)


def backend_kind(name: str) -> BackendKind:
    """The backend of a name, which may end with a connection.

    :raises KindError: there is none of this name, or it cannot be loaded.
    """
    return _checked(BACKENDS, name.partition(":")[0], BackendKind)


def channel_kind(name: str) -> ChannelKind:
    """The kind of channels of a name.

    :raises KindError: there is none of this name, or it cannot be loaded.
    """
    return _checked(CHANNELS, name, ChannelKind)


def _checked(table: Kinds, name: str, base: type[T]) -> T:
    member = table.member(name)
    if not isinstance(member, base):
        said = f"the {table.what} {name!r} is a {type(member).__name__}"
        raise KindError(said, f"its author is to make it a {base.__name__}")
    return member
