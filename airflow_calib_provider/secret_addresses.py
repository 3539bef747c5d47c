"""Addresses in texts that people read: whoever has that of an incoming webhook may post there.

What stands behind the host may be the secret itself, as in ``https://chat.example.org/hooks/abc``, and what stands
before it a password. Both are cut out; the host stays, so that one sees which address is meant.
"""

from __future__ import annotations

import re
from functools import lru_cache

_HOST = r"(?:(?!%2f|%3f|%23)[^\s/?#'\"@])+"
_WITH_SCHEME = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]{{0,31}}(?:://|%3a%2f%2f))(?P<user>[^\s/?#'\"@]*@)?(?P<host>{_HOST})?"
    r"(?P<rest>(?:[/?#]|%2f|%3f|%23)\S*)?",
    re.IGNORECASE,
)
_WITHOUT_SCHEME = re.compile(r"(?<![\w./…@-])(?P<host>[\w-]+(?:(?:\.[\w-]+)+(?::\d+)?|:\d+))(?P<rest>[/?]\S*)")
_MARK = re.compile("://|%3a%2f%2f", re.IGNORECASE)
_BEHIND = "'\"`,;:.)]}…"
_WEB = ("http", "https")
CUT = "…"


@lru_cache(32)  # A line of a file is asked for with each of its mistakes, of which it may have thousands.
def without_secret_addresses(text: str, *, every: bool = False) -> str:
    """A text whose addresses of the web have no path, and none of which has a user or a password.

    :param every: addresses of other kinds, and those without ``https://``, lose their path, too.
    """

    def cut(match: re.Match[str]) -> str:
        scheme, user, host, rest = (match[name] or "" for name in ("scheme", "user", "host", "rest"))
        if user:
            host = f"{CUT}@{host}"
        if re.split(r"[:%]", scheme)[0].lower() in _WEB or every:
            rest = _cut(rest)
        return f"{scheme}{host}{rest}"

    if _MARK.search(text):
        text = _WITH_SCHEME.sub(cut, text)
    return _WITHOUT_SCHEME.sub(lambda match: f"{match['host']}{_cut(match['rest'])}", text) if every else text


def _cut(rest: str) -> str:
    end = rest[len(rest.rstrip(_BEHIND)) :].lstrip(CUT)
    kept = rest[: len(rest) - len(end)]
    return rest if kept in ("", "/") else f"/{CUT}{end}"
