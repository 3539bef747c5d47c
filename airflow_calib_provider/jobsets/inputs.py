"""Whether what job sets read is still there, asked before any job is submitted: anybody may have deleted a product.

Only files of ours are looked at: products and payloads. Whether a URL, or a file of the site, can be read is known
where the job runs, and not here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from airflow_calib_provider.errors import ProductError
from airflow_calib_provider.jobsets.context import GroupContext
from airflow_calib_provider.jobsets.render import Rendered
from airflow_calib_provider.settings import payloads_folder, products_folder

SHOWN = 3
"""How many missing files an error names."""


def require_inputs(context: GroupContext, rendered: Rendered) -> None:
    """Refuse jobs that name a product or a payload which is not there any more, or is to be removed.

    :raises ProductError: which file, what made it, and what makes it again.
    """
    ours = set(_texts([context.variables.get(name) for name in ("tasks", "workflows", "payloads")]))
    ours |= {text for text in rendered.inputs if _is_ours(text)}
    missing = sorted(text for text in ours if text in context.dropped or not _there(Path(text)))
    if not missing:
        return
    said = list(_texts([list(rendered.inputs), [dict(item) for item in rendered.definitions]]))
    named = [text for text in missing if any(text in item for item in said)]
    if named:
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        shown = "; ".join(_what(text, context) for text in named[:SHOWN])
        raise ProductError(f"what the jobs read is missing or empty: {shown}{more}", remedy(named[0]))


def _texts(value: object) -> Iterator[str]:
    """Every text inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Iterable):
        for item in value:
            yield from _texts(item)


def _is_ours(text: str) -> bool:
    if not text.startswith("/") or "\0" in text:
        return False
    path = Path(os.path.normpath(text))
    return any(path.is_relative_to(folder) for folder in (products_folder(), payloads_folder()))


def _there(path: Path) -> bool:
    try:
        return any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0
    except OSError:
        return False


def _parts(text: str) -> tuple[str, ...]:
    """Campaign, workflow, task, group, generation, job, ``out``, file; nothing for what is no product."""
    path = Path(os.path.normpath(text))
    parts = path.relative_to(products_folder()).parts if path.is_relative_to(products_folder()) else ()
    return parts if len(parts) > 6 else ()


def _what(text: str, context: GroupContext) -> str:
    if not (parts := _parts(text)):
        return text
    _, workflow, task, group, generation, job = parts[:6]
    said = f"{text}, made by {job} of {workflow}.{task} of {group} (generation {generation.removeprefix('g')})"
    return f"{said}, {why_dropped(context.dropped[text])}" if text in context.dropped else said


def why_dropped(due: datetime) -> str:
    """Of a product, why it is not there.

    :param due: when its time was over.
    """
    return f"was dropped: its task keeps it until {due:%Y-%m-%d %H:%M} UTC only (drop)"


def remedy(text: str) -> str:
    """What makes a file again.

    :param text: a product's, or a payload's.
    """
    if not (parts := _parts(text)):
        return "put it back, or run again the task that published it; then `calib retry`"
    campaign, workflow, task, group = parts[:4]
    return (
        f"`calib retry {group} --task {task} --workflow {workflow} --campaign {campaign}` makes it again; "
        "then `calib retry` of this group"
    )
