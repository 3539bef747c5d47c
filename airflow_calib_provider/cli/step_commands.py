"""``calib steps``: how an iteration comes closer, or does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_calib_provider.cli.common import (
    PROMPT,
    Campaign,
    Json,
    SourceName,
    TaskName,
    WorkflowName,
    examples,
    open_ledger,
    run_number,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_calib_provider.api import StepRecord


def register(app: typer.Typer) -> None:
    """Add ``calib steps``."""
    app.command(
        "steps",
        epilog=examples(
            "calib steps fill-r355872",
            "calib steps 355872 --task scale --plot convergence.png",
            "calib steps fill-r355872 --json",
        ),
    )(show_steps)


def show_steps(
    what: Annotated[str, typer.Argument(metavar="RUN|GROUP", help="A group such as fill-r355872, or a run of it.")],
    task: TaskName = None,
    generation: Annotated[
        int | None, typer.Option("--generation", "-g", min=1, help="Of an older generation; else the latest.")
    ] = None,
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    source: SourceName = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw the metrics over the steps (.png, .pdf, .svg).", metavar="FILE"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the steps of a task that iterates: what was measured, how far from its target, how each phase ended."""
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.cli.plotting import require_matplotlib

    if plot is not None:
        require_matplotlib()
    run = run_number(what)
    named: dict[str, Any] = {"task": task, "campaign": campaign, "workflow": workflow, "source": source}
    found = api.steps_made(open_ledger(), what if run is None else run, generation=generation, **named)
    if plot is not None:
        from airflow_calib_provider.cli.step_plot import plot_steps

        plot_steps(found, plot)
    if as_json:
        emit_json([_as_json(one) for one in found])
        return
    _show(found)
    if plot is not None:
        print(f"drawn into {plot}")


def _as_json(item: StepRecord) -> dict[str, object]:
    return {**vars(item), "metrics": {name: vars(one) for name, one in item.metrics.items()}}


def _show(found: Sequence[StepRecord]) -> None:
    from airflow_calib_provider.cli.output import table
    from airflow_calib_provider.domain.reasons import render

    stages = len({one.stage for one in found}) > 1
    rows = [
        [
            item.n,
            *([item.stage] if stages else []),
            item.phase,
            item.visit,
            item.state,
            _results(item),
            "" if item.events is None else item.events,
            "; ".join(_metric(name, item) for name in item.metrics) or item.fault,
            item.ending,
        ]
        for item in found
    ]
    heads = ["phase", "visit", "state", "results", "events", "metrics", "ending"]
    table(["step", *(["stage"] if stages else []), *heads], rows, empty="no steps")
    last = next((one for one in reversed(found) if one.ending and one.state != "discarded"), None)
    if last is not None:
        print(render(last.reason))


def _results(item: StepRecord) -> str:
    if item.accepted is None:
        return f"{item.succeeded} of {item.n_jobs}"
    return f"{item.accepted} of {item.n_jobs}"


def _metric(name: str, item: StepRecord) -> str:
    from airflow_calib_provider.domain.iteration.words import tolerances

    one = item.metrics[name]
    error = f" ± {one.error:.2g}" if one.error is not None else ""
    off = f" ({tolerances(one.deviation, '+.{}f', 2)} tolerances)" if one.deviation is not None else ""
    return f"{name} {one.value:.6g}{error}{off}"
