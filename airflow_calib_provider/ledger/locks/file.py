"""Locks on files, and on what lies at addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from airflow_calib_provider.domain.locks.file import url_fault
from airflow_calib_provider.domain.quantities import format_duration, format_time
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.ledger.locks.outside import OutsideLock
from airflow_calib_provider.ledger.outside import OutsideAnswer, Question
from airflow_calib_provider.outside.files import FileLook, look_at_file, path_fault

TIMEOUT = 20.0
"""Seconds that an address has for its answer."""


class FileLock(OutsideLock):
    """Open when a file is there, not empty, and was seen unchanged for some time."""

    kind = "file"

    def templates(self, parameters: Mapping[str, Any]) -> Iterable[str]:
        """The place."""
        return (parameters["path" if "path" in parameters else "url"],)

    def questions(self, parameters: Mapping[str, Any], variables: Mapping[str, object]) -> Question:
        """Whether it is there."""
        from airflow_calib_provider.spec.templates import render_text

        key = "path" if "path" in parameters else "url"
        place = render_text(parameters[key], variables)
        if fault := (path_fault if key == "path" else url_fault)(place):
            raise RenderError(f"{key} {fault}" if key == "url" else f"{place!r} {fault}")
        asked = {key: place, "stable_for": parameters["stable_for"]}
        return Question(self.kind, asked, place, timedelta(seconds=parameters["every"]))

    def told(self, data: Any) -> str:
        """Its size, and since when it is as it is."""
        if not isinstance(data, dict):
            return ""
        size, since = data["signature"][0], datetime.fromisoformat(data["since"])
        return f"{f'{size:,} bytes' if size >= 0 else 'of a size not told'}, seen so since {format_time(since)}"

    def place(self, asked: Mapping[str, Any]) -> str:
        """The host, or the beginning of the path: what may be a file system of its own."""
        if "url" in asked:
            return str(urlsplit(asked["url"]).netloc)
        return "/".join(PurePosixPath(asked["path"]).parts[:3])

    def ask(self, asked: Mapping[str, Any], before: OutsideAnswer | None, now: datetime) -> OutsideAnswer:
        """Look at it, and compare with what was seen before."""
        found = look_at_file(asked["path"]) if "path" in asked else _look_at_address(asked["url"])
        if found.fault:
            return OutsideAnswer(False, found.fault)
        signature = list(found.signature)
        known = before.data if before is not None and isinstance(before.data, dict) else {}
        same = known.get("signature") == signature
        since = datetime.fromisoformat(known["since"]) if same else now
        stable = timedelta(seconds=asked["stable_for"])
        data = {"signature": signature, "since": since.isoformat()}
        if now - since >= stable:
            return OutsideAnswer(True, "", data)
        said = f"is there since {format_time(since)} as it is, and must be unchanged for"
        return OutsideAnswer(False, f"{said} {format_duration(stable)}", data)


def _look_at_address(url: str) -> FileLook:
    from airflow_calib_provider.outside.http import HttpClient, HttpService
    from airflow_calib_provider.outside.limits import Deadline

    parts = urlsplit(url)
    client = HttpClient(
        HttpService("", f"{parts.scheme}://{parts.netloc}", roams=True), Deadline.within(TIMEOUT, url), tries=1
    )
    try:
        head = client.head(url)
    finally:
        client.close()
    if head is None:
        return FileLook("is not there")
    if head.length == 0:
        return FileLook("is empty")
    return FileLook("", (head.length or -1, head.changed, head.tag))


LOCK = FileLock()
