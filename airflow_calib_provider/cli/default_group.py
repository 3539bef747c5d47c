"""A group of commands of which one needs no name."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from airflow_calib_provider.cli.common import LIST


class ListsByDefault(TyperGroup):
    """``calib products fill-r2`` is ``calib products list fill-r2``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name where it was left out."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = [LIST, *args]
        return super().parse_args(ctx, args)
