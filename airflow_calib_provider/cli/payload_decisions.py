"""What persons decide about payloads: the commands of ``calib payload`` beside lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import PROMPT, Campaign, Json, WorkflowName, examples, open_ledger, person
from airflow_calib_provider.domain.listing import of_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_calib_provider.api import AnsweredPayload, PayloadRecord
    from airflow_calib_provider.ledger.rows import Payload
    from airflow_calib_provider.payloads.corrections import Consumer

Tag = Annotated[str, typer.Argument(help="The tag.")]
Run = Annotated[int | None, typer.Option("--run", min=0, max=2**53, help="One of its runs.")]
Group = Annotated[str | None, typer.Option("--group", help="The group that has made it.")]
Revision = Annotated[int | None, typer.Option("--revision", min=1, help="This revision, not the newest.")]
OfGroup = Annotated[str, typer.Option("--group", help="The group that has made it, such as fill-r355872.")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Stands in the ledger with the answer.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would be about, and answer nothing.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; it stands in the ledger. Asked for at a terminal.")]


def register(app: typer.Typer) -> None:
    """Add them."""
    for command, lines in (
        (show, ["calib payload show ZeeScale", "calib payload show ZeeScale --group fill-r355872 --revision 1"]),
        (diff, ["calib payload diff ZeeScale --run 355872"]),
        (approve, ['calib payload approve ZeeScale --group fill-r355872 --comment "as in May"']),
        (reject, ['calib payload reject ZeeScale --group fill-r355872 --comment "endcap is off"']),
        (withdraw, ['calib payload withdraw ZeeScale 355872 --reason "wrong alignment"']),
        (rollback, ['calib payload rollback ZeeScale 355872 --reason "wrong alignment"']),
        (check, ["calib payload check", "calib payload check --tag ZeeScale --json"]),
    ):
        app.command(epilog=examples(*lines))(command)


def show(
    tag: Tag,
    run: Run = None,
    group: Group = None,
    revision: Revision = None,
    workflow: WorkflowName = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Show a payload: what was decided about it, its values beside those of the one before, why it goes no further."""
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    record = api.payload_record(
        open_ledger(), tag, run=run, group=group, revision=revision, campaign=campaign, workflow=workflow
    )
    if as_json:
        emit_json(_as_json(record))
        return
    _print_payload(record.payload)
    _print_decisions(record)
    _print_values(record)
    for task, generation, job, file in record.pictures:
        print(f"plot: {file} of {task}, generation {generation}, job {job}")


def _as_json(record: PayloadRecord) -> dict[str, object]:
    from airflow_calib_provider.cli.output import as_dict
    from airflow_calib_provider.cli.payload_commands import COLUMNS, MORE

    old = as_dict(record.former, *COLUMNS, *MORE) if record.former is not None else None
    return {
        **as_dict(record.payload, "campaign", *COLUMNS, *MORE, "reason", "asked_at", "expires_at"),
        "decisions": [vars(one) for one in record.decisions],
        "former": old,
        "values": [{**vars(one), "change": one.change} for one in record.values],
        "pictures": [list(one) for one in record.pictures],
    }


def _print_payload(row: Payload) -> None:
    from airflow_calib_provider.domain.advice import About, completed
    from airflow_calib_provider.domain.reasons import RELEASES, render

    print(f"{row.tag} revision {row.revision}, {row.state}")
    print(f"  {of_runs(row.first_run, row.last_run)}, made by {row.workflow}.{row.task} of {row.group_name}")
    print(f"  content {row.content_hash}, {row.file_name}, {row.size} bytes")
    if row.reason is not None:
        about = About(row.reason, row.group_name, row.workflow, row.task, row.campaign)
        print(f"  {render(row.reason)}")
        print(f"  released by: {completed(RELEASES.get(str(row.reason['code']), ''), about)}")


def _print_decisions(record: PayloadRecord) -> None:
    from airflow_calib_provider.cli.output import table

    heads = ["when", "what", "outcome", "by", "content", "comment"]
    rows: list[Sequence[object]] = [
        (one.at, one.kind, one.outcome, one.person or "", one.content_hash[:12], one.comment)
        for one in record.decisions
    ]
    if rows:
        table(heads, rows)
    for one in record.decisions:
        found = one.details.get("findings")
        for item in found if isinstance(found, list) else []:
            said = ", ".join(map(str, item["values"])) or "not reported"
            print(f"  {one.details['task']}: {item['name']} is {said}, asked is {item['asked']}"
                  f": {'good' if item['passed'] else 'bad'}")  # fmt: skip


def _print_values(record: PayloadRecord) -> None:
    from airflow_calib_provider.cli.output import table

    if not record.values:
        return
    old = record.former
    head = f"revision {old.revision} of {old.group_name}" if old is not None else "none before"
    rows = [(one.name, one.new, one.old, one.change) for one in record.values]
    table(["value", f"revision {record.payload.revision}", head, "change"], rows)


def diff(
    tag: Tag,
    run: Run = None,
    group: Group = None,
    revision: Revision = None,
    workflow: WorkflowName = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Compare a payload with the one before it: values, and the content line by line where both are text."""
    import difflib

    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    record = api.payload_record(
        open_ledger(), tag, run=run, group=group, revision=revision, campaign=campaign, workflow=workflow
    )
    old, new = (_lines(row) if row is not None else [] for row in (record.former, record.payload))
    lines = None
    if old is not None and new is not None:
        before = f"revision {record.former.revision} of {record.former.group_name}" if record.former else "nothing"
        after = f"revision {record.payload.revision} of {record.payload.group_name}"
        lines = list(difflib.unified_diff(old, new, before, after, lineterm=""))
    if as_json:
        emit_json({**_as_json(record), "diff": lines})
        return
    _print_values(record)
    if lines is None:
        print("the contents are no text, or too large, and are not compared line by line")
    for line in lines or ():
        print(line)


LARGEST_TEXT = 1_000_000
"""Bytes of a content that is compared line by line."""


def _lines(row: Payload) -> list[str] | None:
    from airflow_calib_provider import api

    if row.size > LARGEST_TEXT:
        return None
    try:
        return api.payload_content(row).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return None


def approve(
    tag: Tag,
    group: OfGroup,
    comment: Comment = "",
    dry_run: DryRun = False,
    workflow: WorkflowName = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Approve a payload, with its set, that waits for you: answers Airflow's question with your token."""
    from airflow_calib_provider import api

    found = api.approve_payload(
        open_ledger(), tag, group, comment=comment, campaign=campaign, workflow=workflow, dry_run=dry_run
    )
    _told(found, dry_run=dry_run, as_json=as_json)


def reject(
    tag: Tag,
    group: OfGroup,
    comment: Comment = "",
    dry_run: DryRun = False,
    workflow: WorkflowName = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Reject a payload, with its set, that waits for you: answers Airflow's question with your token."""
    from airflow_calib_provider import api

    found = api.reject_payload(
        open_ledger(), tag, group, comment=comment, campaign=campaign, workflow=workflow, dry_run=dry_run
    )
    _told(found, dry_run=dry_run, as_json=as_json)


def _told(found: AnsweredPayload, *, dry_run: bool, as_json: bool) -> None:
    from airflow_calib_provider.cli.output import emit_json

    row = found.payload
    if as_json:
        about = {"tag": row.tag, "revision": row.revision, "content_hash": row.content_hash}
        members = [{"tag": tag, "revision": revision, "content_hash": of} for tag, revision, of in found.members]
        answered = {"option": found.option, "person": found.person, "answered": not dry_run}
        emit_json({**about, **answered, "about": found.content_hash, "members": members})
        return
    by = f" by {found.person}" if found.person else ""
    said = f"would answer: {found.option}" if dry_run else f"answered{by}: {found.option}"
    if len(found.members) == 1:
        print(f"{said}, about {row.tag} revision {row.revision}, content {row.content_hash[:12]}")
        return
    print(f"{said}, about all of a set of {len(found.members)}, content {found.content_hash[:12]}")
    for tag, revision, content in found.members:
        print(f"  {tag} revision {revision}, content {content[:12]}")


def withdraw(
    tag: Tag,
    run: Annotated[int, typer.Argument(min=0, max=2**53, help="A run for which it holds.")],
    reason: Reason = None,
    yes: Annotated[bool, typer.Option("--yes", help="Needed where somebody has used it.")] = False,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Take a payload back with its set, here and in outside stores: it holds for no run. Lists who has used it."""
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.errors import CommandLineError

    reason = _said(reason)
    ledger = open_ledger()
    row = api.payload_record(ledger, tag, run=run, campaign=campaign).payload
    rows = api.payload_set(ledger, row)
    used = list(dict.fromkeys(one for member in rows for one in api.payload_consumers(ledger, member)))
    if used and not as_json:
        _print_used(used)
    if used and not yes:
        raise CommandLineError(
            f"{len(used)} tasks have used revision {row.revision} of {_named(rows)}",
            f"say --yes, or put the one before in its place: `calib payload rollback {tag} {run}`",
        )
    done = api.withdraw_payload(ledger, row, reason=reason, person=person())
    if as_json:
        about = {"tag": done.tag, "revision": done.revision, "state": done.state}
        rest = [{"tag": one.tag, "revision": one.revision} for one in rows[1:]]
        emit_json({**about, "rest": rest, "used_by": [vars(one) for one in used]})
        return
    before = "was withdrawn already" if row.state == done.state else "withdrawn"
    nobody = "" if used else "; nobody has used it"
    for one in rows:
        print(f"{before}: {one.tag} revision {one.revision} for {of_runs(one.first_run, one.last_run)}{nobody}")


def _named(rows: Sequence[Payload]) -> str:
    """A payload, with the others of its set."""
    first, *rest = (one.tag for one in rows)
    return f"{first}, or of {' or '.join(rest)} in its set" if rest else first


def _print_used(used: Sequence[Consumer]) -> None:
    from airflow_calib_provider.cli.output import table

    table(
        ["used by", "group", "campaign", "generation"],
        [(f"{one.workflow}.{one.task}", one.group, one.campaign, one.generation) for one in used],
    )


def _said(reason: str | None) -> str:
    """:raises CommandLineError: there is no reason, and nobody to ask."""
    import sys

    from airflow_calib_provider.errors import CommandLineError

    if reason is None and not sys.stdin.isatty():
        raise CommandLineError("missing --reason", 'say why: --reason "..."')
    return reason if reason is not None else str(typer.prompt("Reason"))


def rollback(
    tag: Tag,
    run: Annotated[int, typer.Argument(min=0, max=2**53, help="A run for which it holds.")],
    reason: Reason = None,
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="The content of this revision, not that before.")
    ] = None,
    campaign: Campaign = PROMPT,
    as_json: Json = False,
) -> None:
    """Publish the content of the revision before again, as a new one, for all of a set. Again goes further back."""
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    reason = _said(reason)
    ledger = open_ledger()
    row = api.payload_record(ledger, tag, run=run, campaign=campaign).payload
    made = api.rollback_payload(ledger, row, reason=reason, person=person(), revision=to)
    if as_json:
        first, *rest = (
            {"tag": one.tag, "revision": one.revision, "content_hash": one.content_hash} for one in (made, *made.rest)
        )
        emit_json({**first, "rest": rest})
        return
    for one in (made, *made.rest):
        runs = of_runs(one.iov.first, one.iov.last)
        print(f"published {one.tag} revision {one.revision} for {runs}, content {one.content_hash[:12]}")


def check(
    tag: Annotated[str | None, typer.Option("--tag", help="Only this tag.")] = None,
    campaign: Annotated[str | None, typer.Option("--campaign", "-c", help="Only this campaign; else all.")] = None,
    as_json: Json = False,
) -> None:
    """Compare the files of payloads, and what outside stores list, with the ledger: missing, changed, unknown, drift.

    What a store could not be asked, or where a publication is under way, is unchecked. The exit code is 1 if there is
    any of these.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json

    ledger = open_ledger()
    found = list(api.check_payloads(ledger, tag, campaign=campaign))
    drift = list(api.check_stores(ledger, tag, campaign=campaign))
    if as_json:
        files = [{"what": one.what, "path": str(one.path), **_which(one.payload)} for one in found]
        emit_json([*files, *(vars(one) for one in drift)])
    for one in () if as_json else found:
        named = (
            f": {one.payload.tag} revision {one.payload.revision} of {one.payload.group_name}" if one.payload else ""
        )
        print(f"{one.what}: {one.path}{named}")
    for differs in () if as_json else drift:
        print(f"{differs.what}: {differs.tag} in {differs.store}: {differs.said}")
    if not found and not drift and not as_json:
        print("all files are as they were published")
    raise typer.Exit(1 if found or drift else 0)


def _which(row: Payload | None) -> dict[str, object]:
    if row is None:
        return {}
    return {"tag": row.tag, "revision": row.revision, "group": row.group_name, "content_hash": row.content_hash}
