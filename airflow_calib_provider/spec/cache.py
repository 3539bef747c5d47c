"""Checked files, kept by their content: an unchanged file is not read as YAML again (rule 43).

Everything here is a copy that may be deleted at any time. What is damaged, of another version of this software, or
cannot be written is as good as not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from airflow_calib_provider.errors import Place, SpecError
from airflow_calib_provider.spec import known
from airflow_calib_provider.spec.loader import FileCheck, FolderCheck, check_folder
from airflow_calib_provider.spec.models import RunSource

MOST_FILES = 5_000
"""So many files are kept; then the older half goes."""

_SOURCES = TypeAdapter(dict[str, RunSource])


def checked(folder: Path) -> FolderCheck:
    """As :func:`~airflow_calib_provider.spec.loader.check_folder`, from the cache where nothing has changed."""
    index, keys = known.index_of(folder)
    if index is not None:
        with suppress(*known.UNUSABLE):
            return _restored(folder, index)
    check = check_folder(folder, recall=True)
    if keys and keys == known.keys_of(folder):
        # Nothing has changed meanwhile. A mistake may name the folder: such a result is for this folder alone.
        _keep(check, keys[1] if check.errors else keys[0])
    return check


# to and from JSON


def _keep(check: FolderCheck, key: str) -> None:
    root = known.cache_folder()
    if root is None:
        return
    files: dict[str, Any] = {}
    for item in check.files:
        entry = None
        if item.workflow is not None:
            plain = item.workflow.model_copy(update={"file": item.file.name})
            dumped = plain.model_dump_json(exclude_defaults=True)
            entry = f"w-{known.digest(dumped)}"
            if known.read(root / entry) != dumped and not known.write(root / entry, dumped):
                return
            # What would come back as something else is not kept.
            if known.load(item.file, dumped) != item.workflow:
                return
        files[item.file.name] = {
            "name": item.name,
            "hash": item.hash,
            "workflow": entry,
            "errors": [_error_out(error) for error in item.errors],
            "alone": item.alone,
            "clashes": item.clashes,
        }
    index = {
        "files": files,
        "sources": _SOURCES.dump_json(dict(check.sources)).decode(),
        "sources_text": check.sources_text,
        "source_errors": [_error_out(error) for error in check.source_errors],
        "categories": dict(check.categories),
        "categories_text": check.categories_text,
        "category_errors": [_error_out(error) for error in check.category_errors],
    }
    if known.write(root / f"i-{key}", index):
        _prune(root)


def _restored(folder: Path, index: Mapping[str, Any]) -> FolderCheck:
    files = []
    for name, item in index["files"].items():
        path = folder / name
        workflow = None if item["workflow"] is None else known.workflow_of(path, item["workflow"])
        errors = _errors_in(item["errors"])
        files.append(FileCheck(path, item["name"], item["hash"], workflow, errors, item["alone"], item["clashes"]))
    sources = _SOURCES.validate_json(index["sources"])
    of_sources = (sources, index["sources_text"], _errors_in(index["source_errors"]))
    of_categories = (index["categories"], index["categories_text"], _errors_in(index["category_errors"]))
    return FolderCheck(folder, tuple(files), *of_sources, *of_categories)


def _error_out(error: SpecError) -> list[Any]:
    file = None if error.file is None else str(error.file)
    return [error.message, file, error.line, error.column, error.expected, error.suggestion, error.context]


def _errors_in(rows: Sequence[Sequence[Any]]) -> tuple[SpecError, ...]:
    return tuple(
        SpecError(
            message,
            Place(None if file is None else Path(file), line, column),
            expected=expected,
            suggestion=suggestion,
            context=context,
        )
        for message, file, line, column, expected, suggestion, context in rows
    )


def _prune(root: Path) -> None:
    """Keep the folder from growing without end; what is needed still is made again."""
    with suppress(OSError):
        files = list(root.iterdir())
        if len(files) > MOST_FILES:
            files.sort(key=_age)
            for file in files[: len(files) // 2]:
                file.unlink(missing_ok=True)


def _age(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
