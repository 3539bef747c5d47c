"""``calib spec``: checking YAML files, and writing their DAG stubs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_calib_provider.cli.common import SPECS, Json, Specs, examples

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_calib_provider.cli.spec_warnings import Warned
    from airflow_calib_provider.errors import SpecError
    from airflow_calib_provider.spec.models import Workflow

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
    from airflow_calib_provider.cli.spec_data import mistakes_in_data
    from airflow_calib_provider.cli.spec_warnings import warnings_of
    from airflow_calib_provider.errors import SpecErrors

    wanted = paths or [SPECS]
    workflows, mistakes = _load(wanted)
    mistakes += mistakes_in_data(workflows.values())
    mistakes += [_nothing_there(path) for path in wanted if path.is_dir() and not _workflow_files(path)]
    if mistakes:
        raise SpecErrors(mistakes)
    warnings = warnings_of(wanted, workflows)
    if warnings and strict:
        raise SpecErrors([item.error for item in warnings])
    for item in warnings:
        print(f"warning: {item.error}", file=sys.stderr)
    _show(workflows, warnings, as_json)


def _workflow_files(folder: Path) -> list[Path]:
    from airflow_calib_provider.spec.known import workflow_files

    return workflow_files(folder)


def _nothing_there(folder: Path) -> SpecError:
    from airflow_calib_provider.errors import Place, SpecError

    others = sorted(file.name for file in folder.glob("*.yml"))
    hint = f"rename {', '.join(others)}: their names must end in .yaml" if others else "name another folder"
    return SpecError("there are no workflows", Place(folder), expected="expected files *.yaml", suggestion=hint)


def _load(paths: Sequence[Path]) -> tuple[dict[str, Workflow], list[SpecError]]:
    from airflow_calib_provider.errors import Place, SpecError, SpecErrors, told_once
    from airflow_calib_provider.spec.language import MESSAGES_FILE
    from airflow_calib_provider.spec.loader import load_categories, load_folder, load_sources, load_workflow
    from airflow_calib_provider.spec.messages_file import load_messages

    workflows: dict[str, Workflow] = {}
    mistakes: list[SpecError] = []
    for path in paths:
        if not path.exists():
            mistakes.append(SpecError("there is no such file or folder", Place(path), suggestion="name another one"))
            continue
        try:
            if path.is_dir():
                loaded, errors = load_folder(path)
                workflows |= loaded
                mistakes += errors
                if (path / MESSAGES_FILE).is_file():
                    load_messages(path / MESSAGES_FILE)
            elif path.name == "sources.yaml":
                load_sources(path)
            elif path.name == "categories.yaml":
                load_categories(path)
            elif path.name == MESSAGES_FILE:
                load_messages(path)
            else:
                workflow = load_workflow(path)
                workflows[workflow.name] = workflow
        except SpecErrors as error:
            mistakes += error.errors
        except SpecError as error:
            mistakes.append(error)
    return workflows, told_once(list({str(error): error for error in mistakes}.values()))


def _show(workflows: Mapping[str, Workflow], warnings: Sequence[Warned], as_json: bool) -> None:
    from airflow_calib_provider.cli.output import emit_json, table
    from airflow_calib_provider.cli.root import mistake

    lines: list[dict[str, Any]] = [
        {
            "workflow": workflow.name,
            "dag_id": workflow.dag_id(grouping),
            "grouping": grouping,
            "kind": str(policy.kind),
            "tasks": [task.name for task in workflow.tasks_of(grouping)],
            "source": workflow.runs.source,
            "file": workflow.file,
            "hash": workflow.hash,
            "warnings": [mistake(item.error) for item in warnings if item.concerns(workflow, grouping)],
        }
        for workflow in workflows.values()
        for grouping, policy in workflow.groupings().items()
    ]
    if as_json:
        emit_json(lines)
        return
    names = ("workflow", "dag_id", "grouping", "tasks", "source", "file")
    rows = [[", ".join(line["tasks"]) if name == "tasks" else line[name] for name in names] for line in lines]
    table(["workflow", "DAG", "grouping", "tasks", "run source", "file"], rows, empty="no workflows there")


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
    from airflow_calib_provider.errors import SpecErrors

    workflows, mistakes = _load([specs])
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
