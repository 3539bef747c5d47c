"""Messages by an incoming webhook of Mattermost.

The webhook's address is all that is needed to post there, hence a secret: it stands in the connection's password, and
in no message of ours.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.messages.base import CONTEXT, ChannelTrouble, Message, MessageRefused
from airflow_calib_provider.messages.markdown import inert, shortened, with_code
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.outside.http import Sockets
from airflow_calib_provider.outside.limits import CONNECT, Deadline, retry_after, without_secrets

if TYPE_CHECKING:
    import urllib3

CONNECTION_TYPE = "calib_mattermost"

LONGEST = 16_383
"""Characters of a post: a longer one would become several."""

TIMEOUT = 20.0
"""Seconds that a post may take in all."""

ANSWER = 4_000
"""Bytes of an answer that are read."""

_BUTTON = "open_in_airflow"
_OF_THE_PLACE = ("webhook.invalid", "webhook.disabled", "webhook.channel", "webhook.permission", "webhook.general")
"""Parts of the ids of errors that are not about the message."""

_FIELDS = ("ca_file", "plain_http")
_HINT = "give the webhook's address, https://…/hooks/…, as the connection's password"


@dataclass(frozen=True)
class Webhook:
    """Where an incoming webhook is.

    :ivar name: of the connection.
    :ivar address: all of it is secret.
    :ivar ca_file: the certificates that are trusted, instead of the system's.
    :ivar plain_http: whether it need not be https.
    """

    name: str
    address: str = field(repr=False)
    ca_file: str = ""
    plain_http: bool = False

    @classmethod
    def of(cls, connection: OutsideConnection) -> Webhook:
        """What a connection says. What is wrong with its address is said without it.

        :raises ChannelTrouble: it has another type, no address, or a field that it must not have.
        """
        name = f"the connection {connection.name}"
        if connection.kind != CONNECTION_TYPE:
            raise ChannelTrouble(f"{name} has the type {connection.kind!r}", f"give it the type {CONNECTION_TYPE!r}")
        if unknown := sorted(set(connection.extra) - set(_FIELDS)):
            raise ChannelTrouble(f"{name} has the unknown field {unknown[0][:60]!r}", f"there are {', '.join(_FIELDS)}")
        plain_http = connection.extra.get("plain_http") in (True, "true", "True")
        found = connection.password.strip()
        if not _is_address(found):
            raise ChannelTrouble(f"the password of {name} is no address", _HINT)
        if found.startswith("http:") and not plain_http:
            said = f"the address of {name} is not https: whoever listens could post there"
            raise ChannelTrouble(said, "or allow it with the extra field plain_http")
        return cls(connection.name, found, str(connection.extra.get("ca_file") or ""), plain_http)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        path = urlsplit(self.address).path
        return tuple(part for part in (self.address, path, path.rpartition("/")[2]) if len(part) > 3)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_address and text.isascii() and text.isprintable() and " " not in text


class Mattermost:
    """One incoming webhook.

    :param block: the keys ``channel`` and ``username``, which may be ``None``.
    :param connection: its password is the address; extra fields ``ca_file`` and ``plain_http``.
    :raises ChannelTrouble: the connection is not what it should be.
    """

    def __init__(self, block: Mapping[str, Any], connection: OutsideConnection | None) -> None:
        if connection is None:
            raise ChannelTrouble("the channel names no connection", _HINT)
        self._block = block
        self._webhook = Webhook.of(connection)
        self._name = connection.name
        self._secrets = self._webhook.secrets
        self._pool, self._lines = self._made_pool()

    def _made_pool(self) -> tuple[urllib3.PoolManager, Sockets]:
        import urllib3

        options: dict[str, Any] = {"ca_certs": self._webhook.ca_file} if self._webhook.ca_file else {}
        pool = urllib3.PoolManager(maxsize=1, retries=False, cert_reqs="CERT_REQUIRED", **options)
        lines = Sockets()
        pool.pool_classes_by_scheme = lines.pools()
        return pool, lines

    def send(self, message: Message, *, plain: bool = False) -> None:
        """Post a message."""
        body = {"text": text_of(message)} if not plain else {"text": shortened(inert(message.title), 1_000)}
        body |= {name: self._block[name] for name in ("channel", "username") if self._block.get(name)}
        if message.buttons and not plain:
            body |= {"attachments": [_pressed(message)]}  # type: ignore[dict-item]
        elif message.link and not plain:
            body |= {"props": _button(message.link)}  # type: ignore[dict-item]
        status, headers, answer = self._post(json.dumps(body).encode())
        self._judge(status, headers, answer)

    def close(self) -> None:
        """Close the connection."""
        self._pool.clear()

    def _post(self, body: bytes) -> tuple[int, Mapping[str, str], str]:
        import urllib3

        deadline = Deadline.within(TIMEOUT, f"Mattermost by {self._name}")
        # What comes within each pause, but never to an end, ends no wait for the next byte.
        watch = threading.Timer(TIMEOUT, self._lines.hang_up)
        watch.daemon = True
        watch.start()
        hidden = _Hidden(self._secrets)
        library = logging.getLogger("urllib3.connectionpool")
        library.addFilter(hidden)
        try:
            timeout = urllib3.Timeout(connect=CONNECT, read=deadline.left())
            answer = self._pool.request(
                "POST",
                self._webhook.address,
                body=body,
                headers={"Content-Type": "application/json"},
                timeout=timeout,
                redirect=False,
                preload_content=False,
            )
            try:
                return answer.status, answer.headers, answer.read(ANSWER).decode("utf-8", "replace")
            finally:
                answer.close()
        except (urllib3.exceptions.HTTPError, OSError, OutsideError) as error:
            said = self._clean(f"{type(error).__name__}: {error}")
        finally:
            watch.cancel()
            library.removeFilter(hidden)
        raise ChannelTrouble(f"Mattermost by {self._name} cannot be reached: {said}", _hint_of(said))

    def _judge(self, status: int, headers: Mapping[str, str], answer: str) -> None:
        """:raises ChannelTrouble, MessageRefused: it was not posted."""
        if status == 200 and answer.strip() == "ok":
            return
        said = f"Mattermost by {self._name} answers HTTP {status}: {self._clean(_said(answer))}"
        if status == 200:
            raise ChannelTrouble(f"{said}, which is not Mattermost", "is there a login, or a proxy, in between?")
        if status == 429:
            raise ChannelTrouble(said, retry_after=retry_after(headers))
        if status in (400, 413, 422) and not any(part in answer for part in _OF_THE_PLACE):
            raise MessageRefused(said)
        hint = "is the webhook still there, and may it post to this channel?" if 400 <= status < 500 else ""
        raise ChannelTrouble(said, hint, retry_after=retry_after(headers))

    def _clean(self, text: str) -> str:
        return without_secrets(text, self._secrets)


class _Hidden(logging.Filter):
    """Keeps out of the log what the library would write there, at the level DEBUG: the path of each request."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line may be written."""
        return not any(secret in record.getMessage() for secret in self._secrets)


def text_of(message: Message) -> str:
    """A message in Mattermost's Markdown; nothing in it that others have written has a meaning."""
    parts = [f"**{inert(message.title)}**", inert(message.where)]
    parts += [inert(message.why), with_code(message.to_do)]
    parts += [f"- {inert(line)}" for line in message.lines]
    text = "\n".join(part for part in parts if part)
    link = f"\n[Open in Airflow]({_in_brackets(message.link)})" if message.link else ""
    return shortened(text, LONGEST - len(link)) + link


def _button(link: str) -> dict[str, Any]:
    """A button that opens a page, which needs nothing of ours that answers; older servers show the link alone."""
    button = {"type": "button", "text": "Open in Airflow", "style": "primary", "action_id": _BUTTON}
    return {"mm_blocks": [button], "mm_blocks_actions": {_BUTTON: {"type": "openURL", "url": link}}}


def _pressed(message: Message) -> dict[str, Any]:
    """Buttons of which our endpoint is told. What is in their contexts never leaves Mattermost's server."""
    actions = [
        {
            "id": button.action,
            "name": button.label,
            "type": "button",
            "integration": {"url": button.url, "context": {CONTEXT: button.context}},
        }
        for button in message.buttons
    ]
    return {"fallback": inert(message.title), "actions": actions}


def _in_brackets(link: str) -> str:
    return link.replace("(", "%28").replace(")", "%29").replace(" ", "%20").replace("\\", "%5C")


def _said(answer: str) -> str:
    """What an error says: Mattermost's are JSON."""
    try:
        found = json.loads(answer)
    except ValueError:
        return answer
    return str(found.get("message", answer)) if isinstance(found, dict) else answer


def _hint_of(said: str) -> str:
    if "certificate" in said.lower():
        return "is its certificate from an authority of your own? Name a file of it in the extra field ca_file"
    return ""
