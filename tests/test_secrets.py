"""No secret of a connection is in what is said of it, whatever the other side repeats of what it was sent."""

from __future__ import annotations

import json
import logging
import socket
import threading
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_calib_provider.backends.kubernetes.client import Api
from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.messages.email import Email
from airflow_calib_provider.messages.mattermost import Mattermost
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.target import InfluxTarget
from airflow_calib_provider.outside import connections
from airflow_calib_provider.outside.conditions_git import GitStore
from airflow_calib_provider.outside.connections import OutsideConnection, outside_connection
from airflow_calib_provider.outside.http import HttpClient, HttpService
from airflow_calib_provider.outside.limits import Deadline
from airflow_calib_provider.outside.nopayloaddb_client import Server, ask
from airflow_calib_provider.provider_info import get_provider_info
from tests.messages.conftest import message
from tests.outside.test_conditions_git import git
from tests.runsources.connecting import connected

SECRET = 'pl4nted/"s3cret+=?ü'
"""With what is written in another way in addresses and in JSON; in headers stand only the ASCII ones."""
PLAIN = "pl4nted/s3cret+="

Say = Callable[[], object]
"""Does something that fails, and returns what it says, or raises it."""


def forms(secret: str) -> set[str]:
    """A secret as it may be written."""
    in_base64 = {b64encode(text.encode()).decode().rstrip("=") for text in (secret, f"calib:{secret}")}
    in_base64.add(b64encode(f"\0calib\0{secret}".encode()).decode().rstrip("="))
    return {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], *in_base64}


class Parrot(ThreadingHTTPServer):
    """Refuses everything, and repeats what it was sent.

    :ivar status: of its answers. :ivar heard: all that was sent.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Heard)
        self.status = 500
        self.heard: list[str] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"


class _Heard(BaseHTTPRequestHandler):
    server: Parrot

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        heard = f"{self.path} {dict(self.headers)} {sent}"
        self.server.heard.append(heard)
        said = f"no: {self.headers.get('Authorization', '')} {self.headers.get('X-Key', '')} {heard}"
        body = json.dumps(dict.fromkeys(("detail", "message", "error"), said)).encode()
        self.send_response(self.server.status, "no")
        challenge = {"WWW-Authenticate": 'Basic realm="parrot"'} if self.server.status == 401 else {}
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **challenge}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def parroting() -> Iterator[Parrot]:
    """One that runs until the end of the block."""
    server = Parrot()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def parrot() -> Iterator[Parrot]:
    with parroting() as server:
        yield server


def told(say: Say, caplog: pytest.LogCaptureFixture) -> str:
    """All that comes of it: what it says, its error with the way to it, and the log, however much is logged."""
    with caplog.at_level(logging.DEBUG):
        try:
            text = repr(say())
        except CalibError as error:
            text = f"{error} {error!r} {vars(error)} {''.join(traceback.format_exception(error))}"
    return text + "".join(f"{record.getMessage()} {record.exc_text or ''}" for record in caplog.records)


def by_http(kind: str, **extra: str) -> Callable[[Parrot, Path], Say]:
    def make(parrot: Parrot, folder: Path) -> Say:
        login = "calib" if extra.get("auth") == "basic" else ""
        secret = SECRET if login else PLAIN
        found = OutsideConnection("x", kind, parrot.url, login=login, password=secret, extra=extra)

        def say() -> object:
            service = HttpService.of(found)
            client = HttpClient(service, Deadline.within(5.0, "x"), tries=1)
            try:
                return found, service, client.get_json(service.address("runs"))
            finally:
                client.close()

        return say

    return make


def nopayloaddb(parrot: Parrot, folder: Path) -> Say:
    found = OutsideConnection("x", "calib_nopayloaddb", parrot.url, password=PLAIN, extra={"files": str(folder)})

    def say() -> object:
        with connected(found):
            return ask(Server.of("x"), "POST", "gt", body={"name": "t"})

    return say


def webhook(parrot: Parrot, folder: Path) -> Say:
    address = f"{parrot.url}/hooks/{quote(PLAIN, safe='')}"
    found = OutsideConnection("x", "calib_mattermost", password=address, extra={"plain_http": True})

    def say() -> object:
        channel = Mattermost({}, found)
        try:
            return found, channel.send(message())
        finally:
            channel.close()

    return say


def influx(**place: str) -> Callable[[Parrot, Path], Say]:
    def make(parrot: Parrot, folder: Path) -> Say:
        client = InfluxClient(InfluxTarget.from_mapping({"url": parrot.url, **place}))

        def say() -> object:
            answer = client.write(b"x y=1", client.target.route(""))
            said = [repr(client), repr(client.target), answer, client.trouble(answer), client.ping()]
            with suppress(CalibError):
                client.query("SHOW DATABASES")
            client.close()
            return said

        return say

    return make


def git_remote(parrot: Parrot, folder: Path) -> Say:
    git(folder, "init", "--bare", "--quiet", ".")
    remote = f"http://calib:{quote(PLAIN, safe='')}@{parrot.host}/store.git"
    found = OutsideConnection("x", "calib_git", host=str(folder), extra={"remote": remote})

    def say() -> object:
        with connected(found):
            return GitStore("x/main").listing("Scale")

    return say


def cluster(parrot: Parrot, folder: Path) -> Say:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": parrot.url}}],
        "users": [{"name": "u", "user": {"token": PLAIN}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    settings = KubernetesSettings("x", kube_config=config)

    def say() -> object:
        api = Api(settings)
        try:
            return settings, settings.access(), api.get("pods")
        finally:
            api.close()

    return say


WAYS: dict[str, tuple[str, Callable[[Parrot, Path], Say]]] = {
    "bearer": ("calib_http", by_http("calib_http")),
    "basic": ("calib_http", by_http("calib_http", auth="basic")),
    "header": ("calib_http", by_http("calib_http", auth="header", header="X-Key")),
    "foreign": ("http", by_http("http")),
    "nopayloaddb": ("calib_nopayloaddb", nopayloaddb),
    "webhook": ("calib_mattermost", webhook),
    "influx token": ("calib_influxdb", influx(bucket="b", org="o", token=PLAIN)),
    "influx login": ("calib_influxdb", influx(database="d", user="calib", password=SECRET)),
    "git": ("calib_git", git_remote),
    "cluster": ("kubernetes", cluster),
}
"""What has a secret, with the type of its connection."""

WITHOUT = {"calib_condor": "it names files, whose content the pool's own library reads"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_said_has_no_secret(
    way: str, status: int, parrot: Parrot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parrot.status = status
    text = told(WAYS[way][1](parrot, tmp_path), caplog)
    sent = "".join(parrot.heard)
    every = forms(SECRET) | forms(PLAIN)
    if way != "git" or status == 401:  # git shows what it has to those who ask for it
        assert any(one in sent for one in every), "the secret was sent"
    assert text
    assert [one for one in every if one in text] == [], text
    assert "127.0.0.1" in text or "x" in text, "one sees where"


def test_each_type_of_connection_is_looked_at_here() -> None:
    types = {str(one["connection-type"]) for one in get_provider_info()["connection-types"]}
    assert types - {kind for kind, _ in WAYS.values()} - set(WITHOUT) == set()


@pytest.mark.parametrize("login", [True, False])
def test_a_mail_server_that_repeats_a_login(login: bool, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_refuse_mail, args=(listening, heard, login), daemon=True)
        thread.start()
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "c@example.org"}
        found = OutsideConnection(
            "x", "smtp", "127.0.0.1", listening.getsockname()[1], login="calib", password=PLAIN, extra=extra
        )
        text = told(lambda: Email({"to": ["a@example.org"]}, found).send(message()), caplog)
        thread.join(10)
    assert any(one in line for one in forms(PLAIN) for line in heard), "the secret was sent"
    assert "*" in text
    assert [one for one in forms(PLAIN) if one in text] == [], text


def _refuse_mail(listening: socket.socket, heard: list[str], login: bool) -> None:
    """A mail server that lets nobody in. :param login: knows LOGIN, which sends the password by itself."""
    line, _ = listening.accept()
    with line, line.makefile("rw", newline="\r\n") as stream:

        def say(text: str) -> None:
            stream.write(f"{text}\r\n")
            stream.flush()

        say("220 parrot")
        while found := stream.readline():
            heard.append(found.strip())
            if found.upper().startswith("EHLO"):
                say(f"250-parrot\r\n250 AUTH {'LOGIN' if login else 'PLAIN'}")
            elif found.upper().startswith("AUTH LOGIN"):
                say("334 UGFzc3dvcmQ6")
            elif found.upper().startswith("QUIT"):
                say("221 bye")
            else:
                say(f"535 who is {found.strip().rpartition(' ')[2]}")


def test_what_airflow_cannot_read_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(name: str) -> OutsideConnection:
        raise ValueError(f"Invalid connection string: http://calib:{PLAIN}@a://b")

    monkeypatch.setattr(connections, "_lookups", [look_up])
    with pytest.raises(CalibError) as caught:
        outside_connection("x")
    text = "".join(traceback.format_exception(caught.value)) + str(caught.value)
    assert PLAIN not in text
    assert "the connection 'x' cannot be looked up: ValueError" in text
    assert "AIRFLOW_CONN_X" in text
