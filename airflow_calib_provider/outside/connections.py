"""Airflow's connections for the core, which does not import Airflow: whoever does says how they are looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeAlias

from airflow_calib_provider.errors import CalibError, OutsideError


@dataclass(frozen=True)
class OutsideConnection:
    """What an Airflow connection says. What may be secret is not shown.

    :ivar name: its id.
    :ivar kind: its type.
    :ivar extra: its extra fields.
    """

    name: str
    kind: str
    host: str = ""
    port: int | None = None
    schema: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    extra: Mapping[str, object] = field(default_factory=dict, repr=False)


Lookup: TypeAlias = Callable[[str], OutsideConnection | None]
"""A connection by its id; ``None``: there is none."""

_lookups: list[Lookup] = []

_fetched: ContextVar[Mapping[str, OutsideConnection | OutsideError] | None] = ContextVar("fetched", default=None)


def look_up_with(lookup: Lookup) -> None:
    """Say how connections are looked up in this process from now on."""
    _lookups[:] = [lookup]


def outside_connection(name: str) -> OutsideConnection:
    """A connection by its id.

    :raises OutsideError: there is none, or nobody in this process knows connections.
    """
    found = (_fetched.get() or {}).get(name)
    if found is None:
        found = _look_up(name)
    if isinstance(found, OutsideError):
        # Not itself, which would keep everything that each of its raises passed.
        raise OutsideError(found.message, found.hint)
    return found


@contextmanager
def fetched(names: Iterable[str]) -> Iterator[None]:
    """Look connections up now: within the block they are known, also in threads that are given its context."""
    token = _fetched.set({name: _look_up(name) for name in dict.fromkeys(names)})
    try:
        yield
    finally:
        _fetched.reset(token)


@contextmanager
def given(name: str, lookup: Lookup) -> Iterator[None]:
    """Look a connection up as somebody else knows how: within the block it is known in this thread."""
    try:
        found = lookup(name) or _missing(name)
    except Exception as error:  # noqa: BLE001 - whatever Airflow raises: it is the trouble of who needs it
        found = unreadable(name, error)
    token = _fetched.set({name: found})
    try:
        yield
    finally:
        _fetched.reset(token)


def unreadable(name: str, error: Exception) -> OutsideError:
    """The error of a connection that cannot be read.

    :param error: Airflow's; it quotes what it cannot parse, with the password that stands in there.
    """
    said = f": {error.message}" if isinstance(error, CalibError) else ""
    hint = (
        f"is AIRFLOW_CONN_{name.upper()} one that Airflow can read, and do its secrets backend and API server answer?"
    )
    return OutsideError(f"the connection {name!r} cannot be looked up: {type(error).__name__}{said}", hint)


def _missing(name: str) -> OutsideError:
    asked = f"AIRFLOW_CONN_{name.upper()}, secrets backends, and Airflow"
    hint = "create it in Airflow; a command sees the connections of the Airflow whose settings its shell has"
    return OutsideError(f"there is no connection {name!r} (asked were {asked})", hint)


def _look_up(name: str) -> OutsideConnection | OutsideError:
    if not _lookups:
        return OutsideError(
            f"the connection {name!r} cannot be looked up: this process has no Airflow",
            "use `calib`, or import airflow_calib_provider.hooks first",
        )
    try:
        found = _lookups[0](name)
    except Exception as error:  # noqa: BLE001 - whatever Airflow raises: it is the trouble of who needs it
        return unreadable(name, error)
    return found or _missing(name)
