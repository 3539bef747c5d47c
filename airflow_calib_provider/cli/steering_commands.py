"""``calib skip`` and ``calib retry`` (rule 20)."""

from __future__ import annotations

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
    person,
    run_number,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


FromStep = Annotated[
    int | None,
    typer.Option("--from-step", min=1, help="Of what iterates: this step and all after it are made anew."),
]
FromPhase = Annotated[
    str | None,
    typer.Option("--from-phase", help="Of what iterates: from this phase on; STAGE.PHASE if several have it."),
]


def register(app: typer.Typer) -> None:
    """Add the commands that change what is to be processed."""
    app.command(
        epilog=examples(
            'calib skip 355872 --reason "magnet off"',
            'calib skip fill-r355872 --task scale --reason "no laser data"',
            'calib skip 7 --workflow zee --campaign rereco --reason "corrupt file"',
        )
    )(skip)
    app.command(
        epilog=examples(
            "calib retry run-r355872",
            "calib retry fill-r7 --task scale",
            "calib retry fill-r7 --task fit --no-downstream",
            "calib retry fill-r7 --same-version",
            "calib retry fill-r7 --task scale --from-step 12",
        )
    )(retry)


def skip(
    what: Annotated[str, typer.Argument(metavar="RUN|GROUP", help="A run number, or a group: all of its runs.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded in every payload made without the run.")],
    task: TaskName = None,
    workflow: WorkflowName = None,
    source: SourceName = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Take a run out of what its groups wait for, and let the horizon pass it.

    Without --workflow a run is skipped in every workflow of its source. A skip cannot be taken back; it satisfies no
    lock.
    """
    from airflow_calib_provider.api.deciding import skip_runs
    from airflow_calib_provider.cli.output import emit_json

    run, who = run_number(what), person()
    named: dict[str, Any] = {"campaign": campaign, "workflow": workflow, "task": task, "source": source}
    found = skip_runs(open_ledger(), what if run is None else run, reason=reason, person=who, **named)
    if as_json:
        skipped = [vars(item) for item in found]
        emit_json({"campaign": campaign, "reason": reason.strip(), "person": who, "skipped": skipped})
        return
    for item in found:
        where = f"{item.workflow}.{task}" if task else item.workflow
        listed = ", ".join(map(str, item.runs))
        print(f"{where}: skipped {listed}" if listed else f"{where}: was skipped already")
        for note in item.notes:
            print(f"  note: {note}")


def retry(
    group: Annotated[str, typer.Argument(help="The group, such as fill-r355872.")],
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="This task (repeatable); else all that cannot go on.")
    ] = None,
    downstream: Annotated[
        bool, typer.Option("--downstream/--no-downstream", help="Also what comes after it in its DAG run.")
    ] = True,
    every_job: Annotated[bool, typer.Option("--all", help="Every job, also those that are done.")] = False,
    from_step: FromStep = None,
    from_phase: FromPhase = None,
    same_version: Annotated[
        bool, typer.Option("--same-version", help="The spec and the code of before, not the newest commit.")
    ] = False,
    workflow: WorkflowName = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Run tasks of a group again, by clearing them in Airflow.

    A failed job set is continued with the jobs that are not done; one that is done starts anew. What has to run before
    them is cleared too: sensors that have failed, or that a person marked as success too early, and tasks that are not
    done. A task that was added to the workflow since is added to the DAG run. The newest
    commit is run. Where Airflow cannot be reached nothing changes. Needs CALIB_AIRFLOW_URL.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    _refuse_contradictions(task or [], every_job, same_version, from_step, from_phase)
    found = api.retry_group(
        open_ledger(),
        group,
        tasks=task or [],
        downstream=downstream,
        every_job=every_job,
        same_version=same_version,
        from_step=from_step,
        from_phase=from_phase,
        campaign=campaign,
        workflow=workflow,
    )
    if as_json:
        emit_json(vars(found))
    else:
        print(f"cleared in the DAG run {found.run_id} of {found.dag_id}: {', '.join(found.cleared) or 'nothing'}")
        if found.discarded:
            print(f"steps that are made anew, and stay listed as discarded: {', '.join(map(str, found.discarded))}")


def _refuse_contradictions(
    tasks: Sequence[str], every_job: bool, same_version: bool, step: int | None, phase: str | None
) -> None:
    if every_job and same_version:
        raise typer.BadParameter("--all and --same-version exclude each other", param_hint="--same-version")
    if step is not None and phase is not None:
        raise typer.BadParameter("--from-step and --from-phase exclude each other", param_hint="--from-phase")
    if len(tasks) > 1 and (step is not None or phase is not None):
        raise typer.BadParameter("only one task goes back", param_hint="--task")
