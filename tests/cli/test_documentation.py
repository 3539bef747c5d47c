"""Every command teaches itself, and is described with an example in docs/command-line.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from airflow_calib_provider.cli.app import app
from tests.cli.conftest import Calib

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def commands(group: Any = None, before: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


COMMANDS = dict(commands())


def sections() -> dict[str, str]:
    """Command → its section of the page."""
    parts = re.split(r"^### `calib ([a-z ]+)`$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_has_these_commands_and_no_others() -> None:
    assert sorted(sections()) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_command(name: str, calib: Calib) -> None:
    section = sections()[name]
    examples = re.findall(r"```console\n(.*?)```", section, flags=re.DOTALL)
    assert any(f"$ calib {name}" in text for text in examples)
    for parameter in COMMANDS[name].params:
        for option in parameter.opts + parameter.secondary_opts:
            if option.startswith("--") and option not in ("--json", "--help"):
                assert f"`{option}" in section, f"{name} {option}"
    shown = calib.plain(*name.split(), "--help")
    assert "Examples:" in shown
    assert f"calib {name}" in shown
    assert "--json" in shown
