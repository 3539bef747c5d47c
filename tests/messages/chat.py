"""A Mattermost that answers as documented, and misbehaves as asked: the real one is not to be had here."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

KEY = "7qf3kw8thpgzjx1mb5r9dyno4e"
LONGEST = 16_383


@dataclass(frozen=True)
class Answer:
    """How a request is answered.

    :ivar posts: whether the post is made all the same.
    :ivar pause: seconds before the answer.
    """

    status: int = 200
    body: str = "ok"
    headers: dict[str, str] = field(default_factory=dict)
    posts: bool = True
    pause: float = 0.0
    cut: bool = False


def refusal(status: int, error_id: str, message: str) -> Answer:
    """An error as Mattermost writes it."""
    body = {"id": error_id, "message": message, "detailed_error": "", "request_id": "x", "status_code": status}
    return Answer(status, json.dumps(body), {"Content-Type": "application/json"}, posts=False)


INVALID = refusal(400, "web.incoming_webhook.invalid.app_error", "Invalid webhook.")
UNPARSED = refusal(400, "web.incoming_webhook.parse.app_error", "Unable to parse incoming data.")
BUSY = Answer(429, "limit exceeded", {"Retry-After": "2"}, posts=False)
DOWN = Answer(503, "made up by the test", posts=False)


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeMattermost

    def do_POST(self) -> None:
        server = self.server
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = server.next_answer(self.path, content)
        if answer.pause:
            server.over.wait(answer.pause)
        if answer.posts:
            server.post(json.loads(content))
        if answer.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = answer.body.encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "text/plain", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class FakeMattermost(ThreadingHTTPServer):
    """The server.

    :ivar posts: what people see; a text that is too long becomes several.
    :ivar bodies: of the requests that were posts.
    :ivar answers: how the next requests are answered; then all are taken.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.posts: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.asked = 0
        self.answers: list[Answer] = []
        self.always: Answer | None = None
        self.over = threading.Event()
        self.scheme = "http"
        self._turn = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}/hooks/{KEY}"

    def next_answer(self, path: str, content: bytes) -> Answer:
        with self._turn:
            self.asked += 1
            if self.answers:
                return self.answers.pop(0)
            if self.always is not None:
                return self.always
        if path != f"/hooks/{KEY}":
            return INVALID
        try:
            body = json.loads(content)
        except ValueError:
            return UNPARSED
        if not isinstance(body, dict) or not (body.get("text") or body.get("attachments")):
            return refusal(400, "web.incoming_webhook.text.app_error", "No text specified.")
        return Answer()

    def post(self, body: dict[str, Any]) -> None:
        with self._turn:
            self.bodies.append(body)
            text = body["text"]
            self.posts += [text[start : start + LONGEST] for start in range(0, len(text), LONGEST)]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever posts may go away in the middle of an answer."""


@contextmanager
def mattermost(certificate: Path | None = None) -> Iterator[FakeMattermost]:
    """One that runs until the end of the block, with TLS if there is a certificate."""
    server = FakeMattermost()
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def certificate(folder: Path, name: str = "127.0.0.1") -> Path:
    """A certificate that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return file


def wait_for(what: Any, seconds: float = 5.0) -> None:
    """:param what: asked again and again."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
