"""``messages.yaml``: who is told what, by which channel (rule 68)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.clocks import DayTime, ZoneName
from airflow_calib_provider.domain.keys import BLOCKS, Blocks, Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.scalars import (
    WHAT,
    Duration,
    Filled,
    Name,
    OneOf,
    Reads,
    Schema,
    filled,
    mistake,
    one_of,
    unlike,
    whole,
)
from airflow_calib_provider.domain.topics import TOPICS, TopicName
from airflow_calib_provider.errors import SpecError, SpecErrors
from airflow_calib_provider.kinds import CHANNELS
from airflow_calib_provider.spec.border import reading
from airflow_calib_provider.spec.chat_keys import ActionsKeys, ActionsSpec
from airflow_calib_provider.spec.known import workflow_files
from airflow_calib_provider.spec.language import API_VERSION
from airflow_calib_provider.spec.positions import Document, read_document, read_text
from airflow_calib_provider.spec.problems import Problems, nearest
from airflow_calib_provider.spec.sources_keys import Version
from airflow_calib_provider.spec.stated import stated_name
from airflow_calib_provider.spec.team import team_of
from airflow_calib_provider.spec.written import Read, read_keys

SHORTEST, LONGEST = timedelta(seconds=5), timedelta(days=1)
"""Between two looks of a channel."""


def _link(value: object) -> str:
    found = filled(value, "an address")
    parts = urlsplit(found)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise unlike(value, "Airflow's address, such as https://airflow.example.org")
    return found.rstrip("/")


Address = Annotated[str, Reads(_link, {"type": "string", "pattern": "^https?://"}, "address")]


class QuietKeys(Keys):
    """Hours in which nobody is told."""

    begin: Annotated[
        DayTime | None,
        Words(name="{key}", missing='a time of the day such as "22:00"'),
        Field(alias="from", description="from then on nothing is sent"),
    ] = None
    until: Annotated[
        DayTime | None,
        Words(missing='a time of the day such as "07:00"'),
        Field(description="then what has gathered is sent; earlier than `from`: on the next day"),
    ] = None
    zone: Annotated[
        ZoneName | None,
        Words(missing="a time zone such as Europe/Zurich or UTC"),
        Field(description="whose clock it is"),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A range that is none."""
        if self.begin is not None and self.begin == self.until:
            yield ("until",), mistake(f"{WHAT} is {self.until!r}, as from is", "another time")


class ChannelKeys(Keys):
    """One channel: the block of exactly one kind, what is told there, and how often."""

    blocks: Annotated[
        dict[str, Keys], Blocks(CHANNELS), Words(entry="{key}"), Field(default_factory=dict, alias=BLOCKS)
    ]
    tell: Annotated[
        tuple[Annotated[TopicName, OneOf()], ...],
        NotEmpty(lambda: one_of(TOPICS)),
        Words(item="a topic", type="list of [topics](messages.md#what-is-told)", default="all"),
        Field(description="what is told there"),
    ] = ()
    workflows: Annotated[
        tuple[Name, ...],
        NotEmpty("the name of a workflow"),
        Words(item="a workflow", type="list of names", default="all"),
        Field(description="only of these, and what is of no workflow"),
    ] = ()
    campaigns: Annotated[
        tuple[Filled, ...],
        NotEmpty("the name of a campaign"),
        Words(item="a campaign", type="list of names", default="all"),
        Field(description="only of these, and what is of no campaign"),
    ] = ()
    every: Annotated[Duration, Field(description="how often it is looked whether there is something to tell")] = (
        timedelta(seconds=30)
    )
    at_most: Annotated[
        Annotated[int, whole(1, 100)],
        Field(description="so many messages at a time; if there are more, one tells of all of them"),
    ] = 5
    quiet: Annotated[
        QuietKeys | None, Words(default="none"), Field(description="hours in which nobody is told: [quiet](#quiet)")
    ] = None

    def stated(self) -> list[str]:
        """The blocks that are there, readable or not."""
        return [name for name in CHANNELS.names() if name in self.blocks or self.has(name)]

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A channel is of exactly one kind, and looks neither all the time nor never."""
        known, stated = CHANNELS.names(), self.stated()
        if len(stated) > 1:
            yield (), mistake(f"{WHAT} has {' and '.join(stated)}", "exactly one of them; list several channels")
        if not stated:
            yield (), mistake(f"{WHAT} has neither {' nor '.join(known)}", "exactly one of them", at_key=True)
        if not SHORTEST <= self.every <= LONGEST:
            yield ("every",), mistake(f"{WHAT} is {format_duration(self.every)}", "5s to 1d")

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        return {"oneOf": [{"required": [name]} for name in CHANNELS.names()]}


class MessagesKeys(Keys):
    """The whole file."""

    version: Annotated[
        Version, Words(missing=API_VERSION), Field(alias="apiVersion", description="the version of the language")
    ] = ""
    link: Annotated[
        Address | None,
        Words(default="Airflow's `[api] base_url`"),
        Field(description="Airflow's address, as those who are told reach it"),
    ] = None
    channels: Annotated[
        dict[Name, ChannelKeys],
        NotEmpty("at least one channel", "there are no channels"),
        Words(
            missing="{<name>: {mattermost: …}}, or another kind of channel",
            key="the channel",
            entry="the channel {key!r}",
            type="mapping of names to channels",
        ),
        Field(default_factory=dict, description="at least one"),
    ]
    actions: Annotated[
        ActionsKeys | None,
        Words(default="nothing"),
        Field(description="what may be done from chat: [actions](#actions)"),
    ] = None


@dataclass(frozen=True)
class ChannelSpec:
    """A channel as declared; there is nothing secret in it.

    :ivar name: unique in the ledger: a team's begin with the team.
    :ivar kind: a member of :data:`~airflow_calib_provider.kinds.CHANNELS`, :ivar block: its keys, as JSON has them.
    :ivar topics: what is told there.
    :ivar workflows: only of these; empty: of all. :ivar campaigns: likewise.
    :ivar every: seconds between two looks. :ivar at_most: messages at a time.
    :ivar quiet: from, until and zone; empty: never.
    :ivar link: Airflow's address; empty: Airflow's own is taken.
    """

    name: str
    kind: str
    block: Mapping[str, Any]
    topics: tuple[str, ...]
    workflows: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = ()
    every: float = 30.0
    at_most: int = 5
    quiet: tuple[str, ...] = ()
    link: str = ""

    def as_json(self) -> dict[str, Any]:
        """For a trigger's arguments."""
        return {**asdict(self), "block": dict(self.block)}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> ChannelSpec:
        """The inverse of :meth:`as_json`."""
        listed = {name: tuple(found[name]) for name in ("topics", "workflows", "campaigns", "quiet")}
        return cls(**{**found, **listed})


@dataclass(frozen=True)
class Declared:
    """What a ``messages.yaml`` says: who is told what, and what may be done from chat."""

    channels: list[ChannelSpec]
    actions: ActionsSpec


def load_messages(path: Path) -> list[ChannelSpec]:
    """Load the channels of a ``messages.yaml``.

    :raises SpecErrors: all mistakes of the file.
    """
    return load_declared(path).channels


def load_declared(path: Path) -> Declared:
    """Load all of a ``messages.yaml``.

    :raises SpecErrors: all mistakes of the file.
    """
    try:
        with reading(path):
            document = read_document(path)
            found, errors = _read(document, path.parent)
    except SpecError as error:
        raise SpecErrors([error]) from None
    if errors:
        raise SpecErrors(errors)
    return found


def _read(document: Document, folder: Path) -> tuple[Declared, list[SpecError]]:
    problems = Problems(document)
    read = read_keys(MessagesKeys, document.root, "the messages file", problems)
    known = _workflows(folder)
    team = team_of(folder)
    link = (read.keys.link if read.keys is not None else None) or ""
    made = []
    for name, keys in read.keys.channels.items() if read.keys is not None else ():
        _check_workflows(read, name, keys, known, problems)
        if len(keys.blocks) == 1 and not read.is_wrong("channels", name):
            made.append(_channel(name, keys, team, known, link))
    actions = read.keys.actions if read.keys is not None and not read.is_wrong("actions") else None
    return Declared(made, ActionsSpec.of(actions, team, link)), problems.sorted()


def _channel(name: str, keys: ChannelKeys, team: str, known: list[str], link: str) -> ChannelSpec:
    ((kind, block),) = keys.blocks.items()
    quiet = keys.quiet
    return ChannelSpec(
        name=f"{team}/{name}" if team else name,
        kind=kind,
        block=block.model_dump(mode="json", by_alias=True),
        topics=tuple(topic for topic in TOPICS if topic in keys.tell or not keys.tell),
        # Of several teams each is told of its own only.
        workflows=keys.workflows or (tuple(known) if team else ()),
        campaigns=keys.campaigns,
        every=keys.every.total_seconds(),
        at_most=keys.at_most,
        quiet=(str(quiet.begin), str(quiet.until), str(quiet.zone)) if quiet is not None else (),
        link=link,
    )


def _check_workflows(
    read: Read[MessagesKeys], name: str, keys: ChannelKeys, known: list[str], problems: Problems
) -> None:
    for number, workflow in enumerate(keys.workflows):
        if workflow not in known:
            place = read.at("channels", name, "workflows", number)
            problems.add(f"unknown workflow {workflow!r}", place, expected=one_of(known), hint=nearest(workflow, known))


def _workflows(folder: Path) -> list[str]:
    """The names of the workflows beside the file, also of those with mistakes."""
    found = []
    for file in workflow_files(folder):
        try:
            stated = stated_name(read_text(file))
        except SpecError:
            continue  # reported with the workflows
        found += [stated.text] if stated is not None else []
    return found
