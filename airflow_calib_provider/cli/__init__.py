"""The command line ``calib``."""

from __future__ import annotations

import gc

UNCOLLECTED = 1_000_000
"""Objects that a command may make before any is looked at for being garbage: most end before that."""


def main() -> None:
    """Entry point; everything heavy is imported by the command that needs it."""
    # Looking through what is imported, which is never garbage, takes a sixth of a small command's time.
    gc.set_threshold(UNCOLLECTED)

    from airflow_calib_provider.cli.app import app

    app(prog_name="calib")
