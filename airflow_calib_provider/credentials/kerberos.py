"""Credential caches of Kerberos in files, version 4: when their tickets end."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime

_VERSION = b"\x05\x04"
_NO_CACHE = "it is no Kerberos credential cache of version 4"
_CONFIGURATION = b"X-CACHECONF:"
"""The realm of entries that are no tickets but settings."""


@dataclass
class _Reader:
    """Reads numbers and texts one after another, as the cache has them: big-endian, texts with their length."""

    content: bytes
    at: int = 0

    def whole(self, form: str) -> int:
        found = struct.unpack_from(f">{form}", self.content, self.at)
        self.at += struct.calcsize(f">{form}")
        return int(found[0])

    def text(self) -> bytes:
        length = self.whole("I")
        if self.at + length > len(self.content):
            raise struct.error
        self.at += length
        return self.content[self.at - length : self.at]

    def principal(self) -> tuple[bytes, ...]:
        """The realm, then the parts of the name."""
        self.whole("I")
        parts = self.whole("I")
        if parts > len(self.content):
            raise struct.error
        return tuple(self.text() for _ in range(parts + 1))

    def typed(self) -> None:
        """A list of texts, each after the number of its type: addresses, and data of an authorization."""
        for _ in range(self.whole("I")):
            self.whole("H")
            self.text()


def expiry(content: bytes) -> datetime:
    """When the ticket ends with which others are had; without one, when the last ticket does.

    :raises ValueError: it is no cache of version 4, or has no ticket.
    """
    if not content.startswith(_VERSION):
        raise ValueError(_NO_CACHE)
    reader = _Reader(content, len(_VERSION))
    try:
        header = reader.whole("H")
        reader.at += header
        realm = reader.principal()[0]
        tickets = []
        while reader.at < len(content):
            tickets.append(_ticket(reader))
    except struct.error:
        raise ValueError(f"{_NO_CACHE}, or not all of one") from None
    granting = [end for server, end in tickets if server == (realm, b"krbtgt", realm)]
    others = [end for server, end in tickets if server[0] != _CONFIGURATION]
    if not others:
        raise ValueError("it holds no ticket")
    return datetime.fromtimestamp(max(granting or others), UTC)


def _ticket(reader: _Reader) -> tuple[tuple[bytes, ...], int]:
    """Whom a ticket is for, and when it ends, in seconds since 1970."""
    reader.principal()
    server = reader.principal()
    reader.whole("H")  # of the key: its type, then the key
    reader.text()
    _, _, end, _ = (reader.whole("I") for _ in range(4))
    reader.whole("B")
    reader.whole("I")
    reader.typed()
    reader.typed()
    reader.text()
    reader.text()
    return server, end
