"""Reading a file of runs as text."""

from __future__ import annotations

from pathlib import Path

from airflow_calib_provider.runsources.faults import Faults
from airflow_calib_provider.spec.places import Lines, end_of
from airflow_calib_provider.spec.regular import open_regular

MAX_BYTES = 100_000_000
"""Of a file, which is in memory as a whole: about a million runs."""


def read_text(path: Path, faults: Faults, kind: str) -> str | None:
    """The whole of a file; what is wrong with it is a fault.

    :param kind: of the file, for messages.
    :returns: ``None``: it could not be read.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        faults.add(0, 0, f"cannot read the file: {error.strerror or error}", f"a readable {kind} file")
        return None
    if len(content) > MAX_BYTES:
        faults.add(1, 1, "the file is too large", f"at most {MAX_BYTES:,} bytes")
        return None
    if (position := content.find(b"\x00")) >= 0:
        faults.add(*end_of(content[:position]), "a NUL byte", "text in UTF-8")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        faults.add(
            *end_of(content[: error.start]),
            f"byte 0x{content[error.start]:02x} is not UTF-8",
            "text in UTF-8",
            "save the file as UTF-8",
        )
        return None


def refuse_open_end(text: str, faults: Faults) -> None:
    """Note that the last line does not end. Cut inside its last value, a file would otherwise give a wrong number."""
    if text and text[-1] not in "\r\n" and not faults.messages:
        faults.add(
            len(Lines(text).lines),
            0,
            "the last line does not end: the file is truncated, or still being written",
            "a line break at its end",
            "write the file under another name, and rename it when it is complete",
        )
