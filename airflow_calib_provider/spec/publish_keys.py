"""The keys of ``publish``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from airflow_calib_provider.domain.keys import Keys, Words
from airflow_calib_provider.domain.scalars import NAME_SCHEMA, OneOf, Reads, Tag, Template, one_of, text, unlike
from airflow_calib_provider.kinds import DEFAULT_STORE, PAYLOAD_STORES


def _store(value: object) -> str:
    known = PAYLOAD_STORES.names()
    found = text(value, one_of(known))
    if found not in known:
        raise unlike(value, one_of(known), word=found, options=known)
    return found


Store = Annotated[str, Reads(_store, NAME_SCHEMA, "name")]


class PublishKeys(Keys):
    """``publish``."""

    tag: Annotated[
        Tag | None,
        Words(missing="the tag to publish under"),
        Field(description="only one task of all workflows publishes under a tag"),
    ] = None
    file: Annotated[
        Template | None,
        Words(missing='a file, such as "{{ tasks.fit.products.constants }}"'),
        Field(description="one file"),
    ] = None
    iov: Annotated[
        Annotated[Literal["group"], OneOf()],
        Field(description="the interval of validity: first to last run of the group, both included"),
    ] = "group"
    store: Annotated[
        Store,
        Words(type="name of a payload store"),
        Field(description="where the file is kept; further stores come with packages that are installed"),
    ] = DEFAULT_STORE
