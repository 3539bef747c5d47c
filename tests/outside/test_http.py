"""JSON by HTTP from a real server that does all that servers do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.outside.http import HttpAnswer, HttpClient, HttpService, path_fault
from airflow_calib_provider.outside.limits import Deadline
from tests.outside.server import Asked, JsonServer, json_server

SECRET = "s3cret-token"


def service(server: JsonServer, **more: object) -> HttpService:
    given = {"kind": "calib_http", "host": server.url, "password": SECRET, **more}
    return HttpService.of(OutsideConnection(name="runs", **given))  # type: ignore[arg-type]


def ask(server: JsonServer, path: str = "/runs", seconds: float = 20.0, tries: int = 4, **more: object) -> HttpAnswer:
    made = service(server, **more)
    client = HttpClient(made, Deadline.within(seconds, made.url), tries=tries)
    try:
        return client.get_json(made.address(path))
    finally:
        client.close()


@pytest.mark.parametrize(
    ("given", "header", "value"),
    [
        ({}, "Authorization", f"Bearer {SECRET}"),
        ({"login": "anna"}, "Authorization", "Basic YW5uYTpzM2NyZXQtdG9rZW4="),
        ({"extra": {"auth": "header", "header": "X-API-Key"}}, "X-API-Key", SECRET),
        ({"kind": "http", "login": "anna"}, "Authorization", "Basic YW5uYTpzM2NyZXQtdG9rZW4="),
        ({"kind": "http", "password": "", "extra": {"Authorization": "Bearer x"}}, "Authorization", "Bearer x"),
    ],
)
def test_the_connection_says_who_we_are(server: JsonServer, given: dict[str, object], header: str, value: str) -> None:
    assert ask(server, **given).document == {}
    assert server.asked[0][1][header] == value


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "postgres"}, "has the type 'postgres'"),
        ({"host": ""}, "has no address"),
        ({"host": "ftp://x"}, "has no address"),
        ({"host": "http://u:p@x"}, "holds a user, a password or a query"),
        ({"extra": {"auth": "digest"}}, "auth is none of basic, bearer, header"),
        ({"extra": {"auth": "header"}}, "names no header"),
        ({"extra": {"token": "x"}}, "unknown field 'token'"),
        ({"password": "two\nlines"}, "not one line of ASCII"),
    ],
)
def test_connections_that_cannot_be_used(server: JsonServer, given: dict[str, object], said: str) -> None:
    with pytest.raises(OutsideError, match=said) as caught:
        service(server, **given)
    assert "two" not in str(caught.value)


def test_address_of_host_schema_and_port() -> None:
    def address(**given: object) -> str:
        return HttpService.of(OutsideConnection("c", "calib_http", **given)).url  # type: ignore[arg-type]

    assert address(host="runs.example.org") == "http://runs.example.org"
    assert address(host="runs.example.org", schema="https", port=8443) == "https://runs.example.org:8443"
    assert address(host="https://runs.example.org/api/") == "https://runs.example.org/api"


def test_busy_servers_are_asked_again_when_they_say(server: JsonServer) -> None:
    def answer(asked: Asked) -> None:
        if len(server.asked) == 1:
            asked.reply(b"", 429, Retry_After="0")
        else:
            asked.reply([1])

    server.answer = answer
    assert ask(server).document == [1]
    server.answer = lambda asked: asked.reply(b"", 429, Retry_After="120")
    with pytest.raises(OutsideError, match="HTTP 429, and asks to wait 120 s; it is asked again next time"):
        ask(server)


@pytest.mark.parametrize(
    ("said", "waits"),
    [
        ("Fri, 31 Dec 9999 23:59:59 GMT", "600"),
        ("Fri, 31 Dec 9999 23:59:59 -1200", "600"),
        ("99999999999999999999", "600"),
        ("1e400", "600"),
        ("inf", "600"),
    ],
)
def test_a_pause_that_is_longer_than_anybody_waits(server: JsonServer, said: str, waits: str) -> None:
    server.answer = lambda asked: asked.reply(b"", 429, Retry_After=said)
    with pytest.raises(OutsideError, match=f"HTTP 429, and asks to wait {waits} s; it is asked again next time"):
        ask(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "said", ["0", "-5", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00", "0.2", "{soon}"]
)
def test_a_pause_that_is_over_soon(server: JsonServer, said: str) -> None:
    """In seconds, or as a date, which may have passed."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)

    def answer(asked: Asked) -> None:
        if len(server.asked) == 1:
            asked.reply(b"", 429, Retry_After=said.format(soon=soon))
        else:
            asked.reply([1])

    server.answer = answer
    assert ask(server).document == [1]


@pytest.mark.parametrize("said", ["", "soon", "nan", "Mon, 99 Foo 2026", "1 2 3"])
def test_a_pause_that_nobody_understands_is_ours(server: JsonServer, said: str) -> None:
    server.answer = lambda asked: asked.reply([1]) if len(server.asked) > 1 else asked.reply(b"", 503, Retry_After=said)
    assert ask(server).document == [1]


def truncated(asked: Asked) -> None:
    asked.send_response(200)
    asked.send_header("Content-Length", "100")
    asked.end_headers()
    asked.wfile.write(b"[1, 2")
    asked.close_connection = True


def truncated_chunks(asked: Asked) -> None:
    asked.send_response(200)
    asked.send_header("Transfer-Encoding", "chunked")
    asked.end_headers()
    asked.wfile.write(b"5\r\n[1, 2\r\n")
    asked.close_connection = True


def drops(asked: Asked) -> None:
    asked.send_response(200)
    asked.send_header("Content-Length", "1000000")
    asked.end_headers()
    while not asked.server.over.wait(0.05):
        asked.wfile.write(b" ")


def header_by_header(asked: Asked) -> None:
    asked.send_response(200)
    asked.flush_headers()
    while not asked.server.over.wait(0.05):
        asked.wfile.write(b"x")


def large(asked: Asked) -> None:
    asked.send_response(200)
    asked.send_header("Transfer-Encoding", "chunked")
    asked.end_headers()
    block = b" " * 1_000_000
    for _ in range(200):
        asked.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))


def bomb(asked: Asked) -> None:
    asked.reply(gzip.compress(b" " * 150_000_000, 1), Content_Encoding="gzip")


HTML = b"<!DOCTYPE html><title>Login</title>"
BAD: dict[str, tuple[Callable[[Asked], None], str]] = {
    "truncated": (truncated, "IncompleteRead"),
    "truncated in chunks": (truncated_chunks, "IncompleteRead"),
    "never": (lambda asked: asked.server.over.wait(60) and None, "no complete answer within 1 s"),
    "drop by drop": (drops, "no complete answer within 1 s"),
    "header by header": (header_by_header, "no complete answer within 1 s"),
    "too large": (large, "more than 100,000,000 bytes"),
    "a bomb": (bomb, "more than 100,000,000 bytes"),
    "html": (lambda asked: asked.reply(HTML, Content_Type="text/html"), "a page of HTML, not JSON"),
    "html called json": (lambda asked: asked.reply(HTML), "a page of HTML, not JSON"),
    "nothing": (lambda asked: asked.reply(b""), "not JSON: Expecting value at character 0"),
    "cut": (lambda asked: asked.reply(b'{"a": 1'), "not JSON: Expecting ',' delimiter at character 7 of 7 bytes"),
    "no number": (lambda asked: asked.reply(b"[NaN]"), "NaN is no number of JSON"),
    "twice": (lambda asked: asked.reply(b'{"a": 1, "a": 2}'), "the key 'a' is there twice"),
    "digits": (lambda asked: asked.reply(b"1" * 5000), "a number has too many digits"),
    "deep": (lambda asked: asked.reply(b"[" * 200_000), "lie too deep"),
    "no utf-8": (lambda asked: asked.reply(b'"\xff"'), "not UTF-8 \\(byte 1\\)"),
    "no such page": (lambda asked: asked.reply({"message": "gone"}, 404), "HTTP 404.*gone.*check the path"),
    "not let in": (lambda asked: asked.reply(SECRET.encode(), 401), r"HTTP 401: \*\*\*; check login and password"),
    "round and round": (lambda asked: asked.reply(b"", 302, Location="/runs"), "more than 5 redirects"),
    "nowhere": (lambda asked: asked.reply(b"", 302, Location="http://[x/"), "is not on the host"),
    "file": (lambda asked: asked.reply(b"", 302, Location="file:///etc/passwd"), "is not on the host"),
    "metadata": (lambda asked: asked.reply(b"", 302, Location="//169.254.169.254/"), "is not on the host"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", BAD)
def test_what_is_no_answer(server: JsonServer, case: str) -> None:
    server.answer, said = BAD[case]
    with pytest.raises(OutsideError, match=said) as caught:
        ask(server, seconds=1 if "within" in said else 20, tries=1)
    assert SECRET not in str(caught.value)
    assert "/runs" in str(caught.value) or "on the host" in said or "within" in said


def test_a_redirect_to_another_port_is_not_followed_and_gets_no_secret(server: JsonServer) -> None:
    with json_server() as other:
        server.answer = lambda asked: asked.reply(b"", 302, Location=f"{other.url}/runs")
        with pytest.raises(OutsideError, match="make a connection for that host"):
            ask(server)
        assert other.asked == []


def test_a_redirect_on_the_same_host_is_followed(server: JsonServer) -> None:
    def answer(asked: Asked) -> None:
        asked.reply(b"", 301, Location="/v2/runs") if asked.path == "/runs" else asked.reply(asked.path)

    server.answer = answer
    assert ask(server).document == "/v2/runs"


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ('</runs?page=2>; rel="next"', "/runs?page=2"),
        ('<?page=1>; rel="prev", <?page=3>; title="a"; rel="next last"', "/runs?page=3"),
        ("<?page=3>; rel=next", "/runs?page=3"),
        ('<?page=1>; rel="prev"', ""),
        ("next", ""),
    ],
)
def test_the_header_link(server: JsonServer, link: str, leads: str) -> None:
    server.answer = lambda asked: asked.reply([], Link=link)
    assert ask(server).next_link == (server.url + leads if leads else "")


def test_an_upgrade_to_https_is_the_same_place() -> None:
    plain = HttpService("c", "http://runs.example.org/api")
    assert plain.is_here("https://runs.example.org/other")
    assert plain.is_here("http://RUNS.example.org:80/")
    for elsewhere in ("http://runs.example.org:8080/", "http://u@runs.example.org/", "http://runs.example.org.evil/"):
        assert not plain.is_here(elsewhere)
    assert not HttpService("c", "https://runs.example.org").is_here("http://runs.example.org/")


@pytest.mark.parametrize("path", ["http://x/", "//x/", "a/../b", "%2e%2e/b", "a b", "a\\b", "a?b", "a#b", "é", "a\n"])
def test_paths_that_lead_elsewhere(path: str) -> None:
    assert path_fault(path)


@pytest.mark.parametrize("path", ["runs", "/runs/", "", "a/b.json", "v1.2/runs%20x"])
def test_paths_that_do_not(path: str) -> None:
    assert path_fault(path) == ""


def test_fifty_megabytes_are_read(server: JsonServer) -> None:
    content = json.dumps([{"run": 1, "note": "x" * 50_000_000}]).encode()
    server.answer = lambda asked: asked.reply(content)
    (found,) = ask(server).document  # type: ignore[misc]
    assert len(found["note"]) == 50_000_000
