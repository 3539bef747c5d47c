"""A lock on the published payloads of a tag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from airflow_calib_provider.domain.keys import Keys, Words
from airflow_calib_provider.domain.locks.base import LockKind, missing
from airflow_calib_provider.domain.scalars import OneOf, Tag


class PayloadKeys(Keys):
    """The block ``payload``."""

    says: ClassVar[str] = "open when the published payloads of a tag cover every run of the group"

    tag: Annotated[
        Tag,
        Words(missing="the tag that is waited for"),
        Field(description="the tag; who publishes it may be outside of this folder"),
    ] = ""
    covers: Annotated[Annotated[Literal["group"], OneOf()], Field(description="which runs must be covered")] = "group"


class PayloadLockKind(LockKind):
    """Open when the published payloads of a tag cover every run of the group."""

    name = "payload"
    keys = PayloadKeys
    example = "{payload: {tag: …, covers: group}}"
    once = "each tag once"
    loader = "airflow_calib_provider.ledger.locks.payload:LOCK"
    code = "payload"
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


KIND = PayloadLockKind()
