"""The name that a file states for its workflow, also where the rest of the file cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import yaml

from airflow_calib_provider.domain.nodes import Scalar
from airflow_calib_provider.domain.scalars import NAME, NAME_LENGTH
from airflow_calib_provider.spec.places import Lines

_OPENS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSES = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


def stated_name(text: str) -> Scalar | None:
    """The value of the key ``workflow`` of a file, if it stands before what cannot be read, and is a name."""
    places = Lines(text)
    key = None
    # What is wrong with the file is told by who reads it; here counts what stands before that.
    with suppress(yaml.YAMLError):
        for event in _of_the_top(places.text):
            if key is None:
                key = event
                continue
            if isinstance(key, yaml.ScalarEvent) and key.value == "workflow":
                return _name(event, places)
            key = None
    return None


def _of_the_top(text: str) -> Iterator[Any]:
    """The beginnings of the keys and values of the mapping that a file is."""
    depth = 0
    loader = yaml.CSafeLoader(text)
    try:
        while loader.check_event():
            event = loader.get_event()
            if depth == 1 and isinstance(event, yaml.NodeEvent):
                yield event
            depth += isinstance(event, _OPENS) - isinstance(event, _CLOSES)
            if depth <= 0 and isinstance(event, (*_CLOSES, yaml.NodeEvent)):
                return
    finally:
        loader.dispose()


def _name(event: Any, places: Lines) -> Scalar | None:
    if not isinstance(event, yaml.ScalarEvent) or not NAME.fullmatch(event.value) or len(event.value) > NAME_LENGTH:
        return None
    return Scalar(event.value, "text", places.between(event.start_mark, event.end_mark))
