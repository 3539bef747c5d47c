"""Reading run sources, whatever their kind."""

from __future__ import annotations

import hashlib
import os
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from airflow_calib_provider import __version__
from airflow_calib_provider.domain.keys import Keys, parts_of, type_of
from airflow_calib_provider.domain.run import RunListing, RunRecord, time_fault
from airflow_calib_provider.errors import CalibError, OutsideError, RenderError, RunSourceError
from airflow_calib_provider.spec.kinds import RunSourceKind, run_source_kind
from airflow_calib_provider.spec.models import RunSource

Block = TypeVar("Block", bound=Keys)

_DURATIONS = TypeAdapter(timedelta)

SECOND = 1_000_000_000
TICK = 20_000_000
"""Nanoseconds between two times of a file system: what is written within one cannot be told from what was before."""


def read_source(source: RunSource, *, base_folder: Path) -> list[RunRecord]:
    """Read a run source completely.

    :param base_folder: what a relative path is relative to: the folder of ``sources.yaml``.
    :returns: the runs by ascending number.
    :raises RunSourceError: it cannot be read or contradicts itself; names up to 20 mistakes with their places.
    :raises KindError: there is no such kind of run source, or it cannot be loaded.
    """
    kind = run_source_kind(source.kind)
    with _told(source):
        return _checked(source, kind.read(source, base_folder))


def read_on(source: RunSource, *, base_folder: Path, mark: Mapping[str, object] | None, now: datetime) -> RunListing:
    """Read what is new in a run source since it was read last, or all of it.

    :param base_folder: as for :func:`read_source`.
    :param mark: what that read has left; one of another version of the source is not used.
    :raises RunSourceError: as :func:`read_source`.
    """
    kind = run_source_kind(source.kind)
    version = hashlib.sha256(f"{__version__}\n{source.model_dump_json()}".encode()).hexdigest()
    own = mark.get("own") if mark and mark.get("of") == version else None
    with _told(source):
        found = kind.read_on(source, base_folder, own if isinstance(own, Mapping) else {}, now)
        _checked(source, found.runs)
    return found if found.mark is None else replace(found, mark={"of": version, "own": dict(found.mark)})


def _checked(source: RunSource, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Times with which nothing can be done would be everybody's trouble; kinds of this package tell their places."""
    for one in runs:
        if fault := time_fault(one.start) or time_fault(one.end):
            raise RunSourceError(
                f"the run source {source.name!r}, run {one.number}: {fault[0]}", f"expected {fault[1]}"
            )
    return list(runs)


@contextmanager
def _told(source: RunSource) -> Iterator[None]:
    try:
        yield
    except OutsideError as error:
        raise RunSourceError(f"the run source {source.name!r}: {error.message}", error.hint) from error
    except CalibError:
        raise
    except Exception as error:  # whatever a kind of another package raises: it is the trouble of this source alone
        raise RunSourceError(
            f"the run source {source.name!r} ({source.kind}) cannot be read: {type(error).__name__}: {error}"
        ) from error


def block_of(source: RunSource, keys: type[Block]) -> Block:
    """The block of a source, as the language reads it, from what is kept of it."""
    return _restored(keys, source.options)


def _restored(keys: type[Block], kept: Mapping[str, object]) -> Block:
    values: dict[str, object] = {}
    for name, value in kept.items():
        kind, _ = parts_of(type_of(keys.declared[name]))
        if kind is timedelta and isinstance(value, str):
            values[name] = _DURATIONS.validate_python(value)
        elif isinstance(kind, type) and issubclass(kind, Keys) and isinstance(value, dict):
            values[name] = _restored(kind, value)
        else:
            values[name] = value
    return keys.unstated(**values)


def connection_of(source: RunSource) -> str:
    """The Airflow connection that is used to read a source; empty: none, or its kind cannot be loaded."""
    try:
        return run_source_kind(source.kind).connection(source)
    except CalibError:
        return ""  # reading the source says it better


def identity_of(source: RunSource, *, base_folder: Path) -> str | None:
    """What a run source is now; ``None``: its kind cannot tell, so that it has to be read.

    :param base_folder: as for :func:`read_source`.
    """
    try:
        found = run_source_kind(source.kind).identity(source, base_folder)
    except Exception:  # noqa: BLE001 - whatever it is, reading the source says it better
        return None
    if found is None:
        return None
    return hashlib.sha256(f"{__version__}\n{source.model_dump_json()}\n{found}".encode()).hexdigest()


class FileKind(RunSourceKind):
    """A run source that is one file, named by its key ``path``."""

    @abstractmethod
    def read_file(self, path: Path, source: RunSource) -> list[RunRecord]:
        """The runs of the file.

        :param path: absolute.
        :raises RunSourceError: anything is wrong with it.
        """

    def read(self, source: RunSource, folder: Path) -> list[RunRecord]:
        """The runs of the file that the keys name."""
        return self.read_file(source_file(source, base_folder=folder), source)

    def identity(self, source: RunSource, folder: Path) -> str | None:
        """The file's place, size and times: a change of its content changes those, however small it is."""
        path = source_file(source, base_folder=folder)
        try:
            found = path.stat()
        except OSError:
            return None
        changed = max(found.st_mtime_ns, found.st_ctime_ns)
        age = time.time_ns() - changed
        if found.st_mtime_ns % SECOND == 0 and age < 2 * SECOND:
            return None  # of a file system that counts seconds: it may change once more within this one
        if 0 <= age < TICK:
            time.sleep((TICK - age) / SECOND)
        return f"{path} {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"

    def warnings(self, source: RunSource, folder: Path) -> Iterator[tuple[str, str, str]]:
        """A file that is not there yet may still come."""
        path = source_file(source, base_folder=folder)
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            hint = "" if path.is_dir() else "its workflows get no runs before it does"
            yield "path", f"the file {path} of the run source {source.name!r} {what}", hint


def source_file(source: RunSource, *, base_folder: Path) -> Path:
    """The file that a run source is read from, which need not exist.

    :raises RunSourceError: its path names an environment variable that is not set, or a user who is not known.
    """
    # Imported late: the ledger needs RunRecord, and not a template engine with it.
    from airflow_calib_provider.spec.templates import render_text

    template = str(source.options["path"])
    environment = {name: value for name, value in os.environ.items() if name.startswith("CALIB_")}
    try:
        text = render_text(template, {"env": environment})
    except RenderError as error:
        raise RunSourceError(
            f"the path {template!r} of the run source {source.name!r} cannot be rendered: {error.message}",
            "set the environment variable that it names",
        ) from error
    try:
        return (base_folder / Path(text).expanduser()).absolute()
    except RuntimeError as error:
        raise RunSourceError(
            f"the path {text!r} of the run source {source.name!r} names a home folder that is not known here",
            "write the absolute path",
        ) from error
