"""The command line as a process: what it imports, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.world import World, row

CALIB = [sys.executable, "-c", "from airflow_calib_provider.cli import main; main()"]
HEAVY = ("airflow", "sqlalchemy", "pydantic", "alembic", "httpx", "yaml", "jinja2", "cel_expr_python", "numpy")


def loaded(code: str) -> set[str]:
    """Top-level modules after running this code in a fresh Python."""
    listing = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_it_imports_next_to_nothing() -> None:
    assert not loaded("import airflow_calib_provider.cli") & {*HEAVY, "typer", "rich"}


def test_its_commands_import_nothing_heavy_before_they_run() -> None:
    assert not loaded("import airflow_calib_provider.cli.app") & set(HEAVY)


def test_no_command_imports_airflow(world: World) -> None:
    world.inject(row(2))
    code = "import sys\nfrom typer.testing import CliRunner\nfrom airflow_calib_provider.cli.app import app\n"
    for line in ("status", "explain 2", "spec check", "runs list", "payload list", "campaign list"):
        code += f"result = CliRunner().invoke(app, {line.split()!r})\nassert result.exit_code == 0, result.output\n"
    assert "airflow" not in loaded(code)


def test_what_reads_only_the_ledger_imports_no_spec_language(world: World, tmp_path: Path) -> None:
    world.inject(row(2))
    code = "import os, sys\nfrom typer.testing import CliRunner\nfrom airflow_calib_provider.cli.app import app\n"
    code += f"os.chdir({str(tmp_path)!r})\n"
    for line in ("status", "explain 2", "runs list", "payload list", "campaign list", "groups"):
        code += f"result = CliRunner().invoke(app, {line.split()!r})\nassert result.exit_code == 0, result.output\n"
    code += "print(*(name.replace('.', '_') for name in sys.modules if name.startswith('airflow_calib')), sep='\\n')"
    found = loaded(code)
    assert found & {"alembic", "yaml", "jinja2", "cel_expr_python", "httpx", "airflow"} == set()
    readers = ("spec_loader", "spec_positions", "spec_cache", "injection_serving")
    assert found & {f"airflow_calib_provider_{name}" for name in readers} == set()
    assert "sqlalchemy" in found


def test_help_comes_quickly() -> None:
    begun = time.monotonic()
    done = subprocess.run([*CALIB, "--help"], capture_output=True, text=True, check=True)
    # Generous: it takes a third of a second where nothing else runs; importing Airflow alone takes four.
    assert time.monotonic() - begun < 20
    assert "explain" in done.stdout


def test_a_reader_that_goes_away(world: World) -> None:
    world.inject(*(row(number) for number in range(2, 48)))
    process = subprocess.Popen(
        [*CALIB, "runs", "list", "--last", "0", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def _ended(redirected: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    command = ["sh", "-c", f'exec "$@" {redirected}', "sh", *CALIB, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("line", ["status", "status --json"])
def test_a_closed_output_is_no_trouble(line: str, world: World) -> None:
    world.inject(row(2))
    assert _ended(">&-", *line.split()) == (0, "", "")
    assert _ended(">&- 2>&- <&-", *line.split()) == (0, "", "")


def test_an_error_on_a_closed_stream_goes_to_no_other(world: World) -> None:
    assert _ended("2>&-", "explain", "nothing") == (1, "", "")


@pytest.mark.parametrize("line", ["status", "status --json"])
def test_a_full_disk_is_said_without_a_traceback(line: str, world: World) -> None:
    world.inject(row(2))
    code, _, error = _ended(">/dev/full", *line.split())
    assert (code, error) == (1, "error: the system: No space left on device\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_has_not_all_letters(encoding: str, world: World) -> None:
    world.inject(row(2))
    for line in ("status", "--help", "explain →"):
        command = [*CALIB, *line.split()]
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert b"Traceback" not in done.stderr
        assert done.returncode == (line == "explain →")


def test_control_c(world: World) -> None:
    code = (
        "import time, airflow_calib_provider.ledger.queries as queries\n"
        "def slow(*_, **__):\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "queries.campaigns_listed = slow\n"
        "from airflow_calib_provider.cli import main\nmain()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "campaign", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets its background jobs ignore Ctrl-C, and so would all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in stderr


def test_a_working_directory_that_was_deleted_is_named(tmp_path: Path, world: World) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = [
        "sh",
        "-c",
        f'cd {gone} && rmdir {gone} && exec "$@"',
        "sh",
        *CALIB,
        "spec",
        "stubs",
        "--specs",
        str(world.specs),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ("error: the working directory does not exist any more\nhint: change to one that does: cd\n")
