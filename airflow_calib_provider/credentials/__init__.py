"""Credentials that jobs use: proxies, tokens and tickets in files that somebody renews, and until when each holds.

They are named by path and read where they lie, each time: nothing of them but the time of their expiry goes anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

VARIABLES = {"proxy": "X509_USER_PROXY", "token": "BEARER_TOKEN_FILE", "kerberos": "KRB5CCNAME"}
"""Kind → the variable in which programs of the field look for the path."""

CALLED = {"proxy": "proxy", "token": "token", "kerberos": "Kerberos ticket"}
"""Kind → what people call it."""


def variable(kind: str, path: str) -> tuple[str, str]:
    """The variable that tells a job where a credential is, and its value."""
    return VARIABLES[kind], f"FILE:{path}" if kind == "kerberos" else path


def told(credentials: Mapping[str, str], environment: Mapping[str, str]) -> list[str]:
    """The files of the credentials that a job finds by its variables, and not elsewhere or otherwise."""
    named = {kind: variable(kind, path) for kind, path in credentials.items()}
    return [credentials[kind] for kind, (name, value) in named.items() if environment.get(name) == value]
