"""``calib campaign start``, ``pause``, ``resume``, ``cancel``, ``set``, ``add``: what can be done with a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import SPECS, Json, Specs, examples, open_ledger, person

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.steering import Steered

Name = Annotated[str, typer.Argument(help="The campaign.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, lines in (
        (add, ["calib campaign add week-42 --source daq --runs 355100-355180"]),
        (start, ["calib campaign start week-42"]),
        (pause, ["calib campaign pause rereco-2026A"]),
        (resume, ["calib campaign resume rereco-2026A"]),
        (cancel, ['calib campaign cancel rereco-2026A --yes --reason "wrong window"']),
        (update, ["calib campaign update rereco-2026A"]),
        (change, ["calib campaign set rereco-2026A --max-groups 20 --max-jobs 500", "calib campaign set urgent -p 10"]),
    ):
        app.command("set" if command is change else None, epilog=examples(*lines))(command)


def add(
    name: Name,
    source: Annotated[str, typer.Option("--source", "-S", help="The run source.")],
    runs: Annotated[str, typer.Option("--runs", help="Ranges and numbers, of what the source lists now.")],
    specs: Specs = SPECS,
    as_json: Json = False,
) -> None:
    """Add runs to a campaign that is collecting (created with --collecting). Runs that it has already are no news.

    It opens nothing before it is started: calib campaign start.
    """
    from airflow_calib_provider.api.campaigning import add_runs
    from airflow_calib_provider.cli.campaign_commands import listed_runs
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.injection.fitting import require_taken
    from airflow_calib_provider.ledger import steering

    numbers = [record.number for record in listed_runs(source, runs, specs)]
    ledger = open_ledger()
    require_taken(ledger, specs, name, source)
    added = add_runs(ledger, name, {source: numbers})
    with ledger.read() as connection:
        total = steering.count_runs(connection, name)
    if as_json:
        emit_json({"campaign": name, "added": added, "runs": total})
    else:
        print(f"runs added to the campaign {name}: {added}; it has {total} now")


def start(name: Name, as_json: Json = False) -> None:
    """A collecting campaign has all of its runs: from now on they are fixed, and calib_inject groups them.

    Trigger calib_inject with the campaign's name, or wait for its next run.
    """
    from airflow_calib_provider.api.campaigning import start_campaign

    _tell(start_campaign(open_ledger(), name), "started; the next calib_inject groups it", as_json)


def pause(name: Name, as_json: Json = False) -> None:
    """Open nothing new of a campaign, and submit no new jobs. What runs goes on, and runs are still assigned."""
    from airflow_calib_provider.api.campaigning import pause_campaign

    found = pause_campaign(open_ledger(), name, person=person())
    _tell(found, f"paused; `calib campaign resume {name}` goes on with it", as_json)


def resume(name: Name, as_json: Json = False) -> None:
    """Go on with a paused campaign, as before."""
    from airflow_calib_provider.api.campaigning import resume_campaign

    _tell(resume_campaign(open_ledger(), name, person=person()), "goes on", as_json)


def cancel(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who look later.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Needed: a cancelled campaign stays cancelled.")] = False,
    as_json: Json = False,
) -> None:
    """Cancel a campaign: nothing of it is opened any more, and its jobs are removed. What is published stays.

    Its watchers in Airflow remove the jobs within seconds; where there are none, calib_housekeeping does.
    """
    from airflow_calib_provider.api.campaigning import cancel_campaign
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.ledger import campaigns

    ledger = open_ledger()
    if not yes:
        with ledger.read() as connection:
            campaigns.get(connection, name)  # a name that is none is told first
        raise CalibError(
            f"a cancelled campaign stays cancelled, and the jobs of {name} would be removed: nothing was changed",
            f"say --yes, or pause it: `calib campaign pause {name}`",
        )
    found = cancel_campaign(ledger, name, person=person(), reason=reason)
    _tell(found, "cancelled; its jobs are removed by their watchers, what is published stays", as_json)


def update(name: Name, specs: Specs = SPECS, as_json: Json = False) -> None:
    """Let a finite campaign take the versions of now of its workflows. What is done stays as it was made.

    A finite campaign runs its workflows as they were at its creation. Where a file has other tasks since then, what has
    not begun waits for this command, or for the file as it was.
    """
    from airflow_calib_provider.api.campaigning import update_campaign
    from airflow_calib_provider.cli.output import emit_json

    found = update_campaign(open_ledger(), specs, name, person=person())
    if as_json:
        emit_json({"campaign": name, "updated": found.workflows})
    elif found.workflows:
        print(f"the campaign {name} takes {', '.join(found.workflows)} as of now; the next calib_inject follows")
    else:
        print(f"the campaign {name} has its workflows as the files say now: nothing was changed")


def change(
    name: Name,
    max_groups: Annotated[
        int | None, typer.Option("--max-groups", help="So many groups may be open at once; 0: no limit.")
    ] = None,
    max_jobs: Annotated[
        int | None, typer.Option("--max-jobs", help="So many jobs may be submitted at once; 0: no limit.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", "-p", help="Higher ones open first, but prompt before all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change the throttle or the priority of a campaign. It holds at once, for what is opened or submitted next.

    A job set that is larger than the throttle of jobs goes alone. Runs, workflows and order are fixed when a campaign
    is created.
    """
    from airflow_calib_provider.api.campaigning import alter_campaign
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import CommandLineError
    from airflow_calib_provider.ledger.steering import Changes

    changes = Changes(priority, max_groups, max_jobs)
    if not changes.columns():
        raise CommandLineError("nothing to change", "say --max-groups, --max-jobs or --priority")
    row = alter_campaign(open_ledger(), name, changes, person=person())
    said = {"priority": row.priority, "max_groups": row.max_groups, "max_jobs": row.max_jobs}
    if as_json:
        emit_json({"campaign": name, **said})
        return
    limits = ", ".join(f"{key}: {'no limit' if value is None else value}" for key, value in said.items())
    print(f"the campaign {name}: {limits}")


def _tell(found: Steered, said: str, as_json: bool) -> None:
    from airflow_calib_provider.cli.output import emit_json

    if as_json:
        emit_json({"campaign": found.campaign, "before": found.before, "state": found.state, "changed": found.new})
    elif found.new:
        print(f"the campaign {found.campaign}: {said}")
    else:
        print(f"the campaign {found.campaign} is {found.state} already: nothing was changed")
