"""How a job ended, in words, and of which class that is: from its exit code and what it left."""

from __future__ import annotations

import re
from pathlib import Path
from signal import Signals

from airflow_calib_provider.backends.left import last_line
from airflow_calib_provider.domain.observation import FailureClass

_NOT_STARTED = (126, 127)
_NO_SUCH = re.compile(r"(?:^|: )exec: (?:line \d+: )?(.+): (?:not found|No such file or directory)$")
"""What shells say of a program that is not there."""


def killed_by(number: int) -> str:
    """The words for an end by a signal."""
    try:
        return f"killed by {Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


def not_found(program: str) -> str:
    """The words for a program that is not there."""
    return f"command not found: {program} (or its interpreter)"


def why(folder: Path, exit_code: int | None, signal: int | None) -> tuple[FailureClass, str]:
    """The class of a failure, and its reason.

    :param folder: of the attempt, with its ``stderr``.
    """
    if signal is not None:
        return FailureClass.SIGNAL, killed_by(signal)
    if exit_code in _NOT_STARTED and (said := last_line(folder / "stderr")):
        if absent := _NO_SUCH.search(said):
            return FailureClass.START, not_found(absent[1])
        return FailureClass.START, f"exit code {exit_code}: {said}"
    return FailureClass.EXIT, f"exit code {exit_code}"
