"""Products on record: what accepted attempts have left, its checksums, and what is dropped (rule 62)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    update,
)

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.rows import read_rows
from airflow_calib_provider.ledger.transitions import Move, Subject, move

product, generation, group, job = tables.product, tables.generation, tables.run_group, tables.job

ACCEPTED, DROPPED = "accepted", "dropped"

KEY = (product.c.generation_id, product.c.step, product.c.job_index, product.c.name)


@dataclass(frozen=True)
class Kept:
    """What is known of a product's content.

    :ivar size: in bytes, of a folder that of its files.
    :ivar checksum: SHA-256 in hexadecimal, if somebody has made it.
    """

    size: int
    checksum: str | None = None


class Key(NamedTuple):
    """The primary key of a product, in the order in which pages go."""

    generation_id: int
    step: int
    job_index: int
    name: str


class StoredProduct(NamedTuple):
    """A product on record, with where it lies.

    :ivar folder: of the generation, as in the ledger.
    :ivar accepted_attempt: the attempt that made it.
    """

    generation_id: int
    step: int
    job_index: int
    name: str
    file: str
    size: int | None
    checksum: str | None
    state: str
    drop_at: datetime | None
    removed_at: datetime | None
    accepted_attempt: int | None
    task: str
    generation: int
    folder: str
    campaign: str
    workflow: str
    group: str
    first_run: int

    @property
    def key(self) -> Key:
        """Its primary key."""
        return Key(self.generation_id, self.step, self.job_index, self.name)


def new_rows(
    key: Mapping[str, object],
    products: Mapping[str, str],
    kept: Mapping[str, Kept],
    drops: Mapping[str, float],
    at: datetime,
) -> list[dict[str, object]]:
    """The rows of what an accepted attempt has left.

    :param key: of the job.
    :param products: name → file.
    :param kept: file → what is known of it.
    :param drops: name → seconds after which it may be removed.
    :param at: when it was made.
    """
    return [
        {
            **key,
            "name": name,
            "file": file,
            "size": kept[file].size if file in kept else None,
            "checksum": kept[file].checksum if file in kept else None,
            "drop_at": at + timedelta(seconds=drops[name]) if name in drops else None,
        }
        for name, file in products.items()
    ]


def with_places() -> Select[Any]:
    """Products as records, of which a query takes some."""
    of_job = and_(
        job.c.generation_id == product.c.generation_id,
        job.c.step == product.c.step,
        job.c.job_index == product.c.job_index,
    )
    own = (product.c.file, product.c.size, product.c.checksum, product.c.state, product.c.drop_at, product.c.removed_at)
    made = (generation.c.task, generation.c.n.label("generation"), generation.c.folder)
    of_group = (group.c.campaign, group.c.workflow, group.c.name.label("group"), group.c.first_run)
    return (
        select(*KEY, *own, job.c.accepted_attempt, *made, *of_group)
        .select_from(product)
        .join(generation, generation.c.id == product.c.generation_id)
        .join(group, group.c.id == generation.c.group_id)
        .outerjoin(job, of_job)
    )


def page(
    connection: Connection,
    after: Key | None,
    limit: int,
    *of_product: ColumnElement[bool],
    where: Sequence[ColumnElement[bool]] = (),
    among: Iterable[int] | None = None,
) -> tuple[list[StoredProduct], Key | None]:
    """The next products, in the order of their keys, and where the page after them begins; ``None``: it is the last.

    The keys come from the table alone, and what else is known of them by a second statement: asked together, all that
    a campaign has would be sorted for each page.

    :param after: where this page begins.
    :param of_product: conditions of products; a page has so many that meet them.
    :param where: further ones, of groups and generations; those that do not meet them are left out.
    :param among: only of these generations.
    """
    query = select(*KEY).where(*of_product).order_by(*KEY).limit(limit)
    if among is not None:
        query = query.where(tables.one_of(KEY[0], among))
    if after is not None:
        # The first condition is what an index is entered with, the second what is exact.
        query = query.where(KEY[0] >= after[0], tuple_(*KEY) > tuple_(*map(literal, after)))
    keys = [Key(*row) for row in connection.execute(query)]
    if not keys:
        return [], None
    inside = tuple_(*KEY).between(tuple_(*map(literal, keys[0])), tuple_(*map(literal, keys[-1])))
    here = (tables.one_of(KEY[0], {key.generation_id for key in keys}), inside)
    query = with_places().where(*here, *of_product, *where).order_by(*KEY)
    return read_rows(connection, query, StoredProduct), keys[-1] if len(keys) == limit else None


def generation_ids(connection: Connection, *where: ColumnElement[bool]) -> list[int]:
    """The generations of some groups, in order."""
    query = select(generation.c.id).join(group, group.c.id == generation.c.group_id).where(*where)
    return list(connection.execute(query.order_by(generation.c.id)).scalars())


def count(connection: Connection, campaign: str | None, workflow: str | None, task: str | None) -> int:
    """How many products are kept."""
    query = select(func.count()).select_from(product).where(product.c.state == ACCEPTED)
    named = ((group.c.campaign, campaign), (group.c.workflow, workflow), (generation.c.task, task))
    wanted = [(column, text) for column, text in named if text is not None]
    if wanted:
        query = query.join(generation, generation.c.id == product.c.generation_id)
        query = query.join(group, group.c.id == generation.c.group_id)
    return int(connection.execute(query.where(*(column == text for column, text in wanted))).scalar_one())


def unsummed() -> tuple[ColumnElement[bool], ...]:
    """The condition of products whose checksum nobody has made yet."""
    # As the index has it: of a parameter SQLite does not know what it will be.
    return product.c.checksum.is_(None), product.c.state == literal_column(f"'{ACCEPTED}'")


def note_content(connection: Connection, found: Mapping[Key, Kept]) -> None:
    """Record sizes and checksums of products that had no checksum; by key."""
    if not found:
        return
    names = ("of", "at", "of_job", "called")
    here = [column == bindparam(name) for column, name in zip(KEY, names, strict=True)]
    size = func.coalesce(product.c.size, bindparam("bytes"))
    statement = update(product).where(*here, product.c.checksum.is_(None))
    connection.execute(
        statement.values(size=size, checksum=bindparam("digest")),
        [
            {**dict(zip(names, key, strict=True)), "bytes": item.size, "digest": item.checksum}
            for key, item in found.items()
        ],
    )


def bounds(connection: Connection) -> tuple[int, int] | None:
    """The first and the last generation that has products; ``None``: there are none."""
    first, last = (
        connection.execute(select(product.c.generation_id).order_by(order).limit(1)).scalar()
        for order in (product.c.generation_id, product.c.generation_id.desc())
    )
    return None if first is None or last is None else (first, last)


def read_by_running(connection: Connection) -> set[int]:
    """The generations that run, and those whose products they read."""
    found: set[int] = set()
    rows = connection.execute(select(generation.c.id, generation.c.used).where(generation.c.state == "running"))
    for row in rows:
        found.add(row.id)
        for numbers in row.used.get("generations", {}).values():
            found.update(numbers)
    return found


def drop_due(connection: Connection, now: datetime, limit: int) -> list[StoredProduct]:
    """Mark products whose time is over as dropped: from now on nothing begins with them.

    Those of job sets that run, and what these read, are left for later.

    :returns: which; their files are there still.
    """
    due = _due(connection, ACCEPTED, now, limit)
    moves = [
        Move(
            item.key._asdict(),
            ACCEPTED,
            DROPPED,
            Subject(
                item.campaign,
                item.workflow,
                item.task,
                item.group,
                generation=item.generation,
                job_index=item.job_index,
            ),
            data={"name": item.name, "file": item.file, "size": item.size},
        )
        for item in due
    ]
    move(connection, product, moves)
    return due


def dropped_with_files(connection: Connection, now: datetime, limit: int) -> list[StoredProduct]:
    """Dropped products whose files were not removed yet, and that nothing reads that runs."""
    return _due(connection, DROPPED, now, limit)


def _due(connection: Connection, state: str, now: datetime, limit: int) -> list[StoredProduct]:
    where = [product.c.state == state, product.c.drop_at <= now, product.c.removed_at.is_(None)]
    if in_use := read_by_running(connection):
        where.append(~tables.one_of(product.c.generation_id, in_use))
    query = with_places().where(product.c.drop_at.is_not(None), *where)
    return read_rows(connection, query.order_by(product.c.drop_at, *KEY).limit(limit), StoredProduct)


def others_of_job(connection: Connection, item: StoredProduct) -> list[str]:
    """The files of the other products of its job that are to stay."""
    here = (
        product.c.generation_id == item.generation_id,
        product.c.step == item.step,
        product.c.job_index == item.job_index,
    )
    query = select(product.c.file).where(*here, product.c.state == ACCEPTED)
    return list(connection.execute(query).scalars())


def note_removed(connection: Connection, items: Iterable[StoredProduct], now: datetime) -> None:
    """Record that the files of dropped products are gone."""
    for item in items:
        here = [column == value for column, value in zip(KEY, item.key, strict=True)]
        connection.execute(update(product).where(*here, product.c.state == DROPPED).values(removed_at=now))


def known_folders(connection: Connection, folders: Sequence[str]) -> set[str]:
    """Those of these folders that belong to generations.

    :param folders: ``campaign/workflow/task/group/g<n>``, all of one campaign.
    """
    parts = {tuple(folder.split("/")): folder for folder in folders}
    names = sorted({part[3] for part in parts})
    query = (
        select(group.c.campaign, group.c.workflow, generation.c.task, group.c.name, generation.c.n)
        .join(group, group.c.id == generation.c.group_id)
        .where(
            group.c.campaign.in_(sorted({part[0] for part in parts})),
            group.c.workflow.in_(sorted({part[1] for part in parts})),
            group.c.name.in_(names),
        )
    )
    known = {(row[0], row[1], row[2], row[3], f"g{row[4]}") for row in connection.execute(query).all()}
    return {folder for part, folder in parts.items() if part in known}
