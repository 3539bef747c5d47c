"""Airflow's connections for commands: the only place where a command makes Airflow be imported, which takes seconds."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import redirect_stdout
from importlib import import_module
from typing import Any


def ask_airflow(hook: str, function: str, *arguments: object) -> Any:
    """Call a function of a hook, able to see connections that were made in Airflow's UI.

    :param hook: a module of :mod:`airflow_calib_provider.hooks`.
    """
    # As `airflow connections` does: else only environment variables and secrets backends would be asked.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    # What Airflow logs must not stand in the middle of a command's answer.
    with redirect_stdout(sys.stderr):
        found = import_module(f"airflow_calib_provider.hooks.{hook}")
        # Airflow's logging tells what its own operators want to know, and ours of each look at the ledger's version.
        for name in ("airflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        return getattr(found, function)(*arguments)
