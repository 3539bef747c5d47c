"""The one way to an API server: bounded in time, nothing repeated, answers as plain JSON.

The client's own models cost seven times the time of the JSON that they are made of, its repetitions make twenty minutes
of a time-out, and what it says of an error is a page long: so only its configuration, its credentials and its pool of
connections are used.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow_calib_provider.backends.left import short
from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.outside.limits import without_secrets

if TYPE_CHECKING:
    from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings

Object = Mapping[str, Any]
"""An object of Kubernetes, as JSON has it."""

CONNECT, READ = 5.0, 20.0
"""Seconds to reach the server, and for each part of its answer."""

_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 30.0
_PAGE = 500
_ALIVE = (("SO_KEEPALIVE", 1), ("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 2))


_READ_OF_STRANGERS = 5_000
"""Bytes of what is no answer of an API server."""

_SECRET = 4
"""Characters below which a text is no secret."""


class ApiRefusal(BackendError):
    """The API server has answered, and what it says is no success.

    :ivar status: of HTTP.
    """

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status


class Api:
    """An API server, and a namespace of it.

    After a request without an answer others fail at once, for a while that grows, so that nobody waits for it again and
    again. The first answer ends that.
    """

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: Any = None
        self._namespace = settings.namespace
        self._trouble = ""
        self._pause = 0.0
        self._not_before = 0.0
        self._ahead = 0.0
        self.requests = 0
        """So many were made, for who counts them."""

    @property
    def namespace(self) -> str:
        """Where the jobs run.

        :raises BackendError: the connection leads nowhere.
        """
        self._connected()
        return self._namespace

    @property
    def host(self) -> str:
        """Where the server is.

        :raises BackendError: the connection leads nowhere.
        """
        return str(self._connected().configuration.host)

    def now(self) -> datetime:
        """The time by the server's clock, as it was told last: what it says of its objects is by that."""
        return datetime.fromtimestamp(time.time() - self._ahead, UTC)

    def close(self) -> None:
        """Close its connections; a later request opens others, as the connection says then."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None

    def check(self) -> None:
        """:raises BackendError: a request would fail now, as the last one had no answer."""
        if time.monotonic() < self._not_before:
            raise BackendError(self._trouble)

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """An object.

        :param path: below the namespace and after the group, such as ``jobs/name``; or whole, with a ``/`` before it.
        :raises ApiRefusal: there is none, or one may not see it.
        :raises BackendError: the server does not answer.
        """
        return self._json(self._request("GET", path, query)[0])

    def items(self, path: str, **query: object) -> Iterator[dict[str, Any]]:
        """All objects of a list, page by page.

        :raises ApiRefusal, BackendError: as for :meth:`get`.
        """
        after = ""
        while True:
            found = self.get(path, limit=_PAGE, **query, **({"continue": after} if after else {}))
            yield from found.get("items", ())
            after = found.get("metadata", {}).get("continue", "")
            if not after:
                return

    def text(self, path: str, **query: object) -> str:
        """A text, such as a log.

        :raises ApiRefusal, BackendError: as for :meth:`get`.
        """
        return self._request("GET", path, query)[0].decode(errors="replace")

    def create(self, path: str, body: Object, **query: object) -> tuple[dict[str, Any], list[str]]:
        """Make an object; returns it, and what the server warns of.

        :param query: such as ``dryRun``. :raises ApiRefusal: 409: there is one of this name.
        :raises BackendError: there is no answer, and it may have been made.
        """
        content, warnings = self._request("POST", path, query, body)
        return self._json(content), warnings

    def delete(self, path: str, **options: object) -> bool:
        """Delete an object; returns whether it was there.

        :param options: of Kubernetes' ``DeleteOptions``.
        :raises ApiRefusal, BackendError: as for :meth:`get`.
        """
        try:
            self._request("DELETE", path, {}, {"apiVersion": "v1", "kind": "DeleteOptions", **options})
        except ApiRefusal as error:
            if error.status != 404:
                raise
            return False
        return True

    def _json(self, content: bytes) -> dict[str, Any]:
        """:raises BackendError: it is not what an API server answers."""
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            said = self._shown(content[:_READ_OF_STRANGERS].decode(errors="replace"))[:200]
            raise BackendError(f"what answers at {self.host} is no API server: {said}")
        return found

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                from kubernetes.client import ApiClient

                access = self._settings.access()
                access.configuration.retries = False
                if self._settings.keep_alive:
                    access.configuration.socket_options = list(_socket_options())
                self._namespace = access.namespace
                self._client = ApiClient(access.configuration)
            return self._client

    def _request(
        self, method: str, path: str, query: Mapping[str, object], body: Object | None = None
    ) -> tuple[bytes, list[str]]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        self.check()
        client = self._connected()
        self.requests += 1
        try:
            answer = client.call_api(
                self._whole(path),
                method,
                query_params=[(name, str(value)) for name, value in query.items()],
                header_params={"Accept": "application/json, */*"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=(CONNECT, READ),
            )
            content = bytes(answer.data)
            answer.release_conn()
        except ApiException as error:
            raise self._refusal(method, path, error) from None
        except (HTTPError, OSError, ValueError) as error:
            raise self._silent(error) from error
        self._trouble, self._pause = "", 0.0
        with contextlib.suppress(TypeError, ValueError):  # something between us and the server leaves it out
            self._ahead = time.time() - parsedate_to_datetime(answer.headers.get("Date")).timestamp()
        return content, [self._shown(text) for text in _warnings(answer.headers)]

    def _whole(self, path: str) -> str:
        """The path of a resource of the namespace; what begins with ``/`` is of the cluster as a whole."""
        if path.startswith("/"):
            return path
        group = "/apis/batch/v1" if path.startswith("jobs") else "/api/v1"
        return f"{group}/namespaces/{self._namespace}/{path}"

    def _refusal(self, method: str, path: str, error: Any) -> BackendError:
        status = int(error.status or 0)
        if status == 0:
            return self._silent(error)
        self._trouble, self._pause = "", 0.0
        said = self._shown(_message(error))
        if status == 401:
            # What stands in the connection, or in its file, may have been renewed: it is read again.
            with self._lock:
                self._client = None
        said = f"the API server refuses to {_VERBS[method]} {path.partition('?')[0]}: {said} ({status})"
        hint = _HINTS.get(status, "").format(name=self._settings.name)
        return ApiRefusal(status, said, hint)

    def _shown(self, text: str) -> str:
        """What others say, without what lets us in: a proxy may repeat the request."""
        configuration = self._client.configuration if self._client is not None else None
        keys = [*(configuration.api_key or {}).values(), configuration.password] if configuration is not None else []
        secrets = [part for key in keys if key for part in (key, key.rpartition(" ")[2]) if len(part) >= _SECRET]
        return short(without_secrets(text, secrets, len(text)))

    def _silent(self, error: Exception) -> BackendError:
        self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause))
        self._not_before = time.monotonic() + self._pause
        host = self._client.configuration.host if self._client is not None else ""
        self._trouble = (
            f"the API server {host} of the connection {self._settings.name} does not answer: "
            + self._shown(str(error) or type(error).__name__)
        )
        return BackendError(self._trouble)


_HINTS = {
    401: "what the connection {name} says who one is, is not known there, or has expired: renew it",
    403: "`calib backend check` says which right is missing",
}
_VERBS = {"GET": "show", "POST": "create", "DELETE": "delete"}


def _message(error: Any) -> str:
    body = error.body
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace") if isinstance(body, bytes) else str(body or error.reason)


def _warnings(headers: Any) -> Iterator[str]:
    """The texts of ``Warning`` headers, ``299 - "text"``."""
    for value in headers.getlist("Warning"):
        yield value.partition('"')[2].rpartition('"')[0] or value


def _socket_options() -> Iterator[tuple[int, int, int]]:
    # A connection on which packets are dropped is seen as dead after nine seconds.
    for name, value in _ALIVE:
        level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
        if hasattr(socket, name):
            yield level, getattr(socket, name), value
    yield socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
