"""The block ``actions`` of ``messages.yaml``: who may do what from chat (rule 68)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.chat_actions import RoleName
from airflow_calib_provider.domain.keys import Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.scalars import (
    WHAT,
    ConnectionName,
    Duration,
    Filled,
    OneOf,
    Reads,
    mistake,
    text,
    unlike,
)

SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=7)
"""For which a button can be pressed."""

ID = re.compile(r"[a-z0-9]{26}")
"""An id of Mattermost's."""


def _id(value: object) -> str:
    found = text(value, "an id of Mattermost's")
    if not ID.fullmatch(found):
        raise unlike(
            value, "an id of Mattermost's: 26 letters a to z and digits", "a name is none: anybody may take it"
        )
    return found


ChatId = Annotated[str, Reads(_id, {"type": "string", "pattern": f"^{ID.pattern}$"}, "id of Mattermost's")]


class PersonKeys(Keys):
    """One person."""

    person: Annotated[
        Filled | None,
        Words(missing="the user id in Airflow"),
        Field(description="who it is: what is recorded of what they do"),
    ] = None
    role: Annotated[
        Annotated[RoleName, OneOf()] | None,
        Words(missing="shifter or expert", type="`shifter` or `expert`"),
        Field(description="a `shifter` may retry, an `expert` also skip, pause and resume"),
    ] = None


class ActionsKeys(Keys):
    """What may be done from chat, and by whom."""

    connection: Annotated[
        ConnectionName | None,
        Words(missing="the id of an Airflow connection"),
        Field(description="the Airflow connection whose password signs the buttons: [secrets](messages.md#secrets)"),
    ] = None
    people: Annotated[
        dict[ChatId, PersonKeys],
        NotEmpty("at least one person", "there are no people"),
        Words(
            missing="{<user_id of Mattermost>: {person: …, role: …}}",
            key="the user id",
            entry="the person {key!r}",
            type="mapping of Mattermost's user ids to people",
        ),
        Field(default_factory=dict, description="who may do something"),
    ]
    channels: Annotated[
        tuple[ChatId, ...],
        NotEmpty("the id of a channel"),
        Words(item="a channel", type="list of Mattermost's channel ids", default="all"),
        Field(description="only from these; it gives nobody a right"),
    ] = ()
    expire: Annotated[Duration, Field(description="how long a button can be pressed")] = timedelta(hours=12)

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A button that nobody can press in time, or that is there for ever."""
        if not SHORTEST <= self.expire <= LONGEST:
            yield ("expire",), mistake(f"{WHAT} is {format_duration(self.expire)}", "1m to 7d")


@dataclass(frozen=True)
class ActionsSpec:
    """What may be done from chat, as declared; there is nothing secret in it.

    :ivar team: whose; empty: there are no teams.
    :ivar connection: that holds the secrets; empty: nothing is declared.
    :ivar people: Mattermost's user id → person and role.
    :ivar channels: only from these; empty: from all.
    :ivar expire: seconds for which a button can be pressed.
    :ivar link: Airflow's address; empty: Airflow's own is taken.
    """

    team: str = ""
    connection: str = ""
    people: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    expire: float = 0.0
    link: str = ""

    @classmethod
    def of(cls, keys: ActionsKeys | None, team: str, link: str) -> ActionsSpec:
        """What a block says; ``None``: it is not there."""
        if keys is None:
            return cls(team)
        people = {
            user_id: {"person": str(known.person), "role": str(known.role)} for user_id, known in keys.people.items()
        }
        return cls(team, keys.connection or "", people, keys.channels, keys.expire.total_seconds(), link)

    def as_json(self) -> dict[str, Any]:
        """For a trigger's arguments, and for the ledger."""
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> ActionsSpec:
        """The inverse of :meth:`as_json`."""
        return cls(**{**found, "channels": tuple(found["channels"])})
