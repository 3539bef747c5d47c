"""What every job of the example shares: errors for people, reported values, files written whole or not at all."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPORT_VARIABLE = "CALIB_REPORT"
"""Environment variable that names the file to which a job appends what it found, one JSON object per line."""

EXIT_ERROR = 1
"""Exit code of a job whose input or fit is not usable; 2 is a wrong command line."""


class JobError(ValueError):
    """A message for people: what is wrong with the input or the fit, and where.

    :param message: one sentence, with file and line where there is one.
    :param exit_code: the exit code of the job.
    """

    def __init__(self, message: str, exit_code: int = EXIT_ERROR) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def report_value(name: str, value: float, error: float | None = None) -> None:
    """Append one value to the file named by ``CALIB_REPORT``; do nothing when the variable is unset or empty.

    :param name: the value's name, such as ``scale_EB``.
    :param value: a finite number.
    :param error: its standard deviation, in the same unit.
    """
    target = os.environ.get(REPORT_VARIABLE)
    if not target:
        return
    line: dict[str, Any] = {"type": "value", "name": name, "value": value}
    if error is not None:
        line["error"] = error
    with Path(target).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, allow_nan=False) + "\n")


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file so that nobody ever sees half of it: into a neighbour first, then renamed.

    :param path: where the file is to stand; its folder is created.
    :param write: writes the content to the path that it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        write(neighbour)
        neighbour.replace(path)
    finally:
        neighbour.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON; NaN and infinity are refused.

    :param path: the file.
    :param content: what ``json.dumps`` takes.
    """
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda target: _write_text(target, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    :param path: the file.
    :raises JobError: it is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise JobError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise JobError(f"{path}: is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise JobError(f"{path}:{error.lineno}: is not JSON: {error.msg}") from error


def read_list(path: Path) -> list[str]:
    """Read a list file: one entry per line, empty lines ignored.

    :param path: the file.
    :raises JobError: it cannot be read, is empty, or names an entry twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise JobError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise JobError(f"{path}: is not UTF-8 text") from error
    entries: list[str] = []
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if entry in entries:
            raise JobError(f"{path}:{number}: {entry} is listed twice")
        if entry:
            entries.append(entry)
    if not entries:
        raise JobError(f"{path}: lists nothing")
    return entries


def run_job(job: Callable[[Sequence[str] | None], None], arguments: Sequence[str] | None = None) -> int:
    """Run a job's body and turn its :class:`JobError` into a message on stderr and an exit code.

    :param job: takes the command-line arguments.
    :param arguments: those arguments; ``None`` for the process's own.
    :returns: the exit code.
    """
    try:
        job(arguments)
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0
