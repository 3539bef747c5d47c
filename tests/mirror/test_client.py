"""What may answer instead of an InfluxDB, and what is said of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from airflow_calib_provider.errors import MirrorError
from airflow_calib_provider.mirror.client import InfluxClient, Kind
from airflow_calib_provider.mirror.target import InfluxTarget

Say = Callable[[BaseHTTPRequestHandler], tuple[int, bytes]]


@pytest.fixture
def stranger() -> Iterator[Callable[[Say], str]]:
    """Starts a server that answers as it is told; gives its address."""
    servers = []

    def start(say: Say) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = say(self)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


PLACES = [
    {"database": "d", "user": "me", "password": "hidden-ü"},
    {"database": "d", "token": "hidden token"},
    {"bucket": "b", "org": "o", "token": "hidden token"},
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("before", [0, 285])
def test_a_proxy_that_repeats_the_request_tells_no_secret(
    stranger: Callable[[Say], str], place: dict[str, str], before: int
) -> None:
    sent = []

    def repeat(request: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        sent.append(request.headers["Authorization"].split(" ", 1)[1])
        return 400, b"x" * before + request.headers["Authorization"].encode()

    client = InfluxClient(InfluxTarget.from_mapping({"url": stranger(repeat), **place}))
    answer = client.write(b"x y=1", client.target.route(""))
    assert answer.kind is Kind.NOT_INFLUXDB
    with pytest.raises(MirrorError) as caught:
        client.query("SHOW DATABASES")
    assert len(sent) == 2
    for said in (answer.said, str(caught.value)):
        assert "hidden" not in said
        assert sent[0][:8] not in said


@pytest.mark.parametrize("body", [b"[]", b'"well"', b"{}", b"\x1f\x8b\x00\x01"])
def test_what_answers_something_else_to_a_question(stranger: Callable[[Say], str], body: bytes) -> None:
    url = stranger(lambda _: (200, body))
    client = InfluxClient(InfluxTarget.from_mapping({"url": url, "database": "d"}))
    with pytest.raises(MirrorError, match="what answered") as caught:
        client.query("SHOW DATABASES")
    assert "\x00" not in str(caught.value)
