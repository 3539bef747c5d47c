"""A lock on a file, or on what lies at an address."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, JsonValue
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Where, Words
from airflow_calib_provider.domain.locks.base import LockKind
from airflow_calib_provider.domain.locks.outside_keys import AskedKeys
from airflow_calib_provider.domain.scalars import WHAT, Duration, Reads, filled, mistake
from airflow_calib_provider.outside.files import path_fault

_NO_TEMPLATE = "{{"


def _path(value: object) -> str:
    found = filled(value, "the path of a file")
    # What a template comes to is looked at when it is rendered.
    is_known = _NO_TEMPLATE not in found or not found.startswith(("/", _NO_TEMPLATE))
    fault = path_fault(found if is_known else f"/{found}")
    if fault:
        raise mistake(f"{WHAT} {found[:200]!r} {fault}", "the absolute path of a file")
    return found


def _url(value: object) -> str:
    found = filled(value, "an address")
    if fault := url_fault(found):
        raise mistake(f"{WHAT} {fault}", "an address such as https://data.example.org/laser.json")
    return found


def url_fault(url: str) -> str:
    """Why nothing can be asked for at an address; empty: it can. It does not say a password that is in it."""
    try:
        parts = urlsplit(url)
        port_is_good = "{{" in parts.netloc or parts.port != 0
    except ValueError:
        return "is no address"
    if "@" in parts.netloc:
        return "has a user or a password in it, which everybody could read: a lock of the kind http uses a connection"
    if parts.scheme not in ("http", "https") or not parts.netloc or not port_is_good:
        return f"is {url[:200]!r}"
    if not url.isprintable() or (" " in url and "{{" not in url) or parts.fragment:
        return f"is {url[:200]!r}, which has a space, a line break or a fragment"
    return ""


FilePath = Annotated[str, Reads(_path, {"type": "string", "pattern": r"\S"}, "template")]
Address = Annotated[str, Reads(_url, {"type": "string", "pattern": r"^https?://"}, "template")]


class FileKeys(AskedKeys):
    """The block ``file``."""

    says: ClassVar[str] = "open when a file is there, not empty, and unchanged for some time"

    path: Annotated[
        FilePath | None,
        Words(default=" "),
        Field(description="an absolute path, as the machine of Airflow's triggerer sees it; or `url`"),
    ] = None
    url: Annotated[
        Address | None,
        Words(default=" "),
        Field(description="an address, `http` or `https`, that needs no login; or `path`"),
    ] = None
    stable_for: Annotated[
        Duration, Field(description="so long it must have been seen unchanged (size, time of change, which file)")
    ] = timedelta(minutes=1)

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """One place."""
        yield from super().check()
        if self.has("path") == self.has("url"):
            has = "path and url" if self.has("path") else "neither path nor url"
            yield (), mistake(f"{WHAT} has {has}", "one of them")

    @classmethod
    def more_schema(cls) -> dict[str, object]:
        """What :meth:`check` says, as JSON Schema."""
        return {"oneOf": [{"required": ["path"]}, {"required": ["url"]}]}


class FileLockKind(LockKind):
    """Open when a file is there, not empty, and unchanged for some time."""

    name = "file"
    keys = FileKeys
    example = "{file: {path: /data/laser/done.json}}"
    once = "each place once"
    loader = "airflow_calib_provider.ledger.locks.file:LOCK"
    release = "the file"
    of_runs = False
    may_shut = True

    def on(self, keys: FileKeys) -> str:
        """The place."""
        return f"the file {keys.path or keys.url}"

    def texts(self, keys: FileKeys) -> Iterator[tuple[str, str]]:
        """The place."""
        for name in ("path", "url"):
            if text := getattr(keys, name):
                yield name, text

    def row(self, keys: FileKeys) -> tuple[str, dict[str, JsonValue]]:
        """With the seconds."""
        place: dict[str, JsonValue] = {"path": keys.path} if keys.path else {"url": keys.url}
        stable = int(keys.stable_for.total_seconds())
        return self.name, {**place, "what": keys.path or keys.url, "stable_for": stable, **keys.asking()}


KIND = FileLockKind()
