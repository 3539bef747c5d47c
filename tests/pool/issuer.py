"""An issuer of SciTokens for the test pool: https on this machine alone, with certificates of a CA of its own.

WLCG Common JWT Profiles and SciTokens: a signed JWT, whose issuer publishes its keys below
``/.well-known/openid-configuration``.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

KEY_ID = "of-the-tests"


class Issuer:
    """A context manager.

    Args:
        folder: for keys and certificates; every user of the pool must be able to pass.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"CA of the tests {uuid.uuid4().hex}")])
        self._ca = self._certificate(name, name, self._ca_key.public_key(), authority=True)
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self._ca.public_bytes(serialization.Encoding.PEM))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.host_certificate("issuer", "localhost"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, subject: str = "calib", scope: str = "condor:/READ condor:/WRITE", lifetime: float = 600) -> str:
        """A signed token.

        Args:
            subject: whom it speaks for.
            scope: what it allows.
            lifetime: in seconds; negative: it has expired.
        """
        at = time.time()
        claims = {
            "iss": self.url,
            "sub": subject,
            "aud": "ANY",
            "ver": "scitoken:2.0",
            "scope": scope,
            "iat": int(at - 700),
            "nbf": int(at - 700),
            "exp": int(at + lifetime),
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": KEY_ID})

    def host_certificate(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """Files with a certificate for some hosts and 127.0.0.1, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = self._certificate(subject, self._ca.subject, key.public_key(), hosts=hosts)
        certificate_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        key_file.touch(0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate_file, key_file

    def _certificate(
        self, subject: x509.Name, issuer: x509.Name, key: Any, *, authority: bool = False, hosts: tuple[str, ...] = ()
    ) -> x509.Certificate:
        at = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - timedelta(hours=1))
            .not_valid_after(at + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if hosts:
            address = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
            names = [address, *map(x509.DNSName, hosts)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._ca_key, hashes.SHA256())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        def document(path: str) -> dict[str, Any] | None:
            if path.endswith(("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")):
                return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
            if path == "/jwks":
                public: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(self._key.public_key()))
                return {"keys": [{**public, "kid": KEY_ID, "alg": "ES256", "use": "sig"}]}
            return None

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = document(self.path)
                self.send_response(404 if found is None else 200)
                body = json.dumps(found or {}).encode()
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
