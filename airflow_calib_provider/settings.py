"""Where an installation keeps its files, and the few numbers that an operator of it may change.

Everything is read from the environment at the moment of use, so that tests and several installations on one host do
not meet.
"""

from __future__ import annotations

import os
from pathlib import Path


def calib_home() -> Path:
    """Folder of everything that this package writes.

    ``CALIB_HOME``, else ``$AIRFLOW_HOME/calib``, else ``~/airflow/calib``.
    """
    if home := os.environ.get("CALIB_HOME"):
        return Path(home)
    return Path(os.environ.get("AIRFLOW_HOME") or Path.home() / "airflow") / "calib"


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
