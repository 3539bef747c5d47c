"""The keys of a lock: what is waited for, how long, and what then (rules 60, 61)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import BLOCKS, Blocks, Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.locks.deadlines import LAST_GOOD, Limits
from airflow_calib_provider.domain.scalars import ABOVE, WHAT, Duration, OneOf, Schema, mistake, one_of
from airflow_calib_provider.kinds import LOCKS
from airflow_calib_provider.spec.kinds import lock_kind

ANY = "any"
"""The key of several locks of which one is enough, in place of the block of a kind."""

_BLOCKS = Blocks(LOCKS)


class AlternativeKeys(Keys):
    """One of several locks: the block of exactly one kind."""

    absent: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("at_most", "from", "then"), f"a deadline stands beside {ANY}, for all of its locks"
    )

    blocks: Annotated[dict[str, Keys], _BLOCKS, Words(entry="{key}"), Field(default_factory=dict, alias=BLOCKS)]

    def stated_kinds(self) -> list[str]:
        """The kinds that are stated, readable or not."""
        return [kind for kind in _BLOCKS.names() if kind in self.blocks or self.has(kind)]

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A lock is of exactly one kind."""
        stated = self.stated_kinds()
        if len(stated) > 1:
            yield (), mistake(f"{WHAT} has {' and '.join(stated)}", "one kind of lock; list several locks")
        if not stated:
            yield (), mistake(f"{WHAT} has no kind", lock_forms())

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        return {"minProperties": 1, "maxProperties": 1}


def lock_forms() -> str:
    """How a lock may be written, in words."""
    own = [kind for kind in _BLOCKS.names() if kind in LOCKS.own]
    return f"{one_of(own)}, such as {lock_kind(own[0]).example}"


class LockKeys(AlternativeKeys):
    """One lock: the block of exactly one kind, or several of which one is enough, and perhaps a deadline."""

    any_of: Annotated[
        tuple[AlternativeKeys, ...],
        NotEmpty("expected two locks or more"),
        Words(item="a lock", type="list of locks", default=" "),
        Field(alias=ANY, description="open when one of these locks is; they have no deadlines of their own"),
    ] = ()
    at_most: Annotated[
        Duration | None,
        Words(name="{key}", default="for ever"),
        Field(description="how long it is waited for, at most: [deadlines](locks.md#deadlines)"),
    ] = None
    since: Annotated[
        Annotated[Literal["run_end", "group_closed", "waiting"], OneOf()],
        Words(name="{key}"),
        Field(
            alias="from",
            description="from when on `at_most` counts: the end of the group's last run, when the group was closed, or "
            "when the task began to wait for it",
        ),
    ] = "group_closed"
    then: Annotated[
        Annotated[Literal["fail", "go_on", "last_good"], OneOf()],
        Words(name="{key}"),
        Field(
            description="what happens then: the task fails; it goes on without; or, of a `payload`, it takes the "
            "newest published payload of the tag before the runs that have none"
        ),
    ] = "fail"

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A lock is of exactly one kind, and its deadline is whole and fits."""
        if not self._states("any_of"):
            yield from super().check()
        elif stated := self.stated_kinds():
            yield (), mistake(f"{WHAT} has {ANY} and {' and '.join(stated)}", f"all of them in {ANY}: [ … ]")
        elif self.any_of and len(self.any_of) < 2:
            yield (ANY,), mistake(f"{WHAT} has one lock only", "two locks or more, or the lock itself")
        for field, key in (("since", "from"), ("then", "then")):
            if self._states(field) and not self.has("at_most"):
                yield (key,), mistake(f"{key!r} without at_most in {ABOVE}", "at_most: 36h", at_key=True)
        if self.then == LAST_GOOD and not any(map(_has_last_good, self.stated_kinds())):
            said = f"{WHAT} is {LAST_GOOD} of a lock that is not on payloads"
            yield ("then",), mistake(said, "fail or go_on")

    def _states(self, field: str) -> bool:
        """Whether a key is stated, readable or not, which may be called otherwise than its field."""
        return self.has(field) or self.has(type(self).model_fields[field].alias or field)

    def limits(self) -> Limits | None:
        """How long it is waited for, and what then; ``None``: for ever."""
        return None if self.at_most is None else Limits(self.at_most, self.since, self.then)

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        needs_at_most = {"required": ["at_most"]}
        kinds: list[object] = [{"required": [kind]} for kind in (*_BLOCKS.names(), ANY)]
        return {"oneOf": kinds, "dependentSchemas": {"from": needs_at_most, "then": needs_at_most}}


def _has_last_good(kind: str) -> bool:
    return lock_kind(kind).has_last_good
