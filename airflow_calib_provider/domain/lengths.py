"""How long what is handed to a job's process may be: the kernel refuses to start a program with more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MAX_STRING = 100_000
"""Bytes of one argument, or of one variable with its name; Linux passes on 128 KiB."""

MAX_STRINGS = 1_000_000
"""Bytes of all arguments and variables of a job together; Linux passes on 2 MiB where the stack has its usual limit."""

_MOST_OF_CHARACTER = 4
"""Bytes."""

HINT = "pass a list as a file: {{ job.inputs_file }}, or $CALIB_RUNS_FILE"


def too_long(command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """What is too long, and what is allowed; ``None`` if nothing is."""
    written = sum(map(len, command)) + sum(map(len, environment)) + sum(map(len, environment.values()))
    if _MOST_OF_CHARACTER * written + len(environment) <= MAX_STRING:
        return None
    sizes = _sizes(command, environment)
    place = max(sizes, key=lambda place: sizes[place], default="")
    if place and sizes[place] > MAX_STRING:
        return f"{place} has {sizes[place]:,} bytes, of which {MAX_STRING:,} may be passed on to a job"
    if (total := sum(sizes.values())) > MAX_STRINGS:
        return (
            f"command and environment have {total:,} bytes, of which {MAX_STRINGS:,} may be passed on to a job; the "
            f"largest is {place} with {sizes[place]:,}"
        )
    return None


def largest(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """The longest argument or variable by its place, with its length."""
    sizes = _sizes(command, environment)
    place = max(sizes, key=lambda place: sizes[place])
    return f"{place} with {sizes[place]:,}"


def _sizes(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, int]:
    sizes = {f"command[{number}]": _size(argument) for number, argument in enumerate(command)}
    return sizes | {f"environment.{name}": len(name) + 1 + _size(value) for name, value in environment.items()}


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
