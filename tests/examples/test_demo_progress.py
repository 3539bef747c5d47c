"""What the demonstration shows while it waits: one live table on a terminal, lines where there is none."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from demo.airflow_server import AirflowServer
from demo.stream import DemoFailed, Watch
from rich.console import Console

from tests.cli.world import World, row

UP = "\x1b[1A"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    monkeypatch.delenv("CALIB_LEDGER", raising=False)
    made = World(tmp_path)
    made.inject(row(2), row(3), row(4, fill=2))
    made.open_dag_runs()
    return made


def shown(world: World, **console: Any) -> str:
    """What is written while two job sets are done, one after the other."""
    out = io.StringIO()
    server = AirflowServer(world.folder / "airflow", world.folder)
    printed = Console(file=out, width=100, height=40, highlight=False, **console)
    with Watch(server, world.ledger, printed, "prompt") as watch:
        for number in (2, 3):
            printed.print(f"run {number} begins")
            watch.until(lambda: True, "nothing")
            world.do(f"run-r{number}", "skim")
            watch.until(lambda n=number: watch.state("demo", f"run-r{n}", "skim") == "done", "it")  # type: ignore[misc]
    return out.getvalue()


def test_one_table_on_a_terminal(world: World) -> None:
    text = shown(world, force_terminal=True, force_interactive=True)
    assert UP in text  # it is drawn again in its place
    last = text[text.rindex("campaign prompt") :]
    assert re.search(r"demo__run\W+skim\W+1\W+2\W", re.sub(r"\x1b\[[\d;?]*\w", "", last)), last
    assert "2 done" not in text  # no lines beside it


def test_what_is_printed_stays_above_it(world: World) -> None:
    text = shown(world, force_terminal=True, force_interactive=True)
    assert text.index("run 2 begins") < text.index("run 3 begins") < text.rindex("campaign prompt")


def test_the_cursor_comes_back_if_it_fails(world: World) -> None:
    out = io.StringIO()
    server = AirflowServer(world.folder / "airflow", world.folder)
    printed = Console(file=out, width=100, height=40, force_terminal=True, force_interactive=True)
    with (
        pytest.raises(DemoFailed, match="still waiting for the end"),
        Watch(server, world.ledger, printed, "prompt") as watch,
    ):
        watch.until(lambda: False, "the end", timeout=0)
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")


def test_lines_without_a_terminal(world: World) -> None:
    lines = shown(world, force_terminal=False).splitlines()
    assert not [line for line in lines if "\x1b" in line or "─" in line or "│" in line]
    told = [line for line in lines if "skim: " in line]
    assert told, lines
    assert len(told) == 3
    assert "skim: 2 done, 1 new" in told[-1]
