"""``calib messages``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_calib_provider.cli.common import SPECS, Json, Specs, examples, open_ledger

if TYPE_CHECKING:
    from airflow_calib_provider.messages.base import Message

app = typer.Typer(help="Messages to people: how they stand, a trial, what would be told.", no_args_is_help=True)

Channels = Annotated[list[str] | None, typer.Argument(metavar="[CHANNEL]...", help="Only these; all if left out.")]
Since = Annotated[
    str, typer.Option("--since", help="From then on: 2h, 7d, or a time such as 2026-05-01.", metavar="WHEN")
]

FILE = "messages.yaml"


@app.command(epilog=examples("calib messages status", "calib messages status --json"))
def status(specs: Specs = SPECS, as_json: Json = False) -> None:
    """Show how far each channel is: what was sent, what is in the way. The exit code is 1 while one is in trouble.

    Only the ledger and messages.yaml are read.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json, shown, table

    found = api.message_channels(open_ledger(), specs / FILE)
    if as_json:
        emit_json([asdict(item) for item in found])
    else:
        names = ("channel", "place", "sent", "last_sent_at", "events_behind", "in_trouble")
        heads = [name.replace("_", " ") for name in names]
        rows = [[getattr(item, name) for name in names] for item in found]
        table(heads, rows, empty=f"there are no channels: no {specs / FILE}")
        for item in found:
            for warning in item.warnings:
                print(f"{item.channel}: warning: {warning}")
            if not item.declared:
                print(f"{item.channel}: is not in {specs / FILE} any more")
            if item.last_error:
                told = "error" if item.in_trouble else "last error, which is over"
                print(f"{item.channel}: {told} ({shown(item.last_error_at)}): {item.last_error}")
    if any(item.in_trouble for item in found):
        raise typer.Exit(1)


@app.command("test", epilog=examples("calib messages test", "calib messages test shift"))
def trial(channels: Channels = None, specs: Specs = SPECS, as_json: Json = False) -> None:
    """Send one message to each channel, by the Airflow connections that it names. The exit code is 1 if one fails."""
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    found = api.try_channels(specs / FILE, channels or ())
    if as_json:
        emit_json([{**asdict(item), "sent": item.sent} for item in found])
    else:
        for item in found:
            print(f"{item.channel}: {item.error or 'a message was sent'}")
    if not all(item.sent for item in found):
        raise typer.Exit(1)


@app.command(epilog=examples("calib messages preview", "calib messages preview shift --since 7d"))
def preview(channels: Channels = None, since: Since = "1d", specs: Specs = SPECS, as_json: Json = False) -> None:
    """Print what each channel would have been told since then, and send nothing."""
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.mirror_commands import since_when
    from airflow_calib_provider.cli.output import emit_json

    begin = since_when(since) or datetime.fromtimestamp(0, UTC)
    told: list[dict[str, Any]] = []
    ledger = open_ledger()
    for item in api.message_channels(ledger, specs / FILE):
        for warning in item.warnings if not channels or item.channel in channels else ():
            print(f"warning: {item.channel}: {warning}", file=sys.stderr)
    for channel, message in api.preview_messages(ledger, specs / FILE, begin, channels or ()):
        told.append({"channel": channel, **asdict(message)})
        if not as_json:
            print(f"── {channel}, {message.at:%Y-%m-%d %H:%M:%S} UTC\n{_text(message)}\n")
    if as_json:
        emit_json(told)
    elif not told:
        print("nothing would have been told")


def _text(message: Message) -> str:
    from airflow_calib_provider.domain.escaping import escaped

    parts = [message.title, message.where, message.why, message.to_do, *(f"- {line}" for line in message.lines)]
    return "\n".join(escaped(line) for part in (*parts, message.link) if part for line in part.split("\n"))
