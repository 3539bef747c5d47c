"""The tutorials are true: their files are written, their commands run, and they say what the page shows.

On a page:

* a fence with ``yaml``, ``sh`` or ``csv`` is a file; the line before it names it;
* ``console`` is run here: lines with ``$`` are commands, the others what they print; ``…`` stands for anything inside
  its line, a line of it alone for any lines: nothing is shortened in silence;
* ``text`` needs Airflow, and is not run;
* ``<!-- airflow: inject -->``, ``clear GROUP`` and ``work`` say what Airflow does meanwhile; see :class:`StandIn`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import processes
from tests.docs.stand_in import StandIn

TOP = Path(__file__).parents[2]
PAGE, REPROCESSING = (TOP / "docs" / f"{name}.md" for name in ("tutorial", "reprocessing"))
PAGES = pytest.mark.parametrize("page", [PAGE, REPROCESSING], ids=lambda page: page.stem)
FENCE = re.compile(
    r"^(?:`(?P<title>\S+)`:\n\n?)?```(?P<kind>\w+)\n(?P<text>.*?)^```$|^<!-- airflow: (?P<act>.*?) -->$", re.M | re.S
)
CALIB = "#!/bin/sh\nexec {} -c 'from airflow_calib_provider.cli import main; main()' \"$@\"\n"


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Kind (a file's name for files, ``console``, ``text``, ``airflow``) and content of what is on the page."""
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        kind, text = match["kind"], match["text"]
        if match["act"]:
            yield "airflow", match["act"]
        elif kind in ("yaml", "sh", "csv"):
            assert match["title"], f"a file without a name: {text[:60]}"
            yield match["title"], text
        else:
            yield kind, text


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block with the output that is shown."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def says(shown: str, said: str) -> bool:
    """Whether an output is as shown; columns may be wider."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else ".*?".join(map(re.escape, line.split("…"))) + r"\n" for line in _plain(shown)
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _plain(said))) is not None


def _plain(text: str) -> list[str]:
    """The lines without white space and the rules of tables, whose widths do not matter."""
    return [plain for line in text.splitlines() if (plain := re.sub(r"[\s─]+", "", line))]


@pytest.mark.parametrize(
    ("shown", "fits"),
    [
        ("a: 1\nb: 2\n", True),
        ("a:  …\nb: 2\n", True),
        ("a: 1\n…\n", True),
        ("…\nb: 2\n", True),
        ("a: …\n", False),
        ("a: 1\n", False),
        ("a: 1\n…\nb: 3\n", False),
    ],
)
def test_what_is_left_out_must_be_marked(shown: str, fits: bool) -> None:
    assert says(shown, "a: 1\n───\nb: 2\n") is fits


@PAGES
def test_every_kind_of_block_is_known(page: Path) -> None:
    kinds = {kind for kind, _ in blocks(page) if "." not in kind}
    assert kinds == {"console", "text", "airflow"}


@PAGES
def test_commands_that_need_airflow_are_not_shown_as_run(page: Path) -> None:
    run = [command for kind, text in blocks(page) if kind == "console" for command, _ in commands(text)]
    assert run
    assert not [command for command in run if re.match(r"airflow|make|calib retry", command)]


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_blocks_that_need_airflow_work_in_any_folder(tmp_path: Path, shell: str) -> None:
    """Programs are stood in for: what matters is what the shell makes of the lines."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    home = tmp_path / "it's a try"
    programs = tmp_path / "bin"
    for folder in (home, programs, home / "pedestals" / "airflow"):
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("airflow", "calib"):
        (programs / name).write_text('#!/bin/sh\necho "$PWD|$CALIB_HOME|$*"\n')
        (programs / name).chmod(0o755)
    (home / "pedestals" / "airflow" / "environment").write_text("export CALIB_HOME=said\n")
    said = []
    for text in (text for kind, text in blocks(PAGE) if kind == "text"):
        script = text.replace("PATH/TO/", f"{shlex.quote(str(home))}/").replace("mkdir pedestals", "mkdir -p pedestals")
        where = home if "cd " in text else home / "pedestals"
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [shell, "-euc", f'{script}\necho "$PWD|$CALIB_HOME"'],
            cwd=where, env={"PATH": path, "CALIB_HOME": "none"}, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), text
        said += done.stdout.splitlines()
    inside = home / "pedestals"
    assert said[0] == f"{inside}|{inside / 'calib'}"
    assert all(line.startswith(f"{inside}|") for line in said)
    assert f"{inside}|said|dags trigger calib_inject" in said


def given(command: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a command; one of ours alone needs no shell, and begins at once."""
    words = shlex.split(command)
    if words[0] == "calib" and shlex.join(words) == command.replace('"', "'"):
        return processes.calib(*words[1:])
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60)


@PAGES
@pytest.mark.timeout(300)
def test_the_tutorial_is_true(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "it's a try" / "pedestals"
    home.mkdir(parents=True)
    program = tmp_path / "bin" / "calib"
    program.parent.mkdir()
    program.write_text(CALIB.format(shlex.quote(sys.executable)))
    program.chmod(0o755)
    for name in [name for name in os.environ if name.startswith(("CALIB_", "AIRFLOW"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    monkeypatch.setenv("CALIB_HOME", str(home / "calib"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(home)
    airflow: StandIn | None = None
    told = []
    for kind, text in blocks(page):
        if kind == "airflow":
            airflow = airflow or StandIn(home / "workflow_specs")
            act, *about = text.split()
            {"inject": airflow.inject, "work": airflow.work, "clear": airflow.clear}[act](*about)
        elif kind == "console":
            for command, shown in commands(text):
                done = given(command)
                told.append(f"$ {command}\n{done.stdout}{done.stderr}")
                expected = 2 if "unknown variable" in shown else 0
                assert done.returncode == expected, "\n".join(told)
                assert says(shown, done.stdout + done.stderr), (
                    f"{command} says\n{done.stdout}{done.stderr}\nnot\n{shown}"
                )
        elif "." in kind:
            (home / kind).parent.mkdir(parents=True, exist_ok=True)
            (home / kind).write_text(text, encoding="utf-8")
            if text.startswith("#!"):
                (home / kind).chmod(0o755)
