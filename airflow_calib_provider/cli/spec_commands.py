"""``calib spec``: checking YAML files, and writing their DAG stubs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import SPECS, Json, Specs, examples

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_calib_provider.api import CheckedDag

app = typer.Typer(help="Workflows' YAML files.", no_args_is_help=True)

STUB = '''"""Airflow DAGs of {spec}; `calib spec stubs` writes this file."""

from airflow_calib_provider.dags.factory import workflow_dags

globals().update(workflow_dags(__file__{argument}))
'''

SYSTEM_STUB = '''"""The Airflow DAGs calib_inject, calib_housekeeping and calib_mirror."""

from airflow_calib_provider.dags.system import system_dags

globals().update(system_dags(__file__{argument}))
'''

PROBLEMS_STUB = '''"""What is wrong with the YAML files, as the import error of this file, which has no DAGs."""

from airflow_calib_provider.dags.problems import report_problems

report_problems(__file__{argument})
'''

OUR_IMPORT = "from airflow_calib_provider.dags."


@app.command(
    epilog=examples("calib spec check", "calib spec check workflow_specs/zee.yaml", "calib spec check --strict")
)
def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="A folder, or files; ./workflow_specs if left out.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 if there are warnings, too.")] = False,
    as_json: Json = False,
) -> None:
    """Check YAML files, and show what they become in Airflow.

    All mistakes are shown at once, each as file:line:column: what; expected; hint. Exit code 2 if there are any.

    A folder is also checked across its files; a file alone is not. A file of boundaries that a grouping names is
    read, too.

    Files of run sources and programs that are not on this machine are warnings: they may be on another one. So are
    files that look like specs and are not read: only *.yaml in the folder itself are.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.errors import SpecErrors

    found = api.check_specs(paths or [SPECS])
    if found.mistakes or (found.warnings and strict):
        raise SpecErrors(found.mistakes or found.warnings)
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    _show(found.dags, as_json)


def _show(dags: Sequence[CheckedDag], as_json: bool) -> None:
    from airflow_calib_provider.cli.output import emit_json, table
    from airflow_calib_provider.cli.root import mistake

    if as_json:
        emit_json([{**vars(dag), "warnings": [mistake(error) for error in dag.warnings]} for dag in dags])
        return
    heads = ["workflow", "DAG", "grouping", "tasks", "run source", "file"]
    rows = [[dag.workflow, dag.dag_id, dag.grouping, ", ".join(dag.tasks), dag.source, dag.file] for dag in dags]
    table(heads, rows, empty="no workflows there")


@app.command(
    epilog=examples("calib spec stubs", "calib spec stubs --check", "calib spec stubs --specs specs --dags dags")
)
def stubs(
    specs: Specs = SPECS,
    dags: Annotated[Path, typer.Option("--dags", help="Airflow's folder of DAG files.", metavar="FOLDER")] = Path(
        "dags"
    ),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if anything would change.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files of these names that are not ours.")] = False,
    as_json: Json = False,
) -> None:
    """Write the three-line file that Airflow needs for each workflow, calib_system.py and calib_problems.py.

    Files that are as they should be are not touched; a file of the same name that is not such a stub is never
    overwritten without --force. A stub whose workflow was renamed or deleted is named, and never removed.
    """
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import CalibError

    wanted = _wanted(specs, dags)
    changed = {file: text for file, text in wanted.items() if not file.exists() or file.read_bytes() != text.encode()}
    foreign = [file for file in changed if file.exists() and OUR_IMPORT.encode() not in file.read_bytes()]
    if foreign and not force:
        names = ", ".join(map(str, foreign))
        raise CalibError(f"not a stub of ours: {names}; nothing was written", "move it away, or use --force")
    dead = _dead(specs, dags, wanted)
    if not check:
        dags.mkdir(parents=True, exist_ok=True)
        for file, text in changed.items():
            file.write_text(text, "utf-8")
    if as_json:
        found = {"changed": changed, "dead": dead, "files": wanted}
        emit_json({**{name: [str(file) for file in files] for name, files in found.items()}, "written": not check})
    else:
        for file in dead:
            print(f"warning: {file} is a stub of no workflow any more; remove it", file=sys.stderr)
        for file in changed:
            print(f"{file}: {'would be written' if check else 'written'}")
        if not changed and not dead:
            print(f"{len(wanted)} stubs are as they should be")
    if check and (changed or dead):
        raise typer.Exit(1)


def _dead(specs: Path, dags: Path, wanted: Collection[Path]) -> list[Path]:
    """Stubs of this folder's specs that belong to no workflow, such as after one was renamed or deleted."""
    import os
    import re

    dead, home = [], Path(os.path.realpath(specs))
    for file in sorted(dags.glob("*.py")) if dags.is_dir() else ():
        text = "" if file in wanted or not file.is_file() else file.read_text("utf-8", errors="replace")
        if f"{OUR_IMPORT}factory import workflow_dags" not in text:
            continue
        named = re.search(r"workflow_dags\(__file__(?:, *\"([^\"]*)\")?\)", text)
        if named is None:
            continue
        spec = Path(os.path.realpath(dags / (named[1] or f"../workflow_specs/{file.stem}.yaml")))
        if not spec.is_file() or spec.parent == home:
            dead.append(file)
    return dead


@app.command(name="schema", epilog=examples("calib spec schema > workflow_specs/calib-v1.schema.json"))
def print_schema(as_json: Json = False) -> None:
    """Print the JSON Schema of workflows and sources, from which editors check and complete.

    A YAML file names it in its first line: # yaml-language-server: $schema=calib-v1.schema.json
    """
    from airflow_calib_provider.spec.schema import schema_text

    print(schema_text(), end="")


def _wanted(specs: Path, dags: Path) -> dict[Path, str]:
    from airflow_calib_provider.api.checking import load_specs
    from airflow_calib_provider.errors import SpecErrors

    workflows, mistakes = load_specs([specs])
    if mistakes:
        raise SpecErrors(mistakes)
    return stub_texts({workflow.name: Path(workflow.file) for workflow in workflows.values()}, specs, dags)


def stub_texts(workflows: Mapping[str, Path], specs: Path, dags: Path) -> dict[Path, str]:
    """The stubs of workflows, and the two that every folder of specs has.

    :param workflows: name → YAML file.
    """
    wanted = {}
    for name, file in workflows.items():
        spec = _relative(file, dags)
        usual = spec == f"../workflow_specs/{name}.yaml"
        wanted[dags / f"{name}.py"] = STUB.format(spec=spec, argument="" if usual else f", {_quoted(spec)}")
    folder = _relative(specs, dags)
    argument = "" if folder == "../workflow_specs" else f", {_quoted(folder)}"
    wanted[dags / "calib_system.py"] = SYSTEM_STUB.format(argument=argument)
    wanted[dags / "calib_problems.py"] = PROBLEMS_STUB.format(argument=argument)
    return wanted


def _relative(path: Path, folder: Path) -> str:
    import os

    return Path(os.path.relpath(os.path.realpath(path), os.path.realpath(folder))).as_posix()


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)
