"""The command line ``calib``."""

from __future__ import annotations


def main() -> None:
    """Entry point; everything heavy is imported by the command that needs it."""
    from airflow_calib_provider.cli.app import app

    app(prog_name="calib")
