"""Messages by e-mail, through a mail server that an Airflow connection of the type smtp names.

The messages about a group refer to one another, so that mail programs show them together; a message that is sent again
after a crash has the id that it had, so that many mail servers and programs show it once.
"""

from __future__ import annotations

import hashlib
import logging
import smtplib
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any

from airflow_calib_provider.domain.escaping import escaped
from airflow_calib_provider.messages.base import ChannelTrouble, Message, MessageRefused
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.outside.limits import without_secrets

log = logging.getLogger(__name__)

CONNECTION_TYPE = "smtp"
"""That of apache-airflow-providers-smtp, whose extra fields are read as there; the provider need not be installed."""

TIMEOUT = 10.0
"""Seconds within which the server must say something more."""

IN_ALL = 25.0
"""Seconds that a message may take in all."""

SUBJECT = 150
"""Characters of a subject."""

_HINT = "set `from` in messages.yaml, or the extra field from_email of the connection"


class Email:
    """One mail server, and some addresses.

    :param block: the keys ``to`` and ``from``.
    :param connection: host, port, login, password; extra fields ``from_email``, ``disable_ssl``, ``disable_tls``,
        ``timeout`` and ``ca_file``.
    :raises ChannelTrouble: the connection is not what it should be.
    """

    def __init__(self, block: Mapping[str, Any], connection: OutsideConnection | None) -> None:
        if connection is None or not connection.host:
            name = connection.name if connection is not None else ""
            raise ChannelTrouble(f"the connection {name} names no mail server", "fill in its host")
        if connection.kind not in (CONNECTION_TYPE, "email"):
            said = f"the connection {connection.name} has the type {connection.kind!r}"
            raise ChannelTrouble(said, f"give it the type {CONNECTION_TYPE!r}")
        self._connection = connection
        self._to = [str(one) for one in block["to"]]
        self._from = str(block.get("from") or connection.extra.get("from_email") or "")
        if not self._from:
            raise ChannelTrouble(f"nothing says whom mail by {connection.name} is from", _HINT)
        # A server may repeat what it was sent: AUTH PLAIN has login and password in one text.
        both = f"\0{connection.login}\0{connection.password}"
        self._secrets = (connection.password, both) if len(connection.password) > 3 else ()
        self._server: smtplib.SMTP | None = None

    def send(self, message: Message, *, plain: bool = False) -> None:
        """Send a message to all of the addresses."""
        mail = mail_of(message, self._from, self._to, plain=plain)
        # A server that says something now and then, but never comes to an end, ends no wait for more.
        watch = threading.Timer(IN_ALL, self._hang_up)
        watch.daemon = True
        watch.start()
        try:
            server = self._server or self._connected()
            refused = server.send_message(mail, self._from, self._to)
        except smtplib.SMTPRecipientsRefused as error:
            self.close()
            raise self._trouble(f"no address was accepted: {_codes(error.recipients)}") from None
        except smtplib.SMTPDataError as error:
            self.close()
            raise self._judged(error) from None
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            raise self._trouble(f"{type(error).__name__}: {error}") from None
        finally:
            watch.cancel()
        if refused:
            # The others have it: to send it again would tell them twice.
            log.warning("mail by %s: %s", self._connection.name, self._clean(_codes(refused)))

    def close(self) -> None:
        """Hang up."""
        server, self._server = self._server, None
        if server is not None:
            with suppress(smtplib.SMTPException, OSError):
                server.quit()

    def _hang_up(self) -> None:
        server = self._server
        if server is not None and server.sock is not None:
            with suppress(OSError):
                server.sock.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> smtplib.SMTP:
        options = self._connection.extra
        context = ssl.create_default_context(cafile=str(options.get("ca_file") or "") or None)
        timeout = min(TIMEOUT, _number(options.get("timeout")) or TIMEOUT)
        host = self._connection.host
        server: smtplib.SMTP
        if not _flag(options.get("disable_ssl")):
            server = smtplib.SMTP_SSL(host, self._connection.port or 465, timeout=timeout, context=context)
        else:
            server = smtplib.SMTP(host, self._connection.port or 25, timeout=timeout)
            if not _flag(options.get("disable_tls")):
                server.starttls(context=context)
        self._server = server
        if self._connection.login and self._connection.password:
            server.login(self._connection.login, self._connection.password)
        return server

    def _judged(self, error: smtplib.SMTPDataError) -> ChannelTrouble | MessageRefused:
        said = self._clean(f"{error.smtp_code} {_text(error.smtp_error)}")
        if 500 <= error.smtp_code < 600:
            return MessageRefused(f"the mail server of {self._connection.name} refuses a message: {said}")
        return self._trouble(said)

    def _trouble(self, said: str) -> ChannelTrouble:
        hint = ""
        if "certificate" in said.lower():
            hint = "is its certificate from an authority of your own? Name a file of it in the extra field ca_file"
        return ChannelTrouble(
            f"mail by {self._connection.name} ({self._connection.host}) cannot be sent: {self._clean(said)}", hint
        )

    def _clean(self, text: str) -> str:
        return without_secrets(text, self._secrets)


def mail_of(message: Message, sender: str, to: list[str], *, plain: bool = False) -> EmailMessage:
    """A message as e-mail: plain text, which has no meaning but what it says."""
    mail = EmailMessage(policy=SMTP)
    subject = escaped(message.title.replace("\n", " "))
    mail["Subject"] = f"[calib] {subject[:SUBJECT]}{'…' if len(subject) > SUBJECT else ''}"
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Date"] = format_datetime(datetime.now(UTC))
    domain = sender.rpartition("@")[2]
    mail["Message-ID"] = f"<{_digest(message.key, message.title, str(message.at))}@{domain}>"
    if message.thread:
        root = f"<calib-{_digest(message.thread)}@{domain}>"
        mail["In-Reply-To"] = root
        mail["References"] = root
    # Robots that answer to what they get are not to answer to this.
    mail["Auto-Submitted"] = "auto-generated"
    parts = [] if plain else [message.where, message.why, message.to_do, *(f"- {line}" for line in message.lines)]
    lines = [message.title, *(part for part in parts if part), *([message.link] if message.link else [])]
    mail.set_content("\n\n".join(_lines(line) for line in lines) + "\n")
    return mail


def _lines(text: str) -> str:
    return "\n".join(escaped(line) for line in text.split("\n"))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]


def _codes(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return ", ".join(f"{address}: {code} {_text(said)}" for address, (code, said) in refused.items())


def _text(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said


def _flag(value: object) -> bool:
    return value in (True, "true", "True", "1", 1)


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None
