"""What is known of the files of a folder without reading them as YAML (rule 43).

Everything here is a copy that may be deleted at any time. What is damaged, of another version of this software, or
cannot be written is as good as not there. A task's process imports this module, and not what reads YAML.
"""

from __future__ import annotations

import hashlib
import json
import os
import sysconfig
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.settings import calib_home
from airflow_calib_provider.spec.language import CATEGORIES_FILE, MESSAGES_FILE, SOURCES_FILE
from airflow_calib_provider.spec.models import Workflow
from airflow_calib_provider.spec.regular import read_bytes

SETTLED = 2.0
"""Seconds: a file that changed later could change again without its times telling so."""


class NotKept(Exception):
    """Not in the cache any more."""


UNUSABLE = (ValidationError, KeyError, ValueError, TypeError, NotKept)
"""What reading something raises that is damaged, or was kept by another version."""


def good_workflow(path: Path) -> Workflow | None:
    """The workflow of a file that is known to have no mistakes, nor have the run sources; else ``None``.

    As long as these files and the categories stay as they are, it stays good whatever becomes of others: a workflow
    that others spoil goes on with its last good text, which is this one. Then nothing else of the folder is looked at.
    """
    root = cache_folder()
    if root is None:
        return None
    memo = root / f"f-{digest(str(path), str(os.geteuid()))}"
    files = (path, path.with_name(SOURCES_FILE), path.with_name(CATEGORIES_FILE))
    now, settled = signature(files)
    with suppress(*UNUSABLE):
        known = read(memo)
        if isinstance(known, dict) and known.get("signature") == now:
            return load(path, known["workflow"])
    with suppress(*UNUSABLE):
        index, _ = index_of(path.parent)
        if index is not None and not index["source_errors"] and index["files"][path.name]["workflow"] is not None:
            dumped = _dumped(root, index["files"][path.name]["workflow"])
            found = load(path, dumped)
            if settled and signature(files)[0] == now:
                write(memo, {"signature": now, "workflow": dumped})
            return found
    return None


def workflow_files(folder: Path) -> list[Path]:
    """The workflows' files of a folder. Hidden ones are no specs: editors and copies in progress leave them behind."""
    names = (SOURCES_FILE, CATEGORIES_FILE, MESSAGES_FILE)
    return sorted(path for path in folder.glob("*.yaml") if path.name not in names and not path.name.startswith("."))


# what the files are now


def cache_folder() -> Path | None:
    """Where all of this lies; ``None`` where that is not known."""
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
    for path in sorted(installed):
        with suppress(OSError):
            parts.append(f"{path} {path.stat().st_mtime_ns}")
    if ours.parent not in installed:
        parts += sorted(_changed(str(ours)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _changed(folder: str) -> Iterator[str]:
    """The files of a checkout that Python imports, each with when it changed."""
    with suppress(OSError), os.scandir(folder) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                yield from _changed(item.path)
            elif item.name.endswith(".py"):
                yield f"{item.path} {item.stat().st_mtime_ns}"


def index_of(folder: Path) -> tuple[Mapping[str, Any] | None, tuple[str, ...] | None]:
    """What is kept about the folder as it is now, and under which keys it is kept: for any folder, or for this one."""
    root, keys = cache_folder(), _known_keys(folder)
    if root is None or not keys:
        return None, None
    for key in keys:
        found = read(root / f"i-{key}")
        if isinstance(found, dict):
            return found, keys
    return None, keys


def _known_keys(folder: Path) -> tuple[str, ...]:
    """The keys of what the files are now; without reading them, if they are as they were."""
    root = cache_folder()
    if root is None or not folder.is_dir():
        return ()
    files = [*workflow_files(folder), folder / SOURCES_FILE, folder / CATEGORIES_FILE]
    now, settled = signature(files)
    memo = root / f"m-{digest(str(folder), str(os.geteuid()))}"
    known = read(memo)
    if isinstance(known, dict) and known.get("signature") == now:
        return str(known["any"]), str(known["here"])
    keys = keys_of(folder)
    if settled and signature(files)[0] == now and workflow_files(folder) == files[:-2]:
        write(memo, {"signature": now, "any": keys[0], "here": keys[1]})
    return keys


def signature(files: Iterable[Path]) -> tuple[str, bool]:
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
    return digest(_software(), repr(parts)), time.time() - newest / 1e9 > SETTLED


def keys_of(folder: Path) -> tuple[str, str]:
    """Of the content of the files: for any folder that has it, and for this one."""
    parts = []
    for path in [*workflow_files(folder), folder / SOURCES_FILE, folder / CATEGORIES_FILE]:
        try:
            parts.append(f"{path.name}\0{hashlib.sha256(read_bytes(path)).hexdigest()}")
        except OSError as error:
            parts.append(f"{path.name}\0{error.errno}")
    return key_of(*parts), key_of(*parts, str(folder))


def key_of(*parts: str) -> str:
    """The key of what this software makes of some texts."""
    return digest(_software(), *parts)


def digest(*parts: str) -> str:
    """A name for some texts together."""
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()


# what is kept


def workflow_of(path: Path, entry: str | None) -> Workflow | None:
    """A workflow that was kept, as that of a file.

    :raises NotKept: it is gone, or damaged.
    """
    root = cache_folder()
    return None if entry is None or root is None else load(path, _dumped(root, entry))


def _dumped(root: Path, entry: str) -> str:
    dumped = read(root / entry)
    if not isinstance(dumped, str):
        raise NotKept(entry)
    return dumped


def load(path: Path, dumped: str) -> Workflow:
    """A workflow from its JSON.

    :raises ValidationError: it is none, such as that of another version.
    """
    return Workflow.model_validate_json(dumped).model_copy(update={"file": str(path)})


def read(file: Path) -> object:
    """What was written; ``None`` if it is not there, or not as it was written."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    checksum, _, payload = content.partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != checksum:
        return None
    found: object = json.loads(payload)
    return found


def write(file: Path, content: object) -> bool:
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
