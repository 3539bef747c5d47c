"""What persons are asked about: a payload, or a set, each with a name for all of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from airflow_calib_provider.domain.listing import of_runs
from airflow_calib_provider.ledger.rows import Payload
from airflow_calib_provider.payloads import comparison

APPROVE, REJECT = "Approve", "Reject"
"""What can be answered, in Airflow's words; a question has them with the content that it is about."""


@dataclass(frozen=True)
class ApprovalQuestion:
    """As Airflow shows it.

    :ivar body: Markdown.
    :ivar options: what can be answered, a no last.
    """

    subject: str
    body: str
    options: tuple[str, str]


def option(word: str, content_hash: str) -> str:
    """An answer, with the content that it is about: whoever looks at a question of before has another one."""
    return f"{word} {content_hash[:12]}"


def hash_of(rows: Sequence[Payload]) -> str:
    """Of one payload the hash of its content; of a set that of its tags with the hashes of their contents.

    It depends on nothing else: neither on the order of the tags, nor on revisions.
    """
    if len(rows) == 1:
        return rows[0].content_hash
    lines = sorted(f"{row.tag} {row.content_hash}\n" for row in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def question_of(connection: Connection, rows: Sequence[Payload]) -> ApprovalQuestion:
    """The question about one payload, or about all of a set."""
    digest, first = hash_of(rows), rows[0]
    tags = [row.tag for row in rows]
    named = f"{', '.join(tags[:-1])} and {tags[-1]}" if len(tags) > 1 else tags[0]
    subject = f"Publish {named} for {of_runs(first.first_run, first.last_run)}?"
    texts = [comparison.request_text(connection, row) for row in rows]
    if len(rows) > 1:
        texts.insert(0, _overview(rows, digest))
    return ApprovalQuestion(subject, "\n\n".join(texts), (option(APPROVE, digest), option(REJECT, digest)))


def _overview(rows: Sequence[Payload], digest: str) -> str:
    """All that one answer is about."""
    lines = [
        f"One answer is about all of this set: `{digest}` (SHA-256 of its tags and contents).",
        "",
        "| tag | revision | file | content (SHA-256) | |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        known = "is published already" if row.state == "published" else ""
        file = comparison.inert(row.file_name)
        lines.append(f"| {row.tag} | {row.revision} | {file} | `{row.content_hash}` | {known} |")
    return "\n".join(lines)
