"""Where an installation keeps its files, and the few numbers that an operator of it may change.

Everything is read from the environment at the moment of use, so that tests and several installations on one host do
not meet.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

_INSTALLATION = "installation"


def calib_home() -> Path:
    """Folder of everything that this package writes.

    ``CALIB_HOME``, else ``$AIRFLOW_HOME/calib``, else ``~/airflow/calib``.
    """
    if home := os.environ.get("CALIB_HOME"):
        return Path(home)
    return Path(os.environ.get("AIRFLOW_HOME") or Path.home() / "airflow") / "calib"


_installations: dict[Path, str] = {}
"""By :func:`calib_home`: remembered, since its file system may go away for a while."""


def known_installation() -> str | None:
    """What :func:`installation_id` made; ``None`` if nothing did, or it cannot be seen now."""
    home = calib_home()
    if home not in _installations:
        with suppress(FileNotFoundError):
            _installations[home] = (home / _INSTALLATION).read_text().strip()
    return _installations.get(home)


def installation_id() -> str:
    """What tells the jobs of this installation from those of another with the same paths: two containers, for example.

    Made once, and kept in the file ``installation`` of :func:`calib_home`.

    :raises OSError: the file cannot be written.
    """
    if known := known_installation():
        return known
    file = calib_home() / _INSTALLATION
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".installation-{uuid.uuid4().hex}")
    try:
        with part.open("w") as stream:
            stream.write(f"{uuid.uuid4()}\n")
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):  # another process was faster
            os.link(part, file)
    finally:
        part.unlink(missing_ok=True)
    return known_installation() or ""


def spool_folder() -> Path:
    """Folder of the local backend: one folder per submitted round."""
    return calib_home() / "spool"


def products_folder() -> Path:
    """Folder of accepted products: ``campaign/workflow/task/group/generation/job``."""
    return calib_home() / "products"


def payloads_folder() -> Path:
    """Folder of published files, named by their content."""
    return calib_home() / "payloads"


def number(name: str, default: float) -> float:
    """A number from the environment variable ``CALIB_<name>``.

    :raises ValueError: it is not a number.
    """
    text = os.environ.get(f"CALIB_{name}")
    if text is None:
        return default
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"CALIB_{name} must be a number, not {text!r}") from None
