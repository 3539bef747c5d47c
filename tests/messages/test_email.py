"""E-mail to a real mail server on this machine."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from airflow_calib_provider.messages import email as module
from airflow_calib_provider.messages.base import ChannelTrouble, MessageRefused
from airflow_calib_provider.messages.email import Email
from airflow_calib_provider.outside.connections import OutsideConnection
from tests.messages.chat import certificate
from tests.messages.conformance import ChannelConformance
from tests.messages.conftest import message

PASSWORD = "hunter22-is-secret"
TO = ["shift@example.org", "expert@example.org"]


class Mailbox:
    """What the server has taken.

    :ivar says: its answers to the next messages; then it takes all. :ivar unknown: addresses that it does not know.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.says: list[str] = []
        self.unknown: set[str] = set()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.unknown:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.says:
            return self.says.pop(0)
        self.mails.append(cast(EmailMessage, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"


class Server:
    """A mail server that wants a login."""

    def __init__(self, folder: Path) -> None:
        self.box = Mailbox()
        self.certificate = certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)

        def known(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
            assert isinstance(data, LoginPassword)
            return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._controller = Controller(
            self.box, "127.0.0.1", self.port, tls_context=context, authenticator=known, auth_required=True
        )
        self._controller.start()

    def close(self) -> None:
        if self._controller.loop.is_running():
            self._controller.stop()

    def connection(self, **more: Any) -> OutsideConnection:
        extra = {"disable_ssl": True, "from_email": "calib@example.org", "ca_file": str(self.certificate)}
        fields = {"host": "127.0.0.1", "port": self.port, "login": "calib", "password": PASSWORD}
        extra |= more.pop("extra", {})
        return OutsideConnection("smtp_default", "smtp", **{**fields, **more}, extra=extra)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def text_of(mail: EmailMessage) -> str:
    return f"{mail['Subject']}\n{mail.get_content()}"


class TestEmail(ChannelConformance):
    @pytest.fixture
    def block(self) -> str:
        return f"email: {{to: [{', '.join(TO)}]}}"

    @pytest.fixture
    def connection(self, server: Server) -> OutsideConnection:
        return server.connection()

    @pytest.fixture
    def arrived(self, server: Server) -> Callable[[], Sequence[str]]:
        return lambda: [text_of(mail) for mail in server.box.mails]

    @pytest.fixture
    def break_it(self, server: Server) -> Callable[[], None]:
        return server.close


def test_one_thread_for_each_group_and_the_same_id_again(server: Server) -> None:
    channel = Email({"to": TO}, server.connection())
    for number, thread in ((1, "a"), (2, "a"), (3, "b"), (1, "a")):
        channel.send(message(number, thread=thread))
    channel.close()
    first, second, other, again = server.box.mails
    assert first["References"] == second["References"] != other["References"]
    assert first["Message-ID"] == again["Message-ID"] != second["Message-ID"]
    assert first["To"] == ", ".join(TO)
    assert first["From"] == "calib@example.org"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Subject"] == "[calib] Failed: zee.scale run-r1"


def test_no_header_can_be_smuggled_in(server: Server) -> None:
    channel = Email({"to": TO}, server.connection())
    channel.send(message(1, title="x\r\nBcc: all@example.org\n\nhello", thread="y\r\nX-Evil: 1"))
    channel.close()
    (mail,) = server.box.mails
    assert mail["Bcc"] is None
    assert mail["X-Evil"] is None
    assert "Bcc: all" in mail["Subject"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"password": "wrong-but-secret"}, "SMTPAuthenticationError"),
        ({"extra": {"ca_file": ""}}, "ertificate"),
        ({"extra": {"disable_ssl": False}}, "SSL"),
        ({"port": 1}, "refused"),
    ],
)
def test_trouble(server: Server, more: dict[str, Any], said: str) -> None:
    connection = server.connection(**more)
    channel = Email({"to": TO}, connection)
    with pytest.raises(ChannelTrouble) as caught:
        channel.send(message())
    assert said in str(caught.value)
    assert connection.password not in repr(caught.value)
    assert server.box.mails == []


def test_what_is_refused_for_good_and_what_may_be_taken_later(server: Server) -> None:
    channel = Email({"to": TO}, server.connection())
    server.box.says = ["554 this is spam", "451 try again", "250 OK"]
    with pytest.raises(MessageRefused, match="554 this is spam"):
        channel.send(message())
    with pytest.raises(ChannelTrouble, match="451 try again"):
        channel.send(message())
    channel.send(message())
    server.box.unknown = {TO[0]}
    channel.send(message(2))
    assert len(server.box.mails) == 1, "the one who is known has it"
    server.box.unknown = set(TO)
    with pytest.raises(ChannelTrouble, match="no address was accepted"):
        channel.send(message(3))


def test_a_server_that_never_comes_to_an_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    async def slow(*_: Any) -> str:
        await asyncio.sleep(30)
        return "250 OK"

    monkeypatch.setattr(server.box, "handle_DATA", slow)
    monkeypatch.setattr(module, "IN_ALL", 0.3)
    channel = Email({"to": TO}, server.connection())
    with pytest.raises(ChannelTrouble):
        channel.send(message())


@pytest.mark.parametrize(
    ("connection", "block", "said"),
    [
        (None, {}, "names no mail server"),
        (OutsideConnection("m", "smtp"), {}, "names no mail server"),
        (OutsideConnection("m", "http", host="mail"), {}, "has the type 'http'"),
        (OutsideConnection("m", "smtp", host="mail"), {}, "whom mail by m is from"),
    ],
)
def test_a_connection_that_cannot_be_used(
    connection: OutsideConnection | None, block: dict[str, Any], said: str
) -> None:
    with pytest.raises(ChannelTrouble, match=said):
        Email({"to": TO, **block}, connection)
