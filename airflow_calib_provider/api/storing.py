"""Products beside storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from airflow_calib_provider.api.reading import PROMPT, RunRange, _ids, check_names
from airflow_calib_provider.jobsets import storage
from airflow_calib_provider.ledger import products, results
from airflow_calib_provider.ledger.engine import Ledger

if TYPE_CHECKING:
    from airflow_calib_provider.jobsets.storage import Compared


def check_products(
    ledger: Ledger,
    of: int | str | None = None,
    *,
    campaign: str | None = PROMPT,
    workflow: str | None = None,
    task: str | None = None,
    runs: Sequence[RunRange] = (),
    sizes_only: bool = False,
    unknown: bool = True,
) -> Iterator[Compared]:
    """Compare products on record with storage, one after the other, however many there are.

    Of every generation, not only of the latest; dropped ones are left out.

    :param of: as in :func:`products`.
    :param campaign: ``None``: every one.
    :param sizes_only: do not read the files.
    :param unknown: look in storage for what the ledger does not know, too, where nothing but a campaign is named.
    :raises NotFound: there is no such campaign, workflow, task, group or run.
    """
    named = ((products.group.c.campaign, campaign), (products.group.c.workflow, workflow))
    where = [column == name for column, name in (*named, (products.generation.c.task, task)) if name is not None]
    among = None
    with ledger.read() as connection:
        if campaign is not None:
            check_names(connection, campaign, workflow, task)
        if of is not None or runs:
            chosen = _ids(connection, of, campaign or PROMPT, workflow, task, None)
            few = results.of_groups(campaign or PROMPT, workflow, chosen, runs)
            among = products.generation_ids(connection, *few)
    yield from storage.compare(ledger, *where, among=among, sizes_only=sizes_only)
    if unknown and (of, workflow, task) == (None, None, None) and not runs:
        yield from storage.unknown_folders(ledger, campaign)


def count_products(
    ledger: Ledger, campaign: str | None = PROMPT, workflow: str | None = None, task: str | None = None
) -> int:
    """About how many products :func:`check_products` compares, for a progress bar."""
    with ledger.read() as connection:
        return products.count(connection, campaign, workflow, task)
