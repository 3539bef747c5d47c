"""``calib groups`` and ``calib group``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import (
    MAX_LINES,
    PROMPT,
    Campaign,
    Json,
    State,
    WorkflowName,
    examples,
    existing_state,
    open_ledger,
    person,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_calib_provider.injection.amending import Amended


app = typer.Typer(help="Changing closed groups.", no_args_is_help=True)

SHOWN = 10
"""How many tasks of other groups are named that were made from the edition before."""


def register(app: typer.Typer) -> None:
    """Add the commands that list groups."""
    app.command(epilog=examples("calib groups", "calib groups --state failed", "calib groups --state forming -w zee"))(
        groups
    )


def groups(
    campaign: Campaign = PROMPT,
    workflow: WorkflowName = None,
    state: State = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=MAX_LINES, help="So many groups; 0: all.")] = 50,
    as_json: Json = False,
) -> None:
    """List groups: their runs, amounts, DAG run and the states of their tasks.

    --state is the group's (forming, closed, dropped) or that of any of its tasks (waiting, done, failed, …).
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import as_dict, emit_json, table
    from airflow_calib_provider.domain.group_words import ended_by
    from airflow_calib_provider.ledger import names

    existing_state(state, names.states("run_group", "group_task"))
    lines = api.groups(open_ledger(), campaign=campaign, workflow=workflow, state=state, last=last)
    if as_json:
        emit_json([as_dict(line) for line in lines])
        return
    heads = ["group", "workflow", "runs", "first", "last", "amounts", "state", "closed by", "DAG run", "tasks"]
    rows = [
        [
            line.name,
            line.workflow,
            line.n_runs,
            line.first_run,
            line.last_run,
            ", ".join(f"{amount:g} {name}" for name, amount in line.amounts.items()),
            ", ".join([line.state, *(["late"] if line.late else []), *_edition(line.edition, line.stuck)]),
            ended_by(line.close_reason),
            line.dag_run_state or "in the ledger",
            ", ".join(f"{task} {shown}" for task, shown in line.tasks.items()),
        ]
        for line in lines
    ]
    table(heads, rows, empty="no groups")


def _edition(number: int, stuck: bool) -> list[str]:
    return [f"edition {number}", *(["stuck"] if stuck else [])] if number > 1 else []


@app.command(
    epilog=examples(
        'calib group amend fill-r355872 --add 355880 --reason "its file was copied late"',
        'calib group amend fill-r355872 --remove 355874-355875 --reason "wrong magnet current"',
    )
)
def amend(
    group: Annotated[str, typer.Argument(help="The closed group, such as fill-r355872.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded in every payload of the edition.")],
    add: Annotated[str, typer.Option("--add", metavar="RUNS", help="Runs, such as 355880,355890-355893.")] = "",
    remove: Annotated[str, typer.Option("--remove", metavar="RUNS", help="Runs of the group.")] = "",
    workflow: WorkflowName = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Give a closed group its next edition: add runs to it, or remove runs from it.

    What is added came late, or had failed when the group went on without it (excluded in calib status).
    What was done runs again, as its next generation, and is published as the next revision; until then the one before
    holds. Airflow is asked at once where it can be reached (CALIB_AIRFLOW_URL), else by the next calib_inject. The
    group's name stays.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.api.deciding import LONGEST_REASON
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import CommandLineError

    if len(reason) > LONGEST_REASON:
        raise CommandLineError(
            f"a reason of more than {LONGEST_REASON:,} characters", "name the place of the full story"
        )
    ledger = open_ledger()
    runs = {"add": _numbers(add), "remove": _numbers(remove)}
    done = api.amend_group(ledger, group, reason=reason, person=person(), campaign=campaign, workflow=workflow, **runs)
    asked = api.clear_amended(ledger, done)
    if asked.error is not None:
        print(f"note: {asked.error.message}", file=sys.stderr)
    if as_json:
        about = {"first": done.first, "last": done.last, "cleared": asked.cleared, "to_clear": asked.left}
        emit_json({**vars(done), **about})
        return
    _show(done, asked.cleared, asked.left)
    _warn(done, campaign)


def _numbers(text: str) -> list[int]:
    """:raises CalibError: they are no runs, or more than can be amended at once."""
    from airflow_calib_provider.domain.run_ranges import parse_ranges
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.injection.amendments import MOST

    ranges = parse_ranges(text).ranges if text.strip() else []
    if sum(last - first + 1 for first, last in ranges) > MOST:
        raise CalibError(f"an amendment of more than {MOST:,} runs", "a campaign of its own is for more")
    return [run for first, last in ranges for run in range(first, last + 1)]


def _show(done: Amended, cleared: Sequence[str], left: Sequence[str]) -> None:
    from airflow_calib_provider.domain.reasons import listed

    has = f"{len(done.runs)} runs from {done.first} to {done.last}"
    print(f"{done.group} of {done.workflow}: edition {done.edition}, {has}")
    for what, runs in (("added", done.added), ("removed", done.removed)):
        if runs:
            print(f"  {what}: {listed(runs)}")
    for what, names in (("taken over", done.absorbed), ("less some runs", done.lessened)):
        if names:
            print(f"  groups of late runs, {what}: {listed(names)}")
    print(f"  to run again: {listed(done.stale, SHOWN) or 'nothing, as nothing had begun'}")
    for run_id in cleared:
        print(f"  cleared in Airflow: {run_id}")
    for run_id in left:
        print(f"  to be cleared in Airflow by the next calib_inject: {run_id}")
    if done.made_before:
        print(f"  made from the edition before, and left as it is: {listed(done.made_before, SHOWN)}")


def _warn(done: Amended, campaign: str) -> None:
    """Say what the group waits for until a person does more, and what that is."""
    from airflow_calib_provider.domain.reasons import listed

    for need, runs in done.in_vain.items():
        task, _, needed = need.partition(": ")
        print(f"  {task} waits for {needed} of {listed(runs)}, in no group there: late there, too, or removed")
    if not done.in_vain:
        return
    lacking = ",".join(map(str, sorted({run for some in done.in_vain.values() for run in some})))
    if campaign == PROMPT:
        print(f"    say late_runs: new_group for that grouping, and bring {lacking} in by a backfill into {PROMPT};")
    print("    add it to a group there, if those are of several runs; or take it out again:")
    where = "" if campaign == PROMPT else f" --campaign {campaign}"
    print(f'    calib group amend {done.group} --workflow {done.workflow}{where} --remove {lacking} --reason "..."')
