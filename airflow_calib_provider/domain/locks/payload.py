"""A lock on the published payloads of a tag."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from airflow_calib_provider.domain.keys import Keys, Words
from airflow_calib_provider.domain.locks.base import LockKind
from airflow_calib_provider.domain.scalars import OneOf, Tag


class PayloadKeys(Keys):
    """The block ``payload``."""

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

    def on(self, keys: PayloadKeys) -> str:
        return f"the tag {keys.tag!r}"


KIND = PayloadLockKind()
