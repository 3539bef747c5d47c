"""``calib explain``: why something does not move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_calib_provider.cli.common import (
    PROMPT,
    SPECS,
    Campaign,
    Json,
    SourceName,
    Specs,
    TaskName,
    WorkflowName,
    examples,
    open_ledger,
    run_number,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_calib_provider.domain.reasons import Cause


def register(app: typer.Typer) -> None:
    """Add ``calib explain``."""
    app.command(
        epilog=examples(
            "calib explain 355872",
            "calib explain fill-r355872 --task scale",
            "calib explain run-r7 --no-airflow --json",
        )
    )(explain)


def explain(
    what: Annotated[str, typer.Argument(metavar="RUN|GROUP", help="A run number, or a group such as fill-r355872.")],
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    task: TaskName = None,
    source: SourceName = None,
    specs: Specs = SPECS,
    ask_airflow: Annotated[bool, typer.Option("--airflow/--no-airflow", help="Ask Airflow, too.")] = True,
    as_json: Json = False,
) -> None:
    """Say why a run or a group does not move: every cause, since when, what would release it, and who looked last.

    The ledger is asked first, then Airflow (CALIB_AIRFLOW_URL) about paused DAGs, full pools, components that are down.
    """
    from airflow_calib_provider.api.explaining import explained
    from airflow_calib_provider.cli.output import emit_json

    run = run_number(what)
    named: dict[str, Any] = {"campaign": campaign, "workflow": workflow, "task": task, "source": source}
    found = explained(open_ledger(), what if run is None else run, specs=specs, ask_airflow=ask_airflow, **named)
    causes = found.causes
    life = found.life if task is None else ""
    if as_json:
        said = {"life": life} if run is None else {}
        emit_json({"what": what, "campaign": campaign, "causes": [_as_dict(cause) for cause in causes], **said})
    else:
        _show(causes)
        if life:
            print(life)


def _as_dict(cause: Cause) -> dict[str, object]:
    return {**vars(cause), "code": cause.code, "text": cause.text, "release": cause.release}


def _show(causes: Sequence[Cause]) -> None:
    from rich.text import Text

    from airflow_calib_provider.cli.output import COLOURS, console, printable, shown

    screen = console()
    if not causes:
        screen.print("nothing is known about it that would hold it")
    for cause in causes:
        screen.print(Text.assemble((cause.about, "bold"), ": ", (cause.state, COLOURS.get(cause.state, ""))))
        screen.print(f"  {printable(cause.text)}")
        details = (
            ("since", shown(cause.since)),
            ("released by", cause.release),
            ("last looked at", shown(cause.looked_at)),
        )
        for name, text in details:
            if text:
                screen.print(Text(f"  {name}: {text}", style="dim"))
        for line in cause.asked:
            screen.print(Text(f"  asked elsewhere: {printable(line)}", style="dim"))
