"""The tables of the reference page, made of the declarations of the keys.

``python -m airflow_calib_provider.spec.reference docs`` writes them, and the JSON Schema, into a folder; a test fails
while they are not as they would be written.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from airflow_calib_provider.domain.groupings.base import FailedRunsKeys
from airflow_calib_provider.domain.keys import BLOCKS, Keys, blocks_of, parts_of, type_of, words_of
from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.scalars import OneOf, Reads
from airflow_calib_provider.kinds import BACKENDS, CHANNELS, GROUPINGS, LOCKS, RUN_SOURCES
from airflow_calib_provider.spec import (
    chat_keys,
    failure_keys,
    iterate_keys,
    job_keys,
    lock_keys,
    messages_file,
    product_keys,
    publish_keys,
    sources_keys,
    store_keys,
    task_keys,
    verdict_keys,
)
from airflow_calib_provider.spec.categories_file import CategoriesKeys
from airflow_calib_provider.spec.schema import schema_text

PAGE = "specification.md"
SCHEMA = "calib-v1.schema.json"
HEAD = "| key | type | default | meaning |\n|---|---|---|---|\n"

_PLURALS = {"text": "texts", "template": "templates"}


def tables() -> dict[str, str]:
    """The heading of each section, and its table."""
    models: dict[str, list[type[Keys]]] = {
        "Workflow": [task_keys.WorkflowKeys],
        "runs": [task_keys.RunsKeys],
        "defaults": [job_keys.DefaultsKeys],
        "tasks": [task_keys.TaskKeys],
        "group_by": [task_keys.PolicyKeys],
        **{f"group_by.{name}": [GROUPINGS.member(name).keys] for name in GROUPINGS.own},
        "failed_runs": [FailedRunsKeys],
        "locks": [lock_keys.LockKeys],
        **{f"locks.{name}": [keys] for name in LOCKS.own if (keys := LOCKS.member(name).keys)},
        "jobs": [job_keys.JobsKeys],
        "split": [job_keys.SplitKeys],
        "inputs": [job_keys.InputsKeys],
        "credentials": [job_keys.CredentialsKeys],
        "resources": [job_keys.ResourcesKeys],
        "failures": [failure_keys.RuleKeys],
        "failures.when": [failure_keys.WhenKeys],
        "failures.memory": [failure_keys.MemoryKeys],
        **{
            heading: [keys]
            for name in BACKENDS.own
            if (block := BACKENDS.member(name).keys)
            for heading, keys in _with_inner(name, block)
        },
        "iterate": [iterate_keys.IterateKeys],
        "iterate.constants": [iterate_keys.ConstantsKeys, iterate_keys.ConstantsFromKeys],
        "iterate.phases": [iterate_keys.PhaseKeys],
        "iterate.measure": [iterate_keys.MeasuredKeys],
        "iterate.metrics": [iterate_keys.MetricKeys],
        "iterate.workers": [iterate_keys.WorkersKeys],
        "iterate.sequence": [iterate_keys.StageKeys, iterate_keys.CornerKeys],
        "products": [product_keys.ProductKeys],
        "publish": [publish_keys.PublishKeys],
        "publish.set": [store_keys.SetKeys],
        "publish.stores": [store_keys.StoreKeys],
        "approve": [publish_keys.ApproveKeys],
        "verdict": [verdict_keys.LimitKeys],
        "by": [publish_keys.ByKeys],
        "Categories": [CategoriesKeys],
        "Messages": [messages_file.MessagesKeys, messages_file.ChannelKeys],
        "quiet": [messages_file.QuietKeys],
        "actions": [chat_keys.ActionsKeys],
        "people": [chat_keys.PersonKeys],
        **{name: [CHANNELS.member(name).keys] for name in CHANNELS.own},
        "Sources": [sources_keys.SourcesKeys, sources_keys.SourceKeys],
        **{
            heading: [keys]
            for name in RUN_SOURCES.own
            for heading, keys in _with_inner(name, RUN_SOURCES.member(name).keys)
        },
    }
    return {
        heading: HEAD + "".join(row for model in found for row in _rows(model)) for heading, found in models.items()
    }


def _with_inner(name: str, keys: type[Keys]) -> Iterator[tuple[str, type[Keys]]]:
    """A block and the mappings in it, each with a table of its own, but for those that its row shows whole."""
    yield name, keys
    for key, field in keys.declared.items():
        inner = _mapping_in(type_of(field))
        if inner is not None and "{" not in words_of(field).type:
            yield f"{name}.{key}", inner


def _mapping_in(kind: object) -> type[Keys] | None:
    """The mapping with fixed keys that a type is, or consists of."""
    kind, _ = parts_of(kind)
    if isinstance(kind, type) and issubclass(kind, Keys):
        return kind
    return next((found for part in get_args(kind) if (found := _mapping_in(part)) is not None), None)


def written(page: str) -> str:
    """A page with its tables as they are to be.

    :raises ValueError: a section, or its table, is missing.
    """
    for heading, table in tables().items():
        section = re.search(rf"^#+ `?{re.escape(heading)}`?\n(?:(?!^#).*\n)*?(\| key \|.*\n(?:\|.*\n)*)", page, re.M)
        if section is None:
            raise ValueError(f"no section {heading!r} with a table")
        page = page[: section.start(1)] + table + page[section.end(1) :]
    return page


def _rows(model: type[Keys]) -> Iterator[str]:
    if model.extra_says:
        extra = get_args(get_type_hints(model, include_extras=True)["__pydantic_extra__"])[1]
        yield _row("<field>", _words(extra), "required", model.extra_says)
    for key, field in model.declared.items():
        if key == BLOCKS:
            yield from _block_rows(model, field)
        else:
            yield _row(key, _type(field), _default(field), field.description or "")


def _block_rows(model: type[Keys], field: FieldInfo) -> Iterator[str]:
    blocks = blocks_of(model)
    for name in blocks.kinds.own if blocks is not None else ():
        keys = blocks.keys(name) if blocks is not None else None
        if keys is None:
            continue
        says = "; ".join(part for part in (keys.says, field.description) if part)
        yield _row(name, "mapping", words_of(field).default, says)


def _row(key: str, kind: str, default: str, says: str) -> str:
    return " | ".join([f"| `{key}`", kind, default, says]).replace("|  |", "| |") + " |\n"


def _type(field: FieldInfo) -> str:
    return words_of(field).type or _words(type_of(field))


def _words(kind: object) -> str:
    kind, more = parts_of(kind)
    for item in more:
        if isinstance(item, Reads):
            return item.words
        if isinstance(item, OneOf):
            options = [f"`{option}`" for option in get_args(kind)]
            return " or ".join([", ".join(options[:-1]), options[-1]]) if len(options) > 1 else options[0]
    if get_origin(kind) in (Union, UnionType):
        return _words(get_args(kind)[0])
    if get_origin(kind) is tuple:
        inner = _words(get_args(kind)[0])
        return f"list of {_PLURALS.get(inner, inner)}"
    return "mapping"


def _default(field: FieldInfo) -> str:
    words = words_of(field)
    if words.missing:
        return "required"
    if words.default:
        return words.default.strip()
    value = field.get_default(call_default_factory=True)
    if value is None or value == () or value == {}:
        return "none"
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if isinstance(value, str) else str(value)


def main(folder: Path) -> None:
    """Write the tables and the schema."""
    page = folder / PAGE
    page.write_text(written(page.read_text("utf-8")), "utf-8")
    (folder / SCHEMA).write_text(schema_text(), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
