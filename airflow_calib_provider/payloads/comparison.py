"""A payload beside the one before it: what each was made for, and the values that were reported on the way."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from sqlalchemy import Connection, select

from airflow_calib_provider.domain.escaping import escaped
from airflow_calib_provider.domain.listing import of_runs
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import Payload
from airflow_calib_provider.payloads import life, store

generation, value, product = tables.generation, tables.value, tables.product

_SIGNS = re.compile(r"([\\`*_{}\[\]()<>#!|~])")
"""What has a meaning in Markdown within a line."""

PICTURES = (".svg", ".png", ".pdf", ".html")


@dataclass(frozen=True)
class OldAndNew:
    """A value of both.

    :ivar name: ``task.value``; of several jobs it is their mean.
    """

    name: str
    new: float | None
    old: float | None

    @property
    def change(self) -> float | None:
        """By how much it has changed; ``None``: one of them lacks it."""
        return None if self.new is None or self.old is None else self.new - self.old


def former(connection: Connection, row: Payload) -> Payload | None:
    """What holds for the runs of a payload without it: published before for them, else for the runs before."""
    runs = (row.first_run, row.last_run)
    found = [one for one in store.covering(connection, row.campaign, row.tag, runs) if one.id != row.id]
    if not found and row.state == "published":
        past = store.listed(connection, row.campaign, row.tag, history=True)
        found = [one for one in past if one.group_id == row.group_id and one.state == "superseded"]
    if not found:
        older = store.last_before(connection, row.campaign, row.tag, [row.first_run - 1])
        found = [one for one in older if one.id != row.id]
    return found[-1] if found else None


def values(connection: Connection, new: Payload, old: Payload | None) -> list[OldAndNew]:
    """The values that were reported in making them, by task and name."""
    here, there = _values(connection, new), _values(connection, old) if old is not None else {}
    return [OldAndNew(name, here.get(name), there.get(name)) for name in sorted({*here, *there})]


def generations_of(row: Payload) -> dict[int, Mapping[str, object]]:
    """Id → what is said of each generation that a payload was made by; of old payloads the ids are not known."""
    made = row.provenance.get("made_by", [])
    return {int(one["id"]): one for one in made if "id" in one} if isinstance(made, list) else {}


def _values(connection: Connection, row: Payload) -> dict[str, float]:
    query = select(generation.c.task, value.c.name, value.c.value).join(
        generation, generation.c.id == value.c.generation_id
    )
    query = query.where(tables.one_of(value.c.generation_id, generations_of(row)), value.c.step == 0)
    found: dict[str, list[float]] = defaultdict(list)
    for item in connection.execute(query):
        found[f"{item.task}.{item.name}"].append(item.value)
    return {name: fmean(numbers) for name, numbers in found.items()}


def pictures(connection: Connection, row: Payload) -> list[tuple[str, int, int, str]]:
    """Task, generation, job and file of the plots among the products of what made a payload."""
    query = select(generation.c.task, generation.c.n, product.c.job_index, product.c.file)
    query = query.join(generation, generation.c.id == product.c.generation_id)
    query = query.where(tables.one_of(product.c.generation_id, generations_of(row)), product.c.state == "accepted")
    rows = connection.execute(query.order_by(generation.c.task, product.c.job_index, product.c.file)).all()
    return [(one.task, one.n, one.job_index, one.file) for one in rows if one.file.endswith(PICTURES)]


def request_text(connection: Connection, row: Payload) -> str:
    """What persons are asked to approve, as Markdown: content, interval, verdicts, old against new, plots."""
    return "\n".join(_lines(connection, row))


def _lines(connection: Connection, row: Payload) -> Iterator[str]:
    old = former(connection, row)
    yield f"**{row.tag}** revision {row.revision} for {of_runs(row.first_run, row.last_run)},"
    yield f"made by {row.workflow}.{row.task} of {row.group_name} in the campaign {row.campaign}."
    yield ""
    yield "| | new | old |"
    yield "|---|---|---|"
    yield f"| content (SHA-256) | `{row.content_hash}` | {f'`{old.content_hash}`' if old else 'none'} |"
    yield f"| runs | {row.first_run}–{row.last_run} | {f'{old.first_run}–{old.last_run}' if old else ''} |"
    yield f"| revision | {row.revision} | {old.revision if old else ''} |"
    yield f"| bytes | {row.size} | {old.size if old else ''} |"
    yield from _verdicts(connection, row)
    yield from _table(values(connection, row, old))
    found = pictures(connection, row)
    if found:
        yield ""
        yield "Plots among the products:"
        yield ""
        yield from (f"- {inert(file)} of {task}, generation {n}, job {job}" for task, n, job, file in found[:20])


def _verdicts(connection: Connection, row: Payload) -> Iterator[str]:
    decided = [one for one in life.decisions(connection, [row.id]) if one.kind == "validation"]
    if not decided:
        return
    yield ""
    yield "| validated | is | asked | verdict |"
    yield "|---|---|---|---|"
    for one in decided[-1].details["findings"]:
        numbers = one["values"]
        said = ", ".join(number if isinstance(number, str) else f"{number:g}" for number in numbers)
        verdict = "good" if one["passed"] else "**bad**"
        yield f"| {inert(one['name'])} | {said or 'not reported'} | {one['asked']} | {verdict} |"


def _table(compared: Iterable[OldAndNew]) -> Iterator[str]:
    rows = list(compared)
    if not rows:
        return
    yield ""
    yield "| value | new | old | change |"
    yield "|---|---|---|---|"
    for one in rows[:100]:
        cells = [f"{number:.6g}" if number is not None else "" for number in (one.new, one.old, one.change)]
        yield f"| {inert(one.name)} | {' | '.join(cells)} |"


def inert(text: str) -> str:
    """A name that jobs have given, in Markdown: it must not look like a line of what is asked."""
    return _SIGNS.sub(r"\\\1", escaped(text))
