"""JSON by HTTP: a bounded GET of what lies below a connection's address, and nowhere else."""

from __future__ import annotations

import re
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.outside.limits import CONNECT, Deadline, retry_after, without_secrets
from airflow_calib_provider.outside.strict_json import BadJson, parse_json

if TYPE_CHECKING:
    import urllib3

T = TypeVar("T")

HTTP_CONNECTION = "calib_http"
"""The type of our own connections, which have a form."""
FOREIGN_TYPES = ("http", "https")
"""Those of apache-airflow-providers-http, whose extra fields are headers: its connections are read, too."""

READ = 30.0
"""Seconds within which something more of an answer must come."""
MAX_BYTES = 100_000_000
"""Of all answers to one question, unpacked."""
MAX_REDIRECTS = 5
TRIES = 4
"""How often a question is asked that a server cannot answer now."""

_BUSY = (429, 502, 503, 504)
_MOVED = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
_WAYS = ("basic", "bearer", "header")
FIELDS = ("auth", "header", "verify", "ca_file")
"""The extra fields of a connection."""


@dataclass(frozen=True)
class HttpService:
    """Where a service is, and how one is let in.

    :ivar name: of the connection.
    :ivar url: its address, without a slash at the end.
    :ivar headers: of every question.
    :ivar secrets: what must never be shown.
    :ivar verify: whether its certificate is checked.
    :ivar ca_file: the certificates that are trusted, instead of the system's.
    :ivar roams: whether it may lead to other hosts, as nothing lets us in.
    :ivar auth: ``basic``, ``bearer`` or ``header``, :ivar header: and then which.
    """

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    verify: bool = True
    ca_file: str = ""
    auth: str = "bearer"
    header: str = ""
    roams: bool = False

    @classmethod
    def of(cls, connection: OutsideConnection) -> HttpService:
        """What a connection says.

        :raises OutsideError: it has another type, no address, or a field that it must not have.
        """
        extra = dict(connection.extra)
        url = _address(connection)
        if connection.kind in FOREIGN_TYPES:
            given = {str(name): str(value) for name, value in extra.items() if isinstance(value, str)}
            headers = {**_login(connection, "basic" if connection.login else "bearer", ""), **given}
            return cls(connection.name, url, *_checked(connection.name, headers, connection.password))
        if connection.kind != HTTP_CONNECTION:
            said = f"the connection {connection.name} has the type {connection.kind!r}"
            raise OutsideError(said, f"give it the type {HTTP_CONNECTION!r}, or http")
        if unknown := sorted(set(extra) - set(FIELDS)):
            said = f"the connection {connection.name} has the unknown field {unknown[0][:60]!r}"
            raise OutsideError(said, f"there are {', '.join(FIELDS)}")
        way = str(extra.get("auth") or ("basic" if connection.login else "bearer"))
        if way not in _WAYS:
            raise OutsideError(f"the connection {connection.name}: auth is none of {', '.join(_WAYS)}")
        header = str(extra.get("header") or "")
        headers, secrets = _checked(connection.name, _login(connection, way, header), connection.password)
        verify = extra.get("verify") not in (False, "false", "False")
        return cls(connection.name, url, headers, secrets, verify, str(extra.get("ca_file") or ""), way, header)

    def address(self, path: str, parameters: Iterable[tuple[str, str]] = ()) -> str:
        """The address of what lies at a path below the service.

        :param path: checked by :func:`path_fault`.
        """
        query = urlencode(list(parameters))
        base = f"{self.url}/{path.lstrip('/')}" if path.strip("/") else self.url
        return f"{base}?{query}" if query else base

    def is_here(self, address: str) -> bool:
        """Whether an address is on the host and the port of the service; from http to https is no other place."""
        try:
            own, other = urlsplit(self.url), urlsplit(address)
            upgraded = (own.scheme, other.scheme) == ("http", "https")
            same_port = _port(own) == _port(other) or (upgraded and own.port is None and other.port in (None, 443))
        except ValueError:
            return False
        known = other.scheme in _PORTS and "@" not in other.netloc and (own.scheme == other.scheme or upgraded)
        return known and (self.roams or (own.hostname == other.hostname and same_port))


def _address(connection: OutsideConnection) -> str:
    host = connection.host.strip()
    if "://" not in host:
        scheme = connection.schema or (connection.kind if connection.kind == "https" else "http")
        host = f"{scheme}://{host}"
    parts = urlsplit(host)
    if parts.scheme not in _PORTS or not parts.hostname:
        said = f"the connection {connection.name} has no address that can be used"
        raise OutsideError(said, "its host is a name, or an address such as https://runs.example.org/api")
    if "@" in parts.netloc or parts.query or parts.fragment:
        said = f"the address of the connection {connection.name} holds a user, a password or a query"
        raise OutsideError(said, "give login and password in their own fields, and a query in the spec")
    netloc = f"{parts.netloc}:{connection.port}" if connection.port and parts.port is None else parts.netloc
    return f"{parts.scheme}://{netloc}{parts.path}".rstrip("/")


def _login(connection: OutsideConnection, way: str, header: str) -> dict[str, str]:
    if not connection.password:
        return {}
    if way == "basic":
        both = b64encode(f"{connection.login}:{connection.password}".encode()).decode()
        return {"Authorization": f"Basic {both}"}
    if way == "bearer":
        return {"Authorization": f"Bearer {connection.password}"}
    if not header:
        raise OutsideError(f"the connection {connection.name} names no header", "fill in the field header")
    return {header: connection.password}


def _checked(name: str, headers: Mapping[str, str], password: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Headers that can be sent, and what of them must not be shown."""
    for header, value in headers.items():
        if not (header + value).isascii() or not (header + value).isprintable():
            said = f"the connection {name}: the header {header[:60]!r} is not one line of ASCII characters"
            raise OutsideError(said, "correct the password, or the extra field")
    # What follows "Bearer" or "Basic" is the secret, by whatever way it has come into a header.
    values = [value for text in headers.values() for value in (text, text.rpartition(" ")[2])]
    return dict(headers), tuple(dict.fromkeys(value for value in [*values, password] if len(value) >= 4))


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS.get(parts.scheme, 0)


def path_fault(path: str) -> str:
    """Why a path of a spec cannot be asked for below a connection's address; empty: it can."""
    if "://" in path or path.startswith("//"):
        return "it is an address: the connection says where the service is"
    if any(part in ("..", ".") for part in path.replace("%2e", ".").replace("%2E", ".").split("/")):
        return "it leads out of the connection's address"
    if not path.isprintable() or not path.isascii() or any(sign in path for sign in " \\#?"):
        return "it has a space, a sign that must be written as %xx, or a query"
    return ""


@dataclass(frozen=True)
class HttpHead:
    """What a server says of what lies at an address, without sending it.

    :ivar length: bytes; ``None``: it does not say.
    :ivar changed: when it was changed, :ivar tag: and which version it is, as the server writes it.
    """

    length: int | None
    changed: str
    tag: str


@dataclass(frozen=True)
class HttpAnswer:
    """A complete answer.

    :ivar address: that has answered, after redirects.
    :ivar document: the JSON that it holds.
    :ivar next_link: the address that its header ``Link`` calls next; empty: none.
    :ivar type: as the server calls it. :ivar size: in bytes, unpacked.
    """

    address: str
    document: object
    next_link: str
    type: str
    size: int


class HttpClient:
    """Asks one service, within a deadline that all questions share.

    :param tries: how often something is asked if the server cannot answer now.
    :param max_bytes: of all answers together, unpacked.
    """

    def __init__(
        self, service: HttpService, deadline: Deadline, *, tries: int = TRIES, max_bytes: int = MAX_BYTES
    ) -> None:
        import urllib3

        options: dict[str, object] = {"cert_reqs": "CERT_REQUIRED" if service.verify else "CERT_NONE"}
        if service.ca_file:
            options["ca_certs"] = service.ca_file
        if not service.verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self.service = service
        self._deadline = deadline
        self._tries = tries
        self._bytes_left = self._max_bytes = max_bytes
        self._pool = urllib3.PoolManager(maxsize=1, retries=False, **options)  # type: ignore[arg-type]
        self._lines = Sockets()
        self._pool.pool_classes_by_scheme = self._lines.pools()
        # What comes within each pause, but never to an end, ends no wait for the next byte.
        self._watch = threading.Timer(deadline.left(), self._lines.hang_up)
        self._watch.daemon = True
        self._watch.start()

    def close(self) -> None:
        """Close the connections."""
        self._watch.cancel()
        self._pool.clear()

    def get_json(self, address: str) -> HttpAnswer:
        """The JSON at an address of the service.

        :raises OutsideError: it is elsewhere, cannot be had in time, is too large, or is not JSON.
        """
        return self._tried(address, self._once)

    def head(self, address: str) -> HttpHead | None:
        """What a server says of what lies at an address; ``None``: nothing is there.

        :raises OutsideError: it is elsewhere, or cannot be had in time.
        """
        return self._tried(address, self._head)

    def _head(self, address: str) -> HttpHead | None:
        answer = self._led(address, "HEAD")
        if answer.status in (405, 501):  # it knows no HEAD: it is asked for the first byte, and that is not read
            answer = self._led(address, "GET", {"Range": "bytes=0-0", "Accept-Encoding": "identity"})
        status, headers = answer.status, answer.headers
        if status in _BUSY:
            raise _TryAgain(f"the server answers HTTP {status}", retry_after(headers))
        if status in (404, 410):
            return None
        if status not in (200, 206):
            raise self._error(address, f"HTTP {status}", _HINTS.get(status, ""))
        length = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
        # What a server says is kept in the ledger, which takes no NUL.
        changed, tag = (self._clean(headers.get(name, ""))[:200] for name in ("Last-Modified", "ETag"))
        is_length = length.isascii() and length.isdigit() and len(length) < 19
        return HttpHead(int(length) if is_length else None, changed, tag)

    def _led(self, address: str, method: str, more: Mapping[str, str] | None = None) -> urllib3.BaseHTTPResponse:
        """The answer where redirects end, whose body nobody reads."""
        from urllib3.exceptions import HTTPError

        for _ in range(MAX_REDIRECTS + 1):
            if not self.service.is_here(address):
                raise self._error(address, "it leads to no address that can be asked")
            try:
                answer = self._send(address, method, more)
            except (HTTPError, OSError) as error:
                self._deadline.left()
                raise _TryAgain(self._clean(f"{type(error).__name__}: {error}")) from error
            answer.close()
            if answer.status not in _MOVED:
                return answer
            address = _joined(address, answer.headers.get("Location", ""))
        raise self._error(address, f"more than {MAX_REDIRECTS} redirects")

    def _tried(self, address: str, once: Callable[[str], T]) -> T:
        pause = 1.0
        for left in range(self._tries - 1, -1, -1):
            try:
                return once(address)
            except _TryAgain as trouble:
                wait = pause if trouble.pause is None else trouble.pause
                if not left or wait >= self._deadline.left():
                    asked = f", and asks to wait {wait:g} s" if trouble.pause else ""
                    raise self._error(address, trouble.said + asked, "it is asked again next time") from None
                time.sleep(wait)
                pause *= 2
        raise AssertionError("the last try ends with an answer or an error")

    def _once(self, address: str) -> HttpAnswer:
        from urllib3.exceptions import HTTPError

        for _ in range(MAX_REDIRECTS + 1):
            if not self.service.is_here(address):
                raise self._error(address, f"it is not on the host of the connection {self.service.name}", _ELSEWHERE)
            try:
                answer = self._send(address)
                try:
                    if answer.status not in _MOVED:
                        return self._judge(address, answer)
                    address = _joined(address, answer.headers.get("Location", ""))
                finally:
                    answer.close()
            except (HTTPError, OSError) as error:
                self._deadline.left()
                raise _TryAgain(self._clean(f"{type(error).__name__}: {error}")) from error
        raise self._error(address, f"more than {MAX_REDIRECTS} redirects")

    def _send(
        self, address: str, method: str = "GET", more: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        import urllib3

        left = self._deadline.left()
        timeout = urllib3.Timeout(connect=min(CONNECT, left), read=min(READ, left))
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip", **self.service.headers, **(more or {})}
        return self._pool.request(
            method, address, headers=headers, timeout=timeout, redirect=False, preload_content=False
        )

    def _judge(self, address: str, answer: urllib3.BaseHTTPResponse) -> HttpAnswer:
        status = answer.status
        if status in _BUSY:
            raise _TryAgain(f"the server answers HTTP {status}", retry_after(answer.headers))
        body = self._body(address, answer)
        if status != 200:
            said = self._clean(body[:5_000].decode(errors="replace"))
            raise self._error(address, f"HTTP {status}: {said}" if said else f"HTTP {status}", _HINTS.get(status, ""))
        answer.release_conn()
        kind = self._clean(answer.headers.get("Content-Type", ""))[:100]
        parsed = self._parsed(address, body, answer)
        return HttpAnswer(address, parsed, _next_link(address, answer), kind, len(body))

    def _body(self, address: str, answer: urllib3.BaseHTTPResponse) -> bytes:
        """All of it; one that comes drop by drop ends with the deadline."""
        parts = []
        while part := answer.read1(65_536, decode_content=True):
            self._deadline.left()
            self._bytes_left -= len(part)
            if self._bytes_left < 0:
                answer.close()
                raise self._error(address, f"the answers have more than {self._max_bytes:,} bytes", "ask for less")
            parts.append(part)
        self._deadline.left()  # else what ended may have ended because we hung up
        return b"".join(parts)

    def _parsed(self, address: str, body: bytes, answer: urllib3.BaseHTTPResponse) -> object:
        kind = answer.headers.get("Content-Type", "")
        if "html" in kind.lower() or body.lstrip()[:1] == b"<":
            said = "the answer is a page of HTML, not JSON: such as that of a login, or of a proxy"
            raise self._error(address, said, "check login and path; the service must answer with JSON")
        try:
            return parse_json(body.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise self._error(address, f"the answer is not UTF-8 (byte {error.start})") from error
        except BadJson as error:
            at = "" if error.position is None else f" at character {error.position:,} of {len(body):,} bytes"
            raise self._error(address, f"the answer is not JSON: {error}{at}") from error

    def _clean(self, text: str) -> str:
        return without_secrets(text, self.service.secrets)

    def _error(self, address: str, said: str, hint: str = "") -> OutsideError:
        return OutsideError(f"{self._clean(address)}: {said}", hint)


class Sockets:
    """The sockets of a client, so that they can be hung up on while somebody waits for them."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def pools(self) -> dict[str, type]:
        """Pools whose connections note their sockets here."""
        from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
        from urllib3.connection import HTTPConnection, HTTPSConnection

        def noted(pool: type, connection: type) -> type:
            def connect(own: Any) -> None:
                connection.connect(own)  # type: ignore[attr-defined]
                self._sockets.append(own.sock)

            own = type(f"Noted{connection.__name__}", (connection,), {"connect": connect})
            return type(f"Noted{pool.__name__}", (pool,), {"ConnectionCls": own})

        return {"http": noted(HTTPConnectionPool, HTTPConnection), "https": noted(HTTPSConnectionPool, HTTPSConnection)}

    def hang_up(self) -> None:
        """Whoever waits is told: nothing comes any more."""
        for line in self._sockets:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


_ELSEWHERE = "whoever is asked there would get what lets us in here: make a connection for that host"
_HINTS = {
    401: "check login and password of the connection",
    403: "check login and password of the connection, and what it may read",
    404: "check the path in the spec, and the address of the connection",
}


class _TryAgain(Exception):
    """The server cannot answer now.

    :ivar pause: seconds that it asks for.
    """

    def __init__(self, said: str, pause: float | None = None) -> None:
        super().__init__(said)
        self.said = said
        self.pause = pause


def _next_link(address: str, answer: urllib3.BaseHTTPResponse) -> str:
    """The address that the header ``Link`` calls next (RFC 8288)."""
    for found in re.finditer(r"<([^<>]*)>((?:\s*;\s*[^,;<>]+)*)", answer.headers.get("Link", "")[:20_000]):
        if re.search(r';\s*rel\s*=\s*"?(?:[^";]*\s)?next(?:\s[^";]*)?"?\s*(?:;|$)', found[2], re.IGNORECASE):
            return _joined(address, found[1])
    return ""


def _joined(address: str, link: str) -> str:
    """Where a link leads; one that leads nowhere is on no host that we know."""
    try:
        return urljoin(address, link)
    except ValueError:
        return link
