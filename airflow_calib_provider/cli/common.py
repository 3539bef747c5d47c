"""Options that several commands share, and how they come to a ledger and to specs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.spec.models import RunSource, Workflow

Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output, and nothing else.")]
Campaign = Annotated[str, typer.Option("--campaign", "-c", help="The campaign.", metavar="NAME")]
WorkflowName = Annotated[str | None, typer.Option("--workflow", "-w", help="Only this workflow.", metavar="NAME")]
TaskName = Annotated[str | None, typer.Option("--task", "-t", help="Only this task.", metavar="NAME")]
SourceName = Annotated[
    str | None, typer.Option("--source", "-S", help="Only runs of this source; needed where several have it.")
]
State = Annotated[str | None, typer.Option("--state", "-s", help="Only this state.", metavar="STATE")]
Specs = Annotated[Path, typer.Option("--specs", help="Folder of the YAML files.", metavar="FOLDER")]

Runs = Annotated[
    str | None, typer.Option("--runs", help="Only groups that hold any of these: ranges and numbers.", metavar="RUNS")
]

LIST = "list"
"""The command of a group that lists what it is about."""

MAX_LINES = 2**31 - 1

SPECS = Path("workflow_specs")
PROMPT = "prompt"


def examples(*lines: str) -> str:
    """The epilog of a command's help."""
    return "Examples:\n\n" + "\n\n".join(lines)


def open_ledger(url: str | None = None) -> Ledger:
    """The ledger, checked.

    :raises LedgerError: it is not there, or its version does not fit.
    """
    from airflow_calib_provider.ledger import schema

    return schema.opened(url)


def existing_names(
    ledger: Ledger,
    campaign: str,
    workflow: str | None = None,
    task: str | None = None,
    specs: Mapping[str, Workflow] | None = None,
    *,
    source: str | None = None,
) -> None:
    """Refuse names that nothing has: a list filtered by them would be empty, and read like an answer.

    :param specs: workflows that count as known, too.
    :raises NotFound: there is no such campaign, workflow, task or source.
    """
    from airflow_calib_provider.ledger import campaigns, names
    from airflow_calib_provider.ledger.sources import check_source

    also = dict(specs or {})
    concerned = [item for name, item in also.items() if workflow in (None, name)]
    with ledger.read() as connection:
        campaigns.get(connection, campaign)
        names.check_workflow(connection, workflow, also)
        check_source(connection, source)
        names.check_task(connection, workflow, task, {name for item in concerned for name in item.tasks})


def existing_state(state: str | None, known: Sequence[str]) -> None:
    """:raises typer.BadParameter: there is no such state."""
    if state is None or state in known:
        return
    from airflow_calib_provider.spec.problems import nearest

    said = (f"{state!r} is no state", f"choose one of {', '.join(known)}", nearest(state, known))
    raise typer.BadParameter("; ".join(part for part in said if part), param_hint="--state")


def source_named(folder: Path, name: str) -> RunSource:
    """A run source of ``sources.yaml``.

    :raises NotFound: it is not there.
    """
    from airflow_calib_provider.errors import NotFound
    from airflow_calib_provider.spec.loader import load_sources

    file = folder / "sources.yaml"
    if not file.is_file():
        raise NotFound(f"there is no file {file}", "name the folder of the YAML files with --specs")
    sources = load_sources(file)
    if name not in sources:
        raise NotFound(f"{file} has no run source {name}", f"it has {', '.join(sorted(sources)) or 'none'}")
    return sources[name]


def run_number(text: str) -> int | None:
    """The run that is meant; ``None``: it is no number, hence the name of a group.

    :raises CommandLineError: no run has such a number.
    """
    from airflow_calib_provider.domain.run import MAX_RUN_NUMBER
    from airflow_calib_provider.errors import CommandLineError

    if not (text.isascii() and text.isdecimal()):
        return None
    if len(text.lstrip("0")) > len(str(MAX_RUN_NUMBER)) or int(text) > MAX_RUN_NUMBER:
        raise CommandLineError(f"no run has the number {text[:40]}", f"the largest possible one is {MAX_RUN_NUMBER}")
    return int(text)


def run_ranges(text: str | None) -> list[tuple[int, int]]:
    """``"100-200,205"`` as pairs, both ends inclusive; nothing where it is left out.

    :raises CalibError: it is something else.
    """
    from airflow_calib_provider.domain.run_ranges import parse_ranges

    return list(parse_ranges(text).ranges) if text is not None else []


def person() -> str:
    """Who gives the command: the user's name, or number where the system knows no name for it."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
