"""What policies say of other files, as it is now (rule 47)."""

from __future__ import annotations

from pathlib import Path

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.kinds import load


def as_read(policy: Grouping, folder: Path) -> Grouping:
    """A policy with the data that it follows.

    :param folder: of the workflow's file.
    :raises CalibError: they cannot be read.
    """
    reader = policy.rules.reader
    if not reader:
        return policy
    found: Grouping = load(f"{__name__.partition('.')[0]}.{reader}")(policy, folder)
    return found
