"""Checked files, kept by their content: an unchanged file is not read as YAML again (rule 43).

Everything here is a copy that may be deleted at any time. What is damaged, of another version of this software, or
cannot be written is as good as not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import sysconfig
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from airflow_calib_provider.errors import CalibError, Place, SpecError
from airflow_calib_provider.settings import calib_home
from airflow_calib_provider.spec.language import SOURCES_FILE
from airflow_calib_provider.spec.loader import FileCheck, FolderCheck, check_folder, workflow_files
from airflow_calib_provider.spec.models import RunSource, Workflow
from airflow_calib_provider.spec.positions import read_bytes

MOST_FILES = 5_000
"""So many files are kept; then the older half goes."""

SETTLED = 2.0
"""Seconds: a file that changed later could change again without its times telling so."""

_SOURCES = TypeAdapter(dict[str, RunSource])


def checked(folder: Path) -> FolderCheck:
    """As :func:`~airflow_calib_provider.spec.loader.check_folder`, from the cache where nothing has changed."""
    index, keys = _index(folder)
    if index is not None:
        with suppress(ValidationError, KeyError, ValueError, TypeError, _MissingError):
            return _restored(folder, index)
    check = check_folder(folder)
    if keys and keys == _keys(folder):
        # Nothing has changed meanwhile. A mistake may name the folder: such a result is for this folder alone.
        _keep(check, keys[1] if check.errors else keys[0])
    return check


def good_workflow(path: Path) -> Workflow | None:
    """The workflow of a file that is known to have no mistakes, nor have the run sources; else ``None``.

    As long as these two files stay as they are, it stays good whatever becomes of others: a workflow that others spoil
    goes on with its last good text, which is this one.
    """
    root = _root()
    if root is None:
        return None
    memo = root / f"f-{_digest(str(path), str(os.geteuid()))}"
    files = (path, path.with_name(SOURCES_FILE))
    signature, settled = _signature(files)
    with suppress(ValidationError, KeyError, ValueError, TypeError, _MissingError):
        known = _read(memo)
        if isinstance(known, dict) and known.get("signature") == signature:
            return _workflow(path, known["workflow"])
    with suppress(ValidationError, KeyError, ValueError, TypeError, _MissingError):
        index, _ = _index(path.parent)
        if index is not None and not index["source_errors"]:
            entry = index["files"][path.name]["workflow"]
            found = _workflow(path, entry)
            if settled and found is not None and _signature(files)[0] == signature:
                _write(memo, {"signature": signature, "workflow": entry})
            return found
    return None


class _MissingError(Exception):
    """Not in the cache any more."""


def _root() -> Path | None:
    try:
        return calib_home() / "cache" / "specs"
    except CalibError:
        return None


@cache
def _software() -> str:
    """What decides how a text is read: this package, and the packages that add kinds to it."""
    ours = Path(__file__).parents[1]
    installed = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    try:
        parts = [version("airflow-calib-provider")]
    except PackageNotFoundError:
        parts = [""]
    looked_at = sorted(installed) + ([] if ours.parent in installed else sorted(ours.rglob("*.py")))
    for path in looked_at:
        with suppress(OSError):
            parts.append(f"{path} {path.stat().st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _index(folder: Path) -> tuple[Mapping[str, Any] | None, tuple[str, ...] | None]:
    """What is kept about the folder as it is now, and under which keys it is kept: for any folder, or for this one."""
    root, keys = _root(), _known_keys(folder)
    if root is None or not keys:
        return None, None
    for key in keys:
        found = _read(root / f"i-{key}")
        if isinstance(found, dict):
            return found, keys
    return None, keys


def _known_keys(folder: Path) -> tuple[str, ...]:
    """The keys of what the files are now; without reading them, if they are as they were."""
    root = _root()
    if root is None or not folder.is_dir():
        return ()
    files = [*workflow_files(folder), folder / SOURCES_FILE]
    signature, settled = _signature(files)
    memo = root / f"m-{_digest(str(folder), str(os.geteuid()))}"
    known = _read(memo)
    if isinstance(known, dict) and known.get("signature") == signature:
        return str(known["any"]), str(known["here"])
    keys = _keys(folder)
    if settled and _signature(files)[0] == signature and workflow_files(folder) == files[:-1]:
        _write(memo, {"signature": signature, "any": keys[0], "here": keys[1]})
    return keys


def _signature(files: Iterable[Path]) -> tuple[str, bool]:
    """Changes when a file does; and whether the last change is long enough ago for that to be relied on."""
    parts: list[tuple[str | int, ...]] = []
    newest = 0
    for file in files:
        try:
            found = file.stat()
        except OSError as error:
            parts.append((file.name, error.errno or 0))
            continue
        times = (found.st_mtime_ns, found.st_ctime_ns)
        newest = max(newest, *times)
        parts.append((file.name, *times, found.st_size, found.st_ino, found.st_mode, found.st_uid))
    return _digest(_software(), repr(parts)), time.time() - newest / 1e9 > SETTLED


def _keys(folder: Path) -> tuple[str, str]:
    """Of the content of the files: for any folder that has it, and for this one."""
    parts = [_software()]
    for path in [*workflow_files(folder), folder / SOURCES_FILE]:
        try:
            parts.append(f"{path.name}\0{hashlib.sha256(read_bytes(path)).hexdigest()}")
        except OSError as error:
            parts.append(f"{path.name}\0{error.errno}")
    return _digest(*parts), _digest(*parts, str(folder))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()


# to and from JSON


def _keep(check: FolderCheck, key: str) -> None:
    root = _root()
    if root is None:
        return
    files: dict[str, Any] = {}
    for item in check.files:
        entry = None
        if item.workflow is not None:
            plain = item.workflow.model_copy(update={"file": item.file.name})
            dumped = plain.model_dump_json(exclude_defaults=True)
            entry = f"w-{_digest(dumped)}"
            # What would come back as something else is not kept.
            if _load(item.file, dumped) != item.workflow or not _write(root / entry, dumped):
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
    }
    if _write(root / f"i-{key}", index):
        _prune(root)


def _restored(folder: Path, index: Mapping[str, Any]) -> FolderCheck:
    files = []
    for name, item in index["files"].items():
        path = folder / name
        workflow = None if item["workflow"] is None else _workflow(path, item["workflow"])
        errors = _errors_in(item["errors"])
        files.append(FileCheck(path, item["name"], item["hash"], workflow, errors, item["alone"], item["clashes"]))
    sources = _SOURCES.validate_json(index["sources"])
    return FolderCheck(folder, tuple(files), sources, index["sources_text"], _errors_in(index["source_errors"]))


def _workflow(path: Path, entry: str | None) -> Workflow | None:
    root = _root()
    if entry is None or root is None:
        return None
    dumped = _read(root / entry)
    if not isinstance(dumped, str):
        raise _MissingError(entry)
    return _load(path, dumped)


def _load(path: Path, dumped: str) -> Workflow:
    return Workflow.model_validate_json(dumped).model_copy(update={"file": str(path)})


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


# files


def _read(file: Path) -> object:
    """What was written; ``None`` if it is not there, or not as it was written."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, _, payload = content.partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        return None
    found: object = json.loads(payload)
    return found


def _write(file: Path, content: object) -> bool:
    """Write a file as a whole, so that no reader ever sees a part."""
    payload = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    part = file.with_name(f".{uuid.uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
        part.replace(file)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        return False
    return True


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
