"""What the verdict of a validation task is worth for the file that is published.

A validation is of what its jobs have read. It counts only if this is the generation that the file comes from, and if
the file is still what that generation has made: so a verdict is bound to content, not to a name.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection, select

from airflow_calib_provider.domain.verdicts import judge
from airflow_calib_provider.jobsets.context import GroupContext
from airflow_calib_provider.jobsets.folders import generation_folder, product_path
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.used import Used
from airflow_calib_provider.payloads.life import Validation
from airflow_calib_provider.payloads.lineage import ancestors_of
from airflow_calib_provider.spec.models import Task, Workflow

generation, product, value = tables.generation, tables.product, tables.value


def validation_of(
    connection: Connection, workflow: Workflow, by: Task, context: GroupContext, files: Sequence[Path]
) -> Validation:
    """The verdict of a task on the files of a set: it must be about each of them.

    :param by: the task that validates; the publishing one needs it.
    :param context: of the publishing task.
    :param files: inside the folder of products.
    """
    ids = list(context.used["generations"].get(f"{workflow.name}.{by.name}", []))
    rows = connection.execute(
        select(generation.c.id, generation.c.n, generation.c.used).where(tables.one_of(generation.c.id, ids))
    ).all()
    findings = judge(by.verdict, _values(connection, ids))
    numbers = tuple(sorted(row.n for row in rows))
    if not rows:
        fault = f"{by.name} has looked at nothing"
    else:
        used = [row.used for row in rows]
        fault = next((said for file in files if (said := _fault(connection, by, context, file, used))), "")
    return Validation(by.name, tuple(findings), fault, numbers, frozenset(_digest(file) for file in files))


def _values(connection: Connection, ids: Iterable[int]) -> Mapping[str, list[float]]:
    """Those of the results of generations, by name."""
    query = select(value.c.name, value.c.value).where(tables.one_of(value.c.generation_id, ids), value.c.step == 0)
    found: dict[str, list[float]] = defaultdict(list)
    for row in connection.execute(query.order_by(value.c.generation_id, value.c.job_index)):
        found[row.name].append(row.value)
    return found


def _fault(connection: Connection, by: Task, context: GroupContext, file: Path, used: Iterable[Used]) -> str:
    """Why the verdict is about something else; empty: it is about this file."""
    made = [number for listed in context.used["generations"].values() for number in listed]
    folders = connection.execute(
        select(generation.c.id, generation.c.task, generation.c.n, generation.c.folder).where(
            tables.one_of(generation.c.id, made)
        )
    ).all()
    maker = next((row for row in folders if file.is_relative_to(generation_folder(row.folder))), None)
    if maker is None:
        return f"{file.name} comes from no task that is needed, so that {by.name} cannot have validated it"
    read = {number for one in used for listed in one.get("generations", {}).values() for number in listed}
    if maker.id not in ancestors_of(connection, read):
        return f"{by.name} has looked at another generation of {maker.task} than {maker.n}, which is published"
    known = connection.execute(
        select(product.c.job_index, product.c.file, product.c.checksum).where(
            product.c.generation_id == maker.id, product.c.checksum.is_not(None)
        )
    ).all()
    checksum = next(
        (row.checksum for row in known if product_path(maker.folder, row.job_index, row.file) == file), None
    )
    if checksum is not None and checksum != _digest(file):
        return f"{file.name} is not any more what {maker.task} has made and {by.name} has validated"
    return ""


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
