"""Text of runs, jobs and people as Mattermost shows it: as it is, whatever it looks like."""

from __future__ import annotations

import re

from airflow_calib_provider.domain.escaping import escaped

_SIGNS = re.compile(r"([\\`*{}\[\]()#+\-.!_>~|])")
"""What a backslash takes the meaning from."""

_AT = "＠"
"""No backslash keeps ``@channel`` from calling everybody; this one looks like it, and calls nobody."""


def inert(text: str) -> str:
    """Text in which nothing has a meaning: no emphasis, link, image, heading, mention or control character.

    Lines stay lines.
    """
    return "\n".join(_SIGNS.sub(r"\\\1", _calls_nobody(line)) for line in text.split("\n"))


def code(text: str) -> str:
    """Text as code, on one line."""
    return f"`{_calls_nobody(' '.join(text.split())).replace('`', chr(0x2019))}`"


def with_code(text: str) -> str:
    """Words of ours, in which commands stand between backticks, perhaps with names of others in them."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return inert(text)
    return "".join(code(part) if number % 2 else inert(part) for number, part in enumerate(parts))


def _calls_nobody(line: str) -> str:
    # Without the zero-width space the address of anybody's text would be a link.
    return escaped(line).replace("@", _AT).replace("://", ":\u200b//")


def shortened(text: str, longest: int) -> str:
    """Text that is not too long, cut where no backslash stands alone."""
    if len(text) <= longest:
        return text
    kept = text[: longest - 2]
    return kept[: len(kept) - (len(kept) - len(kept.rstrip("\\"))) % 2] + " …"
