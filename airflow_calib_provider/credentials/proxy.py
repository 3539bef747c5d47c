"""X.509 proxies: certificates in PEM, with a private key between them, which is not looked at."""

from __future__ import annotations

import re
from datetime import datetime

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def expiry(content: bytes) -> datetime:
    """When the first certificate of the chain expires: then the proxy is worth nothing.

    :raises ValueError: there is no certificate, or one cannot be read.
    """
    # Not at the top: importing it takes long, and most processes see no proxy.
    from cryptography.x509 import load_pem_x509_certificate

    chain = _CERTIFICATE.findall(content)
    if not chain:
        raise ValueError("it has no certificate")
    return min(load_pem_x509_certificate(one).not_valid_after_utc for one in chain)
