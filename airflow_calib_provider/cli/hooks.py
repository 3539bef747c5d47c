"""Airflow's connections for commands: the only place where a command makes Airflow be imported, which takes seconds."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any


def hook(name: str) -> Any:
    """A module of :mod:`airflow_calib_provider.hooks`, able to see connections that were made in Airflow's UI.

    :param name: of the module.
    """
    # As `airflow connections` does: else only environment variables and secrets backends would be asked.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    return import_module(f"airflow_calib_provider.hooks.{name}")
