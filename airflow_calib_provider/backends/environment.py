"""The environment that payload code may see."""

from __future__ import annotations

import os
from collections.abc import Mapping

HIDDEN = ("AIRFLOW", "_AIRFLOW", "CALIB_LEDGER", "CALIB_CRASH", "CALIB_AIRFLOW")


def without_airflow(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """A copy without Airflow's own variables and without the address of the ledger, both of which may hold secrets.

    :param environment: this process's by default.
    """
    source = os.environ if environment is None else environment
    return {name: value for name, value in source.items() if not name.startswith(HIDDEN)}
