"""Two campaigns side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

from airflow_calib_provider.api.reading import check_names
from airflow_calib_provider.errors import CommandLineError, NotFound
from airflow_calib_provider.ledger import names, results
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.results import GroupValue, PublishedLine
from airflow_calib_provider.spec.problems import nearest

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class ValuePair:
    """A value of a group in two campaigns; ``None`` where one of them has none.

    :ivar same_runs: whether the group ends with the same run in both.
    """

    workflow: str
    task: str
    name: str
    group: str
    first_run: int
    first: float | None
    first_error: float | None
    second: float | None
    second_error: float | None
    same_runs: bool = True

    @property
    def difference(self) -> float | None:
        """Of the second from the first."""
        return None if self.first is None or self.second is None else self.second - self.first


@dataclass(frozen=True)
class PayloadPair:
    """What holds for some runs under a tag in two campaigns, without their base campaigns.

    :ivar first_run: of the interval, which is the largest over which neither changes; ``last_run`` is included.
    """

    tag: str
    first_run: int
    last_run: int
    first: PublishedLine | None
    second: PublishedLine | None

    @property
    def state(self) -> str:
        """``same``, ``different``, ``only first`` or ``only second``."""
        if self.second is None:
            return "only first"
        if self.first is None:
            return "only second"
        return "same" if self.first.content_hash == self.second.content_hash else "different"


@dataclass(frozen=True)
class CampaignComparison:
    """Two campaigns side by side."""

    first: str
    second: str
    values: Sequence[ValuePair]
    payloads: Sequence[PayloadPair]


def compare_campaigns(
    ledger: Ledger,
    first: str,
    second: str,
    *,
    workflow: str | None = None,
    task: str | None = None,
    name: str | None = None,
    tag: str | None = None,
) -> CampaignComparison:
    """Put the values of groups of the same name, and the payloads of the same runs, of two campaigns side by side.

    :param name: only this value; :param tag: only payloads of this tag.
    :raises NotFound: there is no such campaign, workflow, task or tag; or neither has such a value.
    :raises CommandLineError: both are the same.
    """
    if first == second:
        raise CommandLineError(f"{first} is compared with itself", "name two campaigns")
    with ledger.read() as connection:
        check_names(connection, first, workflow, task)
        check_names(connection, second)
        names.check_tag(connection, tag)
        pairs = _values(connection, first, second, workflow, task, name)
        if name is not None and not pairs:
            _refuse_name(connection, (first, second), workflow, task, name)
        published = [results.published(connection, campaign, workflow, task, tag) for campaign in (first, second)]
    return CampaignComparison(first, second, pairs, list(_payloads(*published)))


def _refuse_name(
    connection: Connection, of: Sequence[str], workflow: str | None, task: str | None, name: str
) -> NoReturn:
    """:raises NotFound: neither has a value of this name."""
    found = (results.values_by_group(connection, one, workflow=workflow, task=task, last=50) for one in of)
    known = sorted({item.name for items in found for item in items})
    reported = f"reported are {', '.join(known[:20])}" if known else "neither has reported any"
    raise NotFound(f"neither {of[0]} nor {of[1]} has a value {name}", f"{nearest(name, known)} {reported}".strip())


def _values(
    connection: Connection, first: str, second: str, workflow: str | None, task: str | None, name: str | None
) -> list[ValuePair]:
    of_first, of_second = (
        {
            (item.workflow, item.task, item.name, item.first_run, item.group): item
            for item in results.values_by_group(connection, campaign, workflow=workflow, task=task, name=name)
        }
        for campaign in (first, second)
    )
    return [_pair(of_first.get(key), of_second.get(key)) for key in sorted(of_first.keys() | of_second.keys())]


def _pair(first: GroupValue | None, second: GroupValue | None) -> ValuePair:
    about = first or second
    assert about is not None
    return ValuePair(
        about.workflow,
        about.task,
        about.name,
        about.group,
        about.first_run,
        first.value if first is not None else None,
        first.error if first is not None else None,
        second.value if second is not None else None,
        second.error if second is not None else None,
        same_runs=first is None or second is None or first.last_run == second.last_run,
    )


def _payloads(first: Sequence[PublishedLine], second: Sequence[PublishedLine]) -> Iterator[PayloadPair]:
    by_tag: dict[str, tuple[list[PublishedLine], list[PublishedLine]]] = defaultdict(lambda: ([], []))
    for number, rows in enumerate((first, second)):
        for row in rows:
            by_tag[row.tag][number].append(row)
    for tag, (mine, theirs) in sorted(by_tag.items()):
        yield from _pieces(tag, mine, theirs)


def _pieces(tag: str, first: Sequence[PublishedLine], second: Sequence[PublishedLine]) -> Iterator[PayloadPair]:
    """The largest intervals over which neither changes; those of one campaign are in run order, and do not overlap."""
    edges = sorted({run for row in (*first, *second) for run in (row.first_run, row.last_run + 1)})
    places = [0, 0]
    for begin, end in pairwise(edges):
        found: list[PublishedLine | None] = []
        for number, rows in enumerate((first, second)):
            while places[number] < len(rows) and rows[places[number]].last_run < begin:
                places[number] += 1
            row = rows[places[number]] if places[number] < len(rows) else None
            found.append(row if row is not None and row.first_run <= begin else None)
        if any(found):
            yield PayloadPair(tag, begin, end - 1, *found)
