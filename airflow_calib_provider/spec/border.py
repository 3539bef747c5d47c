"""The border around reading one file: whatever is raised inside is a mistake of that file, and hides no other."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_calib_provider.domain.nodes import Mapping, Scalar, Sequence
from airflow_calib_provider.errors import CalibError, Place, SpecError


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Everything that is raised inside, by a library or by a mistake of ours, becomes an error of the file.

    :raises SpecError: with the best place that is known.
    """
    try:
        yield
    except SpecError:
        raise
    except Exception as error:
        raise unforeseen(error, file) from error


def unforeseen(error: Exception, file: Path) -> SpecError:
    """The error of a file for one that nobody foresaw; its place is that of the node that was looked at."""
    if isinstance(error, CalibError):
        return SpecError(error.message, _place(error, file), suggestion=error.hint)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return SpecError(
        f"this file cannot be read, for a reason that was not foreseen: {said}",
        _place(error, file),
        suggestion="please report it, with the file; what stands at this place may be written otherwise meanwhile",
    )


def _place(error: Exception, file: Path) -> Place:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        for value in reversed(list(frame.f_locals.values())):
            if isinstance(value, Scalar | Sequence | Mapping) and value.position.line:
                return Place(file, value.position.line, value.position.column)
    return Place(file, 1, 1)
