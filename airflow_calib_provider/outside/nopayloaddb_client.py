"""Requests to a nopayloaddb server, which may change something there: sent once, and told apart by how they failed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow_calib_provider.errors import (
    OutsideError,
    StoreError,
    StoreInvalid,
    StoreRefused,
    StoreUnauthorised,
    StoreUnavailable,
    StoreUnknown,
)
from airflow_calib_provider.outside.connections import OutsideConnection, outside_connection
from airflow_calib_provider.outside.http import FIELDS, HTTP_CONNECTION, HttpService
from airflow_calib_provider.outside.limits import CONNECT, Deadline, without_secrets
from airflow_calib_provider.outside.strict_json import BadJson, parse_json

CONNECTION = "calib_nopayloaddb"
"""The type of our own connections, which have a form."""

SECONDS = 15.0
"""Seconds that an answer may take."""
MAX_BYTES = 100_000_000
"""Of one answer."""

_API = "api/cdb_rest"
_LOOK_UP = "payloadiovs/?gtName=any&majorIOV=0&minorIOV=0"
"""Answered with a list, whatever there is."""
_AWAY = (408, 425, 429, 502, 503, 504)


@dataclass(frozen=True)
class Server:
    """What a connection says of a server.

    :ivar files: the folder below which payloads are kept, since the server keeps where they are only.
    """

    service: HttpService
    files: Path

    @classmethod
    def of(cls, name: str) -> Server:
        """:raises OutsideError: there is no such connection, or it does not say where the server and the files are."""
        return cls.of_connection(outside_connection(name))

    @classmethod
    def of_connection(cls, found: OutsideConnection) -> Server:
        """As :meth:`of`, of a connection that is known."""
        name, extra = found.name, dict(found.extra)
        files = str(extra.pop("files", "") or "")
        if found.kind == CONNECTION and (unknown := sorted(set(extra) - set(FIELDS))):
            said = f"the connection {name} has the unknown field {unknown[0][:60]!r}"
            raise OutsideError(said, f"there are files, {', '.join(FIELDS)}")
        if not files.startswith("/"):
            said = f"the connection {name} does not say where the payloads are kept"
            raise OutsideError(said, "its extra field `files` is the absolute path of a folder")
        kind = HTTP_CONNECTION if found.kind == CONNECTION else found.kind
        return cls(HttpService.of(replace(found, kind=kind, extra=extra)), Path(files))


@dataclass(frozen=True)
class ServerAnswer:
    """What the server has said.

    :ivar document: its JSON; ``None`` where it is none.
    """

    status: int
    document: Any


def ask(server: Server, method: str, *path: object, body: object = None) -> Any:
    """The JSON that the server answers with.

    :raises StoreError: of the kind that says what is to be done.
    """
    where = "/".join(quote(str(part), safe="") for part in path)
    answer = _sent(server, method, where, body)
    if answer.status == 200 and answer.document is not None:
        return answer.document
    raise _fault(server, f"{method} {path[0]}", answer)


def found(server: Server, *path: object) -> Any | None:
    """As :func:`ask` of what may not be there; ``None``: it is not."""
    where = "/".join(quote(str(part), safe="") for part in path)
    answer = _sent(server, "GET", where, None)
    if answer.status == 404:
        return None
    if answer.status == 200 and answer.document is not None:
        return answer.document
    raise _fault(server, f"GET {path[0]}", answer)


def answers(server: Server) -> str:
    """Whether a server is what it should be, and the folder of payloads is there; in words.

    :raises OutsideError: it is not.
    """
    answer = _sent(server, "GET", _LOOK_UP, None)
    if answer.status != 200:
        raise _fault(server, "GET payloadiovs", answer)
    if not isinstance(answer.document, list):
        raise StoreInvalid(f"{server.service.url} does not answer as a nopayloaddb does", "see its address")
    if not server.files.is_dir():
        raise OutsideError(f"{server.files} is not there", "see the field `files` of the connection")
    return f"{server.service.url} answers, and {server.files} is there"


def _sent(server: Server, method: str, where: str, body: object) -> ServerAnswer:
    import urllib3
    from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

    service = server.service
    deadline = Deadline.within(SECONDS, f"{method} {where}")
    options: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED" if service.verify else "CERT_NONE"}
    if service.ca_file:
        options["ca_certs"] = service.ca_file
    base = service.url if service.url.endswith(_API) else f"{service.url}/{_API}"
    headers = {"Accept": "application/json", "Content-Type": "application/json", **service.headers}
    content = None if body is None else json.dumps(body).encode()
    with urllib3.PoolManager(retries=False, **options) as pool:
        try:
            answer = pool.request(
                method, f"{base}/{where}", body=content, headers=headers, redirect=False, preload_content=False,
                timeout=urllib3.Timeout(connect=CONNECT, read=SECONDS),
            )  # fmt: skip
            return ServerAnswer(answer.status, _document(answer, deadline))
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise StoreUnavailable(_told(server, where, error), "it is asked again") from error
        except (HTTPError, OSError, OutsideError) as error:
            if isinstance(error, StoreError):
                raise
            kind = StoreUnavailable if method == "GET" else StoreUnknown
            raise kind(_told(server, where, error), "it is looked at again") from error


def _document(answer: Any, deadline: Deadline) -> Any:
    parts, size = [], 0
    while part := answer.read1(65_536, decode_content=True):
        deadline.left()
        size += len(part)
        if size > MAX_BYTES:
            raise StoreInvalid(f"the answer has more than {MAX_BYTES:,} bytes")
        parts.append(part)
    try:
        return parse_json(b"".join(parts).decode())
    except (BadJson, UnicodeDecodeError):
        return None


def _told(server: Server, where: str, error: Exception) -> str:
    said = without_secrets(f"{type(error).__name__}: {error}", server.service.secrets)
    return f"{server.service.url}: {where}: {said}"


def _fault(server: Server, asked: str, answer: ServerAnswer) -> StoreError:
    """By what was asked and what is said, since refusals have the status 500, too."""
    detail = answer.document.get("detail") if isinstance(answer.document, dict) else None
    body = detail if isinstance(detail, str) else json.dumps(answer.document) if answer.document is not None else ""
    clean = without_secrets(re.sub(r"\s+", " ", body), server.service.secrets)
    said = f"{server.service.url}: {asked}: HTTP {answer.status}{f': {clean}' if clean else ''}"
    if answer.status in (401, 403):
        return StoreUnauthorised(said, "see the token of the connection, and what it may write")
    if answer.status in _AWAY:
        return StoreUnavailable(said, "it is asked again")
    if answer.status == 500 and isinstance(detail, str):
        return StoreRefused(said, "see the state of the global tag")
    if answer.status >= 500:  # a page of HTML: its database is away, or it has died of what was asked
        return StoreUnavailable(said, "it is asked again; else see the server's log")
    return StoreInvalid(said, "is it a nopayloaddb, of the version that is meant?")
