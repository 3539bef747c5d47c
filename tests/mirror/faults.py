"""A proxy in front of a real InfluxDB that answers as bad networks, servers and proxies do."""

from __future__ import annotations

import http.client
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("503", "429", "400", "html", "silence", "cut", "cut_after")


class FaultyProxy:
    """Passes requests on to a server, or does something else.

    :ivar fault: what happens to requests to write; empty: they are passed on.
    :ivar chance: of the fault; ``fault`` may be ``random``.
    :ivar retry_after: what 429 and 503 ask for.
    :ivar requests: of writing that were seen, with what became of them.
    """

    def __init__(self, port: int, seed: int = 1) -> None:
        self.port = port
        self.fault, self.chance, self.retry_after = "", 1.0, ""
        self.requests: list[str] = []
        self.sizes: list[int] = []
        self.random = random.Random(seed)
        self.silence = 3.0
        self.most_bytes = 0
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def choose(self, size: int) -> str:
        """What happens to the next request to write."""
        fault = self.fault if self.fault and self.random.random() < self.chance else ""
        if fault == "random":
            fault = self.random.choice(FAULTS)
        if self.most_bytes and size > self.most_bytes:
            fault = "413"
        self.requests.append(fault)
        self.sizes.append(size)
        return fault


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Those who ask are killed while they wait for an answer."""


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._pass("GET", b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "write" not in self.path:
            self._pass("POST", body)
            return
        fault = self.proxy.choose(len(body))
        if not fault:
            self._pass("POST", body)
        elif fault == "silence":
            time.sleep(self.proxy.silence)
            self.close_connection = True
        elif fault == "cut":
            self.close_connection = True
        elif fault == "cut_after":
            self._forward("POST", body)
            self.close_connection = True
        elif fault == "html":
            self._answer(200, b"<html>please log in</html>", {"Content-Type": "text/html"})
        elif fault == "redirect":
            self._answer(307, b"", {"Location": "http://127.0.0.1:1/elsewhere"})
        else:
            more = {"Retry-After": self.proxy.retry_after} if self.proxy.retry_after else {}
            self._answer(int(fault), b'{"error": "made up by the test"}', more)

    def _forward(self, method: str, body: bytes) -> tuple[int, bytes, dict[str, str]] | None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length")}
        try:
            upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=30)
            upstream.request(method, self.path, body or None, headers)
            answer = upstream.getresponse()
            data = answer.read()
            upstream.close()
            return answer.status, data, dict(answer.getheaders())
        except (OSError, http.client.HTTPException):
            return None

    def _pass(self, method: str, body: bytes) -> None:
        answer = self._forward(method, body)
        if answer is None:
            self.close_connection = True
            return
        kept = ("content-length", "transfer-encoding", "connection", "date", "server")
        self._answer(answer[0], answer[1], {k: v for k, v in answer[2].items() if k.lower() not in kept})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)
