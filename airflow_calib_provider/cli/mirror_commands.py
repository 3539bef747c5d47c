"""``calib mirror``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_calib_provider.cli.common import Json, examples, open_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_calib_provider.mirror.check import CheckReport
    from airflow_calib_provider.mirror.status import TargetStatus
    from airflow_calib_provider.mirror.target import InfluxTarget

app = typer.Typer(help="The mirror of the ledger in InfluxDB: lag, comparison, filling anew.", no_args_is_help=True)

Connection = Annotated[
    str, typer.Option("--connection", help="The Airflow connection; with --url only its name.", metavar="ID")
]
Url = Annotated[
    str | None, typer.Option("--url", help="InfluxDB's address, instead of an Airflow connection.", metavar="URL")
]
Bucket = Annotated[str, typer.Option("--bucket", help="With --url: the bucket (InfluxDB 2, 3).", metavar="NAME")]
Org = Annotated[str, typer.Option("--org", help="With --url: the organization (InfluxDB 2).", metavar="NAME")]
Database = Annotated[str, typer.Option("--database", help="With --url: the database (InfluxDB 1.x).", metavar="NAME")]
User = Annotated[str, typer.Option("--user", help="With --url: the user (InfluxDB 1.x).", metavar="NAME")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", help="With --url: a file with the token, or the user's password.", metavar="FILE"),
]
Since = Annotated[
    str, typer.Option("--since", help="Only events from then on: 2h, 7d, or a time such as 2026-05-01.", metavar="WHEN")
]

NAME = "calib_influxdb"


@app.command(epilog=examples("calib mirror status", "calib mirror status --json"))
def status(as_json: Json = False) -> None:
    """Show how far the mirror is: lag in events and seconds, the last error, what InfluxDB refused, how many series.

    Only the ledger is asked. The exit code is 1 while a target is in trouble.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.mirror.status import MANY_SERIES

    found = api.mirror_status(open_ledger())
    counts = found.series
    if as_json:
        about = {"targets": [asdict(item) for item in found.targets], "series": counts}
        emit_json({**about, "too_many_series": found.too_many_series})
    else:
        _show_status(found.targets)
        listed = ", ".join(f"{name} {number:,}" for name, number in counts.items())
        print(f"series, at most: {sum(counts.values()):,} ({listed})")
        if found.too_many_series:
            print(f"warning: more than {MANY_SERIES:,} series: InfluxDB 1.x refuses more than 1,000,000 by default")
    if found.in_trouble:
        raise typer.Exit(1)


def _show_status(targets: Sequence[TargetStatus]) -> None:
    from airflow_calib_provider.cli.output import shown, table

    heads = ["target", "place", "events behind", "seconds behind", "carried now", "last success", "set aside"]
    table(
        heads,
        [
            [
                item.name,
                item.place,
                item.lag_events,
                round(item.lag_seconds, 1),
                item.carried_now,
                item.last_success_at,
                sum(part["points"] for part in item.set_aside),
            ]
            for item in targets
        ],
        empty="nothing was mirrored yet: create the connection calib_influxdb in Airflow, and let calib_mirror run",
    )
    for item in targets:
        if item.last_error:
            told = "error" if item.in_trouble else "last error, which is over"
            print(f"{item.name}: {told} ({shown(item.last_error_at)}): {item.last_error}")
        if item.note:
            print(f"{item.name}: note ({shown(item.note_at)}): {item.note}")
        if item.skipped_by_retention:
            print(f"{item.name}: {item.skipped_by_retention:,} points were older than what is kept there")
        for part in item.set_aside[:10]:
            print(f"{item.name}: set aside: {part['points']} of {part['measurement'] or 'no'}: {part['reason']}")


@app.command(
    epilog=examples(
        "calib mirror check --since 2h",
        "calib mirror check --json",
        "calib mirror check --url http://influxdb:8086 --database calib --user reader --token-file ~/.influx",
    )
)
def check(
    since: Since = "",
    connection: Connection = NAME,
    url: Url = None,
    bucket: Bucket = "",
    org: Org = "",
    database: Database = "",
    user: User = "",
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Compare InfluxDB with the ledger, point by point: missing, extra, different. The exit code is 1 if any are.

    What was not carried yet is not missing; what InfluxDB refused or no longer keeps is counted by itself.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    ledger = open_ledger()
    start = since_when(since)
    target = _target(connection, url, bucket, org, database, user, token_file)
    with _bar("comparing", as_json) as show:
        report = api.check_mirror(ledger, target, since=start, tell=lambda done, total: show(done, total, ""))
    if as_json:
        emit_json({**asdict(report), "clean": report.clean})
    else:
        _show_report(report)
    if not report.clean:
        raise typer.Exit(1)


def _show_report(report: CheckReport) -> None:
    from airflow_calib_provider.cli.output import table

    heads = ["measurement", "expected", "missing", "extra", "different", "set aside", "beyond retention"]
    names = [head.replace(" ", "_") for head in heads[1:]]
    rows = [[name, *(getattr(counts, item) for item in names)] for name, counts in report.measurements.items()]
    table(heads, [*rows, ["sum", *(report.total(item) for item in names)]])
    for counts in report.measurements.values():
        for text in counts.examples:
            print(text)
    if report.last < report.first:
        print("no events were compared: nothing of this period was carried yet")
    else:
        print(f"events {report.first}-{report.last} were compared; {report.not_carried} are not carried yet")
    if report.skipped:
        print(f"of {report.skipped} events no point can be made: `calib mirror status` says why")


@app.command(
    epilog=examples("calib mirror rebuild", "calib mirror rebuild --since 7d", "calib mirror rebuild --delete-first")
)
def rebuild(
    since: Since = "",
    delete_first: Annotated[
        bool, typer.Option("--delete-first", help="Delete the mirror's measurements before, whoever filled them.")
    ] = False,
    connection: Connection = NAME,
    url: Url = None,
    bucket: Bucket = "",
    org: Org = "",
    database: Database = "",
    user: User = "",
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Fill InfluxDB anew from the ledger, while the mirror goes on. What was set aside is tried again.

    Points overwrite themselves, so nothing is doubled; nothing is deleted without --delete-first.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    if delete_first and since:
        raise typer.BadParameter("what is deleted must be filled from the beginning", param_hint="--delete-first")
    ledger = open_ledger()
    start = since_when(since)
    target = _target(connection, url, bucket, org, database, user, token_file)
    deleted = api.delete_mirror(target) if delete_first else []
    if deleted and not as_json:
        print(f"deleted in {target.place}: {', '.join(deleted)}")
    with _bar("filling", as_json) as show:
        done = api.rebuild_mirror(
            ledger,
            target,
            since=start,
            tell=lambda told: show(told.done - told.first, max(told.last, told.done) - told.first, told.trouble),
        )
    if as_json:
        emit_json({**vars(done), "deleted": deleted})
    else:
        print(f"{done.events:,} events were mirrored to {done.place} as {done.points:,} points")


def since_when(text: str) -> datetime | None:
    """A time; ``None`` where nothing is said.

    :raises typer.BadParameter: it is neither a duration nor a time.
    """
    from airflow_calib_provider.domain.quantities import parse_duration, parse_time

    if not text:
        return None
    try:
        return datetime.now(UTC) - parse_duration(text)
    except ValueError:
        try:
            return parse_time(text)
        except ValueError:
            said = f"{text!r} is neither a duration such as 2h or 7d nor a time such as 2026-05-01T12:00:00Z"
            raise typer.BadParameter(said, param_hint="--since") from None


def _target(
    connection: str, url: str | None, bucket: str, org: str, database: str, user: str, token_file: Path | None
) -> InfluxTarget:
    if url is not None:
        return _from_options(connection, url, bucket, org, database, user, token_file)
    beside = {"--bucket": bucket, "--org": org, "--database": database, "--user": user, "--token-file": token_file}
    if given := [option for option, value in beside.items() if value]:
        raise typer.BadParameter(
            "goes with --url only; without, the Airflow connection says it", param_hint=", ".join(given)
        )
    return _from_airflow(connection)


def _from_options(
    name: str, url: str, bucket: str, org: str, database: str, user: str, token_file: Path | None
) -> InfluxTarget:
    from airflow_calib_provider.mirror.target import InfluxTarget

    secret = token_file.expanduser().read_text(encoding="utf-8").strip() if token_file else ""
    values: dict[str, Any] = {"name": name, "url": url, "bucket": bucket, "org": org, "database": database}
    values |= {"user": user, "password": secret} if user else {"token": secret}
    return InfluxTarget.from_mapping(values, "correct --url and the options beside it")


def _from_airflow(name: str) -> InfluxTarget:
    """The target of an Airflow connection; Airflow is only imported here, which takes seconds.

    :raises MirrorError: there is none, or it cannot be used.
    """
    from airflow_calib_provider.cli.hooks import ask_airflow
    from airflow_calib_provider.errors import MirrorError

    found: InfluxTarget | None = ask_airflow("influxdb", "task_target", name)
    if found is None:
        raise MirrorError(
            f"there is no connection {name} (asked were AIRFLOW_CONN_{name.upper()}, secrets backends, and Airflow's "
            "database as this machine is configured)",
            "create it, or give --url with --bucket or --database",
        )
    return found


@contextmanager
def _bar(what: str, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on the terminal; elsewhere only what is in the way, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, markup=False, highlight=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=None)
        said = ""

        def show(done: int, total: int, trouble: str) -> None:
            nonlocal said
            if trouble and trouble != said:
                console.print(f"{what}: {trouble}", soft_wrap=True)
            said = trouble
            progress.update(task, completed=done, total=total)

        yield show
