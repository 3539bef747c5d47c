"""Other packages that make DAGs of YAML files: installed apart, over the Airflow that is installed here."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.parsing.making import TASKS
from tests.cache import cache_folder

INSTALL_SECONDS = 900

FACTORY_STUB = """\
from dagfactory import load_yaml_dags

load_yaml_dags(globals_dict=globals(), config_filepath={file!r})
"""

BLUEPRINT = '''\
"""The one template of all steps: the operator of the plain DAGs."""
from airflow.sdk import BaseOperator
from blueprint import BaseModel, Blueprint


class StepConfig(BaseModel):
    command: list[str]


class Step(Blueprint[StepConfig]):
    def render(self, config):
        return BaseOperator(task_id=self.step_id)
'''
BLUEPRINT_STUB = """\
from blueprint import build_all_airflow_dags

build_all_airflow_dags(search_path={folder!r})
"""
"""It finds all YAML files of a folder itself: one stub for all of them is its way."""


@dataclass(frozen=True)
class Peer:
    """A package, and how it is given as many DAGs with as many tasks.

    :ivar write: makes the files of so many DAGs in a folder, and gives their stubs.
    """

    package: str
    version: str
    write: Callable[[Path, int], list[Path]]

    @property
    def environment(self) -> Path:
        """Where it is installed, apart from all others."""
        return cache_folder() / "peers" / self.package

    @property
    def python(self) -> Path:
        """The interpreter that has it."""
        return self.environment / "bin" / "python"

    def install(self) -> str:
        """Install it if it is not; why that failed, or nothing."""
        done = self.environment / ".installed"
        wanted = f"{self.package}=={self.version} over {sysconfig.get_path('purelib')}"
        if done.exists() and done.read_text() == wanted:
            return ""
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(self.environment)],
            [str(self.python), "-c", _SEES_OURS, sysconfig.get_path("purelib")],
            [*pip, f"{self.package}=={self.version}"],
        ):
            try:
                ran = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"cannot be installed: {error}"
            if ran.returncode:
                return f"cannot be installed: {(ran.stderr.strip().splitlines() or ['nothing said'])[-1]}"
        done.write_text(wanted)
        return ""


_SEES_OURS = """
import pathlib, sys, sysconfig
line = f"import site; site.addsitedir({sys.argv[1]!r})"
pathlib.Path(sysconfig.get_path("purelib"), "airflow.pth").write_text(line)
"""
"""The Airflow that is installed here is found after what the peer brings."""


def _write_factory(folder: Path, count: int) -> list[Path]:
    stubs = []
    for number in range(count):
        lines = [
            f"f{number}:",
            "  default_args: {owner: airflow, start_date: 2020-01-01}",
            "  schedule: null",
            "  tasks:",
        ]
        for task in range(TASKS):
            lines += [f"    - task_id: t{task}", "      operator: airflow.sdk.BaseOperator"]
            lines += [f"      dependencies: [t{task - 1}]"] if task else []
        file, stub = folder / f"f{number}.yaml", folder / f"f{number}.py"
        file.write_text("\n".join(lines) + "\n")
        stub.write_text(FACTORY_STUB.format(file=str(file)))
        stubs.append(stub)
    return stubs


def _write_blueprint(folder: Path, count: int) -> list[Path]:
    (folder / "step_blueprint.py").write_text(BLUEPRINT)
    for number in range(count):
        lines = [f"dag_id: b{number}", "schedule: null", "steps:"]
        for task in range(TASKS):
            needs = f", depends_on: [t{task - 1}]" if task else ""
            lines.append(f"  t{task}: {{blueprint: step, command: [fit]{needs}}}")
        (folder / f"b{number}.dag.yaml").write_text("\n".join(lines) + "\n")
    stub = folder / "loader.py"
    stub.write_text(BLUEPRINT_STUB.format(folder=str(folder)))
    return [stub]


PEERS = (
    Peer("dag-factory", "1.1.0", _write_factory),
    Peer("airflow-blueprint", "0.5.0", _write_blueprint),
)
