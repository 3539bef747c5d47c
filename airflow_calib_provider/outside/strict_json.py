"""Reading JSON that others have written: what cannot be kept exactly, or could be read in two ways, is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NoReturn


class BadJson(ValueError):
    """A text that is not JSON as we read it.

    :ivar position: of the character where it is wrong, from 0; ``None``: not known.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


def parse_json(text: str) -> object:
    """What a text says.

    :raises BadJson: it is not JSON, an object has a key twice, or a number is none or has too many digits.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadJson(error.msg, error.pos) from error
    except BadJson:
        raise
    except ValueError as error:
        raise BadJson("a number has too many digits") from error
    except RecursionError:
        raise BadJson("lists and objects lie too deep within each other") from None


def _refuse(word: str) -> NoReturn:
    raise BadJson(f"{word} is no number of JSON")


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadJson(f"the key {name[:80]!r} is there twice in an object")
            seen.add(name)
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_object)


def at_path(document: object, path: str) -> object:
    """What a dotted path leads to: keys of objects.

    :param path: empty: the whole.
    :raises KeyError: nothing is there; its argument says which part is not.
    """
    found = document
    for part in path.split(".") if path else ():
        if not isinstance(found, dict) or part not in found:
            raise KeyError(part)
        found = found[part]
    return found


def kind_of(value: object) -> str:
    """What a value is, for messages: ``a list``, ``null``, ``the text 'x'``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    shown = str(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    return f"the text {shown!r}" if isinstance(value, str) else f"the number {shown}"
