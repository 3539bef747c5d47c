"""Collecting what is wrong with a file of runs."""

from __future__ import annotations

from pathlib import Path

from airflow_calib_provider.errors import RunSourceError

MAX_FAULTS = 20


class TooManyFaults(Exception):
    """Enough was found to say that the file is wrong."""


class Faults:
    """What is wrong with one source, each with its place: in a file line and column, or header.

    :param file: what is read, for those with lines.
    :ivar messages: ``file:line:column: what; expected; hint``.
    """

    def __init__(self, file: Path | str = "") -> None:
        self.file = file
        self.messages: list[str] = []

    def add(self, line: int, column: int | str, what: str, expected: str = "", hint: str = "") -> None:
        """Record a fault.

        :param line: from 1; 0 means the file as a whole.
        :param column: from 1, or the header of the column.
        :raises TooManyFaults: this was the last one worth reporting.
        """
        self.at(f"{self.file}:{line}:{column}", what, expected, hint)

    def at(self, where: str, what: str, expected: str = "", hint: str = "") -> None:
        """Record a fault of a source that has no lines.

        :raises TooManyFaults: this was the last one worth reporting.
        """
        self.messages.append(
            f"{where}: " + "; ".join(part for part in (what, expected and f"expected {expected}", hint) if part)
        )
        if len(self.messages) >= MAX_FAULTS:
            raise TooManyFaults

    def raise_if_any(self) -> None:
        """:raises RunSourceError: something was found."""
        if self.messages:
            more = f"\n(stopped after {MAX_FAULTS} mistakes)" if len(self.messages) >= MAX_FAULTS else ""
            raise RunSourceError("\n".join(self.messages) + more)
