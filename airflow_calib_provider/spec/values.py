"""The values of templates: what they are as text, and how large they may become."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date

from jinja2.runtime import Undefined

MAX_TEXT = 200_000
"""Characters of a rendered text and of every text on the way."""
MAX_ITEMS = 1_000_000
"""Elements of a rendered list, those of lists inside it included."""
_MAX_BITS = 1_024
_LONG_TEXT = 1_000


class ListInText(Exception):
    """A list or mapping where only a text can stand (rule 32)."""


class NullInText(Exception):
    """A null where a text is needed."""


class TooLarge(Exception):
    """A value, or the work of making it, beyond what a template may take."""


def as_text(value: object) -> str:
    """A single value as it appears inside a text: truth values as in YAML, times in ISO 8601.

    :raises ListInText: it is a list or a mapping.
    :raises NullInText: it is null.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Undefined):
        # Printing a strict undefined raises the error that names the variable.
        return str(value)
    if value is None:
        raise NullInText
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int | float):
        return str(value)
    raise ListInText


def no_text(text: str) -> str:
    """What a text holds that nothing outside of Python takes as one; empty where there is no such thing."""
    if "\x00" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a character"
    return ""


def described(value: object) -> str:
    """What a value is, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list | tuple) else "no data"


def weight(value: object, limit: int) -> int:
    """How many elements a value has, those of its elements included; a long text counts as several.

    :raises TooLarge: more than the limit.
    """
    total = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        total += 1
        if isinstance(item, str):
            total += len(item) // _LONG_TEXT
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        if total + len(waiting) > limit:
            raise TooLarge(f"a value of more than {limit:,} elements, or more work than a template may cause")
    return total


def checked(value: object) -> object:
    """A value on the way.

    :raises TooLarge: a text or number beyond what a template may hold.
    """
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise TooLarge(f"a text of more than {MAX_TEXT:,} characters")
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise TooLarge("a number of more than 300 digits")
    if isinstance(value, float) and not math.isfinite(value):
        raise TooLarge("a number that is too large")
    return value


def joined(texts: Sequence[str]) -> str:
    """Texts put together.

    :raises TooLarge: they are too long for that.
    """
    if sum(len(text) for text in texts) > MAX_TEXT:
        raise TooLarge(f"a text of more than {MAX_TEXT:,} characters")
    return "".join(texts)
