"""Locks on what services answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_calib_provider.errors import OutsideError, RenderError
from airflow_calib_provider.ledger.locks.outside import OutsideLock
from airflow_calib_provider.ledger.outside import OutsideAnswer, Question
from airflow_calib_provider.outside.http import path_fault

MAX_BYTES = 1_000_000
"""Of an answer, unpacked."""

ANSWER = "answer"
"""What conditions call the object."""


class HttpLock(OutsideLock):
    """Open when a service answers with JSON that meets a condition."""

    kind = "http"

    def templates(self, parameters: Mapping[str, Any]) -> Iterable[str]:
        """Path and query."""
        return (parameters["path"], *parameters["parameters"].values())

    def questions(self, parameters: Mapping[str, Any], variables: Mapping[str, object]) -> Question:
        """What the service is asked, and what it should answer."""
        from airflow_calib_provider.spec.templates import render_text

        path = render_text(parameters["path"], variables)
        if fault := path_fault(path):
            raise RenderError(f"path {path!r}: {fault}")
        query = {name: render_text(text, variables) for name, text in parameters["parameters"].items()}
        kept = {name: parameters[name] for name in ("connection", "at", "when", "fields", "timeout")}
        asked = {**kept, "path": path, "parameters": query}
        return Question(self.kind, asked, parameters["what"], timedelta(seconds=parameters["every"]))

    def told(self, data: Any) -> str:
        """Status, type and size of the last complete answer."""
        if not isinstance(data, dict):
            return ""
        return f"the last answer was HTTP {data['status']}, {data['type'] or 'of no type'}, {data['size']:,} bytes"

    def place(self, asked: Mapping[str, Any]) -> str:
        """The service."""
        return str(asked["connection"])

    def connection(self, asked: Mapping[str, Any]) -> str:
        """The one that is named."""
        return str(asked["connection"])

    def ask(self, asked: Mapping[str, Any], before: OutsideAnswer | None, now: datetime) -> OutsideAnswer:
        """One GET, and the condition."""
        from airflow_calib_provider.outside.connections import outside_connection
        from airflow_calib_provider.outside.http import HttpClient, HttpService
        from airflow_calib_provider.outside.limits import Deadline

        service = HttpService.of(outside_connection(asked["connection"]))
        address = service.address(asked["path"], asked["parameters"].items())
        deadline = Deadline.within(float(asked["timeout"]), service.url)
        client = HttpClient(service, deadline, tries=1, max_bytes=MAX_BYTES)
        try:
            found = client.get_json(address)
        finally:
            client.close()
        answer = _judged(asked, found.document)
        kept = {"status": 200, "type": found.type, "size": found.size}
        return OutsideAnswer(answer.opens, answer.said, kept)


def _judged(asked: Mapping[str, Any], document: object) -> OutsideAnswer:
    from airflow_calib_provider.outside.strict_json import at_path, kind_of
    from airflow_calib_provider.spec.conditions import Condition
    from airflow_calib_provider.spec.models import FieldType

    where = f"at {asked['at']} " if asked["at"] else ""
    try:
        found = at_path(document, asked["at"])
    except KeyError as error:
        raise OutsideError(f"the answer has no key {str(error.args[0])[:80]!r}, of `at: {asked['at']}`") from None
    if not isinstance(found, dict):
        raise OutsideError(f"the answer {where}is {kind_of(found)}, not an object")
    types = {name: FieldType(kind) for name, kind in asked["fields"].items()}
    values = {name: found.get(name) for name in types}
    if Condition(asked["when"], types, noun=ANSWER).evaluate(values):
        return OutsideAnswer(True)
    said = ", ".join(f"{name} is {kind_of(value)}" for name, value in values.items())
    return OutsideAnswer(False, f"is not so yet: {said}"[:500])


LOCK = HttpLock()
