"""``calib stale`` and ``calib rerun``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import PROMPT, Campaign, Json, examples, open_ledger
from airflow_calib_provider.domain.listing import of_runs

if TYPE_CHECKING:
    from airflow_calib_provider.api import Rerun, StalePayload

OnlyTag = Annotated[str | None, typer.Option("--tag", help="Only this tag, and what its payloads have read.")]


def register(app: typer.Typer) -> None:
    """Add them."""
    app.command(epilog=examples("calib stale", "calib stale --tag ZeeScale --json"))(stale)
    app.command(epilog=examples("calib rerun --stale --dry-run", "calib rerun --stale --tag ZeeScale"))(rerun)


def stale(tag: OnlyTag = None, campaign: Campaign = PROMPT, as_json: Json = False) -> None:
    """List payloads that were made from what is not any more what it was, why, and the smallest rerun that mends them.

    The exit code is 1 if there are any.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    found = api.stale_payloads(open_ledger(), tag, campaign=campaign)
    if as_json:
        emit_json([_as_json(one) for one in found])
    elif not found:
        print("nothing is stale")
    for one in () if as_json else found:
        row = one.payload
        print(f"{row.tag} revision {row.revision} for {of_runs(row.first_run, row.last_run)}, {row.state}")
        for why in one.why:
            print(f"  {why}")
        for rerun in one.reruns:
            print(f"  mended by: {_command(rerun)}")
        if one.follows and not one.reruns:
            print("  when these are mended it is to be looked at again")
    raise typer.Exit(1 if found else 0)


def _as_json(one: StalePayload) -> dict[str, object]:
    from airflow_calib_provider.cli.output import as_dict

    keys = ("campaign", "tag", "first_run", "last_run", "revision", "state", "workflow", "task", "group_name")
    return {
        **as_dict(one.payload, *keys),
        "why": list(one.why),
        "reruns": [{**vars(rerun), "command": _command(rerun)} for rerun in one.reruns],
        "follows": [as_dict(row, "tag", "revision", "group_name") for row in one.follows],
    }


def _command(rerun: Rerun) -> str:
    tasks = [part for task in rerun.tasks for part in ("--task", task)]
    campaign = [] if rerun.campaign == PROMPT else ["--campaign", rerun.campaign]
    return shlex.join(["calib", "retry", rerun.group, *tasks, "--workflow", rerun.workflow, *campaign])


def rerun(
    of_stale: Annotated[bool, typer.Option("--stale", help="Needed: what mends stale payloads.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, and ask nobody.")] = False,
    tag: OnlyTag = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Let Airflow run again what mends stale payloads, by clearing it as `calib retry` does. Needs CALIB_AIRFLOW_URL.

    Of what has read a stale payload comes the turn when that is mended: give the command again then.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    if not of_stale:
        raise typer.BadParameter("say what is to run again: --stale; a task of a group: calib retry")
    done = api.rerun_stale(open_ledger(), tag, campaign=campaign, dry_run=dry_run)
    if as_json:
        emit_json(
            [
                {**vars(one.rerun), "command": _command(one.rerun), "error": one.error or None,
                 "cleared": list(one.cleared.cleared) if one.cleared else None}
                for one in done
            ]
        )  # fmt: skip
    for one in () if as_json else done:
        said = "" if dry_run else f": {one.error or ', '.join(one.cleared.cleared if one.cleared else ())}"
        print(f"{_command(one.rerun)}{said}")
    if not done and not as_json:
        print("nothing is to be run again")
    if any(one.error for one in done):
        raise typer.Exit(1)
