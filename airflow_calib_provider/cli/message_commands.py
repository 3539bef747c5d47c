"""``calib messages``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_calib_provider.cli.common import SPECS, Json, Specs, examples, open_ledger

if TYPE_CHECKING:
    from airflow_calib_provider.messages.base import Message
    from airflow_calib_provider.spec.messages_file import ChannelSpec

app = typer.Typer(help="Messages to people: how they stand, a trial, what would be sent.", no_args_is_help=True)

Channels = Annotated[list[str] | None, typer.Argument(metavar="[CHANNEL]...", help="Only these; all if left out.")]
Since = Annotated[
    str, typer.Option("--since", help="From then on: 2h, 7d, or a time such as 2026-05-01.", metavar="WHEN")
]


@app.command(epilog=examples("calib messages status", "calib messages status --json"))
def status(specs: Specs = SPECS, as_json: Json = False) -> None:
    """Show how far each channel is: what was sent, what is in the way. The exit code is 1 while one is in trouble.

    Only the ledger and messages.yaml are read.
    """
    from airflow_calib_provider.cli.output import emit_json, shown, table
    from airflow_calib_provider.messages import state
    from airflow_calib_provider.spec.kinds import channel_kind

    declared = {channel.name: channel for channel in _declared(specs, none_is_fine=True)}
    with open_ledger().read() as connection:
        rows = {row.name: row for row in state.listed(connection)}
        behind = {name: state.behind(connection, row) for name, row in rows.items()}
    lines: list[dict[str, Any]] = []
    for name in [*declared, *(name for name in rows if name not in declared)]:
        row, channel = rows.get(name), declared.get(name)
        lines.append(
            {
                "channel": name,
                "place": channel_kind(channel.kind).place(channel.block) if channel is not None else "",
                "declared": channel is not None,
                "sent": row.sent if row is not None else 0,
                "last_sent_at": row.last_sent_at if row is not None else None,
                "events_behind": behind.get(name, 0),
                "in_trouble": row is not None and row.is_in_trouble,
                "last_error": row.last_error if row is not None else None,
                "last_error_at": row.last_error_at if row is not None else None,
            }
        )
    if as_json:
        emit_json(lines)
    else:
        names = ("channel", "place", "sent", "last_sent_at", "events_behind", "in_trouble")
        heads = [name.replace("_", " ") for name in names]
        table(heads, [[line[name] for name in names] for line in lines], empty="there are no channels: messages.yaml")
        for line in lines:
            if not line["declared"]:
                print(f"{line['channel']}: is not in {specs / 'messages.yaml'} any more")
            if line["last_error"]:
                told = "error" if line["in_trouble"] else "last error, which is over"
                print(f"{line['channel']}: {told} ({shown(line['last_error_at'])}): {line['last_error']}")
    if any(line["in_trouble"] for line in lines):
        raise typer.Exit(1)


@app.command("test", epilog=examples("calib messages test", "calib messages test shift"))
def trial(channels: Channels = None, specs: Specs = SPECS, as_json: Json = False) -> None:
    """Send one message to each channel, by the Airflow connections that it names. The exit code is 1 if one fails."""
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.messages import folding
    from airflow_calib_provider.messages.base import open_channel
    from airflow_calib_provider.outside.connections import outside_connection
    from airflow_calib_provider.spec.kinds import channel_kind

    lines: list[dict[str, Any]] = []
    for spec in _chosen(specs, channels):
        try:
            name = channel_kind(spec.kind).connection(spec.block)
            channel = open_channel(spec, outside_connection(name) if name else None)
            try:
                channel.send(folding.trial(spec.name, spec.link))
            finally:
                channel.close()
            lines.append({"channel": spec.name, "sent": True, "error": None})
        except CalibError as error:
            lines.append({"channel": spec.name, "sent": False, "error": str(error)})
    if as_json:
        emit_json(lines)
    else:
        for line in lines:
            print(f"{line['channel']}: {'a message was sent' if line['sent'] else line['error']}")
    if not all(line["sent"] for line in lines):
        raise typer.Exit(1)


@app.command(epilog=examples("calib messages preview", "calib messages preview shift --since 7d"))
def preview(channels: Channels = None, since: Since = "1d", specs: Specs = SPECS, as_json: Json = False) -> None:
    """Print what each channel would have been told since then, and send nothing."""
    from airflow_calib_provider.cli.mirror_commands import since_when
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.messages.preview import preview as of

    begin = since_when(since) or datetime.fromtimestamp(0, UTC)
    ledger = open_ledger()
    told: list[dict[str, Any]] = []
    for spec in _chosen(specs, channels):
        for message in of(ledger, spec, begin):
            if as_json:
                told.append({"channel": spec.name, **vars(message)})
            else:
                print(f"── {spec.name}, {message.at:%Y-%m-%d %H:%M:%S} UTC")
                print(_text(message), end="\n\n")
                told.append({})
    if as_json:
        emit_json(told)
    elif not told:
        print("nothing would have been told")


def _text(message: Message) -> str:
    from airflow_calib_provider.domain.escaping import escaped

    parts = [message.title, message.where, message.why, message.to_do, *(f"- {line}" for line in message.lines)]
    return "\n".join(escaped(line) for part in (*parts, message.link) if part for line in part.split("\n"))


def _chosen(specs: Path, names: list[str] | None) -> list[ChannelSpec]:
    """:raises CommandLineError: there is no such channel."""
    from airflow_calib_provider.domain.scalars import one_of
    from airflow_calib_provider.errors import CommandLineError
    from airflow_calib_provider.spec.problems import nearest

    declared = {channel.name: channel for channel in _declared(specs)}
    for name in names or ():
        if name not in declared:
            near = nearest(name, declared)
            raise CommandLineError(f"there is no channel {name!r}", near or f"expected {one_of(declared)}")
    return [channel for name, channel in declared.items() if not names or name in names]


def _declared(specs: Path, *, none_is_fine: bool = False) -> list[ChannelSpec]:
    """:raises CalibError: there is no file, or it has mistakes."""
    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.spec.language import MESSAGES_FILE
    from airflow_calib_provider.spec.messages_file import load_messages

    file = specs / MESSAGES_FILE
    if file.is_file():
        return load_messages(file)
    if none_is_fine:
        return []
    raise CalibError(f"there is no {file}", "write one: docs/messages.md has the shortest; --specs names the folder")
