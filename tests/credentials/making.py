"""Proxies, tokens and credential caches as their programs write them, that hold until a given time."""

from __future__ import annotations

import base64
import functools
import json
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

REALM = b"EXAMPLE.ORG"
GRANTING = (REALM, b"krbtgt", REALM)
CONFIGURATION = (b"X-CACHECONF:", b"krb5_ccache_conf_data", b"fast_avail")


@functools.cache
def key() -> ec.EllipticCurvePrivateKey:
    """One for all."""
    return ec.generate_private_key(ec.SECP256R1())


def certificate(until: datetime) -> bytes:
    """In PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    built = x509.CertificateBuilder(name, name, key().public_key(), 7, until - timedelta(days=400), until)
    return built.sign(key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def proxy(*until: datetime) -> bytes:
    """The proxy's own certificate, its key, then the chain."""
    secret = key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    first, *chain = map(certificate, until)
    return b"".join([first, secret, *chain])


def token(claims: Any) -> bytes:
    """Signed by nobody."""
    header, payload = (base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in ({}, claims))
    return b".".join([header, payload, b"c2lnbmVk"])


def counted(content: bytes) -> bytes:
    """With its length before it."""
    return struct.pack(">I", len(content)) + content


def principal(realm: bytes, *parts: bytes) -> bytes:
    """As a cache has it."""
    return struct.pack(">II", 1, len(parts)) + b"".join(map(counted, (realm, *parts)))


def ticket(server: tuple[bytes, ...], until: datetime, *, addresses: Iterable[bytes] = ()) -> bytes:
    """An entry of a cache."""
    end = int(until.timestamp())
    listed = list(addresses)
    return b"".join(
        [
            principal(REALM, b"calib"),
            principal(*server),
            struct.pack(">H", 18) + counted(bytes(32)),
            struct.pack(">IIII", max(0, end - 36000), max(0, end - 36000), end, end + 86400),
            struct.pack(">BI", 0, 0x40E10000),
            struct.pack(">I", len(listed)) + b"".join(struct.pack(">H", 2) + counted(one) for one in listed),
            struct.pack(">I", 0),
            counted(b"a ticket, encrypted"),
            counted(b""),
        ]
    )


def cache(*tickets: bytes) -> bytes:
    """A credential cache of version 4, with the header that MIT's library writes."""
    header = struct.pack(">HHii", 1, 8, 0, 0)
    return b"\x05\x04" + struct.pack(">H", len(header)) + header + principal(REALM, b"calib") + b"".join(tickets)


def kerberos(until: datetime) -> bytes:
    """A cache with a ticket by which others are had."""
    return cache(ticket(GRANTING, until))


def content(kind: str, until: datetime) -> bytes:
    """A credential of a kind."""
    if kind == "token":
        return token({"exp": int(until.timestamp())})
    return proxy(until) if kind == "proxy" else kerberos(until)


def now() -> datetime:
    """In whole seconds, as credentials count."""
    return datetime.now(UTC).replace(microsecond=0)
