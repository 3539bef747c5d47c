"""A lock on the published payloads of a tag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Keys, Where, Words
from airflow_calib_provider.domain.locks.base import BESIDE, LockKind, missing
from airflow_calib_provider.domain.locks.outside_keys import LONGEST, SHORTEST
from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.scalars import WHAT, Duration, OneOf, Reads, Tag, mistake, text, unlike
from airflow_calib_provider.kinds import CONDITIONS_STORES

STORED = "stored_payload"
"""The kind of those in outside stores."""


def _store(value: object) -> str:
    expected = f"kind:place of {', '.join(CONDITIONS_STORES.names())}, such as folder:/data/conditions"
    found = text(value, expected)
    kind, separator, place = found.partition(":")
    if not separator or kind not in CONDITIONS_STORES:
        raise unlike(value, expected, word=kind, options=CONDITIONS_STORES.names())
    try:
        fault = CONDITIONS_STORES.member(kind).fault(place)
    except Exception as error:  # its package is broken, which is a mistake of this file only
        raise mistake(f"{WHAT} {found[:200]!r} cannot be judged: {error}", expected) from error
    if fault:
        raise mistake(f"{WHAT} {found[:200]!r} {fault}", expected)
    return found


OutsideStore = Annotated[str, Reads(_store, {"type": "string", "pattern": "^[A-Za-z]\\w*:"}, "kind:place")]


class PayloadKeys(Keys):
    """The block ``payload``."""

    says: ClassVar[str] = "open when the published payloads of a tag cover every run of the group"
    absent: ClassVar[Mapping[str, str]] = BESIDE

    tag: Annotated[
        Tag,
        Words(missing="the tag that is waited for"),
        Field(description="the tag; who publishes it may be outside of this folder"),
    ] = ""
    store: Annotated[
        OutsideStore | None,
        Words(default="the ledger's own"),
        Field(
            description="an outside store that has the payloads, as `kind:place`: `folder:/data/conditions` has a file "
            "`<tag>.csv` or `<tag>.json` with `first_run`, `last_run`, `file`"
        ),
    ] = None
    every: Annotated[
        Duration, Field(description="of an outside store: how old its listing may become before it is asked again")
    ] = timedelta(minutes=1)
    covers: Annotated[Annotated[Literal["group"], OneOf()], Field(description="which runs must be covered")] = "group"

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What belongs to an outside store needs one."""
        if self.has("every") and not self.has("store"):
            yield ("every",), mistake(f"{WHAT} belongs to an outside store", "a store", at_key=True)
        elif not SHORTEST <= self.every <= LONGEST:
            yield ("every",), mistake(f"{WHAT} is {format_duration(self.every)}", "10s to 1d")


class PayloadLockKind(LockKind):
    """Open when the published payloads of a tag cover every run of the group."""

    name = "payload"
    keys = PayloadKeys
    example = "{payload: {tag: …, covers: group}}"
    once = "each tag once"
    loader = "airflow_calib_provider.ledger.locks.payload:LOCK"
    code = "payload"
    has_last_good = True
    release = "a payload of the tag that covers the missing runs"

    def what(self, reason: Mapping[str, object]) -> str:
        """The tag."""
        return str(reason["tag"])

    def text(self, reason: Mapping[str, object]) -> str:
        """How many runs are covered, and which are not."""
        covered = f"{reason['done']} of {reason['total']} runs covered by payloads of {reason['tag']}"
        return f"{covered}; missing {missing(reason)}"

    def on(self, keys: PayloadKeys) -> str:
        """The tag, as the spec names it."""
        return f"the tag {keys.tag!r}"

    def row(self, keys: PayloadKeys) -> tuple[str, dict[str, JsonValue]]:
        """Those of an outside store are of a kind of their own."""
        if keys.store is None:
            return self.name, {"tag": keys.tag, "covers": keys.covers}
        every = int(keys.every.total_seconds())
        what = f"{keys.tag} in {keys.store}"
        return STORED, {"tag": keys.tag, "store": keys.store, "what": what, "every": every}


KIND = PayloadLockKind()
