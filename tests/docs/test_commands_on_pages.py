"""Every `calib` command on a page exists, with the options that are shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from airflow_calib_provider.cli.app import app
from tests.docs.test_docs import PAGES

COMMANDS: Any = typer.main.get_command(app)
SPAN = re.compile(r"`(calib(?: [^`\n]*)?)`|^(?:\$ )?(?:[A-Z_]+=\S+ )*(calib .*)$", re.M)


def shown(page: Path) -> Iterator[str]:
    """What stands in code, and on the lines of blocks."""
    for match in SPAN.finditer(page.read_text(encoding="utf-8")):
        yield match[1] or match[2]


def wrong(line: str) -> str | None:
    """What the command line does not know of it; words in capitals stand for something."""
    command = COMMANDS
    words = re.sub(r"[\[\]|]|\"[^\"]*\"", " ", line).split()[1:]
    while words and hasattr(command, "commands"):
        name = words.pop(0)
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word not in {*known, "--help"}]
    return f"no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    assert {line: said for line in shown(page) if (said := wrong(line))} == {}


def test_commands_are_found() -> None:
    lines = [line for page in PAGES for line in shown(page)]
    assert "calib campaign create NAME --source daq --runs 1-3" in lines
    assert "calib retry run-r3" in lines
    assert wrong("calib jobs lost") == "no command lost"
    assert wrong("calib skip 4 --because x") == "no option --because"
