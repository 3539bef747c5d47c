"""Keys of sources whose runs are objects of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Keys, Where, Words
from airflow_calib_provider.domain.scalars import Filled, Text, mistake, one_of
from airflow_calib_provider.runsources.times import TimesKeys
from airflow_calib_provider.spec.models import RESERVED, FieldType


class ObjectKeys(TimesKeys):
    """Where runs are in a document, and their fields in a run."""

    runs: Annotated[
        Text,
        Words(default="the document itself"),
        Field(description="where the list of runs is; dots lead into objects: `data.items`"),
    ] = ""
    keys: Annotated[
        dict[Text, Filled],
        Words(type="mapping of fields to keys", default="the field's own name"),
        Field(default_factory=dict, description="where a field is in a run; dots lead into objects"),
    ]


def mapped_fields(keys: Keys) -> dict[str, FieldType]:
    """What keys map to reserved fields."""
    assert isinstance(keys, ObjectKeys)
    return {name: RESERVED[name] for name in keys.keys if name in RESERVED}


def check_mapped(
    block: str, keys: Keys, fields: Mapping[str, FieldType]
) -> Iterator[tuple[Where, PydanticCustomError]]:
    """What is mapped to a key is a reserved or a declared field."""
    assert isinstance(keys, ObjectKeys)
    options = tuple(dict.fromkeys([*RESERVED, *fields]))
    for name in keys.keys:
        if name not in options:
            said = f"keys.{name} is no declared field"
            otherwise = "declare it with its type under 'fields'"
            where = (block, "keys", name)
            yield where, mistake(said, one_of(options), otherwise, word=name, options=options, at_key=True)
