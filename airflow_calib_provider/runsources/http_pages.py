"""Runs from a service that lists them as JSON, in one answer or in pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import urljoin

from airflow_calib_provider.domain.run import RunListing, RunRecord
from airflow_calib_provider.errors import RunSourceError
from airflow_calib_provider.outside.connections import outside_connection
from airflow_calib_provider.outside.http import HttpAnswer, HttpClient, HttpService
from airflow_calib_provider.outside.limits import Deadline
from airflow_calib_provider.outside.strict_json import at_path, kind_of
from airflow_calib_provider.runsources.faults import Faults, TooManyFaults
from airflow_calib_provider.runsources.http_kind import HttpKeys
from airflow_calib_provider.runsources.marks import Height, highest, read_marked
from airflow_calib_provider.runsources.objects import ObjectReader, value_at
from airflow_calib_provider.spec.models import FieldType

MAX_PAGES = 1_000
PASSES = 3
"""How often pages that are counted are read until two passes agree."""


def read_pages(
    name: str, keys: HttpKeys, fields: Mapping[str, FieldType], mark: Mapping[str, object], now: datetime
) -> RunListing:
    """Read the runs of a service.

    :param name: of the source.
    :param fields: the declared fields with their types.
    :param mark: what the last read has left.
    :raises RunSourceError: what it lists is not what it should be.
    :raises OutsideError: it does not answer as it should.
    """
    service = HttpService.of(outside_connection(keys.connection))
    deadline = Deadline.within(keys.timeout.total_seconds(), f"{name} ({service.url})")
    client = HttpClient(service, deadline)
    pages = _Pages(client, service, keys, fields)
    try:
        return read_marked(keys, keys.times(), mark, now, pages.fetch)
    finally:
        client.close()


class _Pages:
    """The pages of one service."""

    def __init__(
        self, client: HttpClient, service: HttpService, keys: HttpKeys, fields: Mapping[str, FieldType]
    ) -> None:
        self._client = client
        self._service = service
        self._keys = keys
        self._fields = fields

    def fetch(self, since: Height | None) -> tuple[list[RunRecord], Height | None]:
        """All runs, or those from a watermark on, and the highest watermark.

        Pages that are counted move when a run is inserted or removed meanwhile, and a run between two pages would be
        missed: if there are several, they count when a second pass has all runs of the first.
        """
        runs, top, pages = self._pass(since)
        paging = self._keys.paging
        if pages > 1 and paging is not None and (paging.page or paging.offset):
            for _ in range(PASSES - 1):
                before = runs.keys()
                runs, top, _ = self._pass(since)
                if before <= runs.keys():
                    break
            else:
                said = f"{self._address(since)}: what is listed changed while its pages were read, {PASSES} times"
                raise RunSourceError(said, "it is read again next time; pages by next or link do not move")
        return [runs[number] for number in sorted(runs)], top

    def _pass(self, since: Height | None) -> tuple[dict[int, RunRecord], Height | None, int]:
        """The runs by number, the highest watermark, and the number of pages that had any.

        A run that is on two pages was changed while they were read: the later one counts.
        """
        found: dict[int, RunRecord] = {}
        heights: list[object] = []
        pages = 0
        missing: set[str] | None = None
        paging = self._keys.paging
        for answer, objects in self._answers(since):
            new, lacks = self._read(answer, objects)
            if objects:
                missing = lacks if missing is None else missing & lacks
            if paging is not None and (paging.page or paging.offset):
                self._refuse_same(answer, found, new, pages)
            found |= new
            pages += bool(new)
            if self._keys.watermark is not None:
                heights += [value_at(item, self._keys.watermark) for item in objects if isinstance(item, dict)]
        if missing and since is None:
            said = f"{self._address(since)}: no run has {', '.join(sorted(self._keys.keys.get(n, n) for n in missing))}"
            raise RunSourceError(said, "say with `keys` where declared fields are in a run")
        if heights and all(value is None for value in heights):
            said = f"{self._address(since)}: no run has the watermark {self._keys.watermark!r}"
            raise RunSourceError(said, "say with `watermark` where it is in a run")
        return found, highest(heights, self._keys.times(), self._service.url), pages

    def _read(self, answer: HttpAnswer, objects: list[object]) -> tuple[dict[int, RunRecord], set[str]]:
        """The runs of one answer, and the fields that none of them has: on another page some may."""
        faults = Faults()
        reader = ObjectReader(self._keys.keys, self._fields, self._keys.times(), faults)
        name = self._keys.runs or "run"
        placed = [(f"{answer.address}: {name}[{index}]", item) for index, item in enumerate(objects)]
        missing = reader.missing_in(placed)
        with suppress(TooManyFaults):
            if "number" in missing:
                reader.add_all(placed)
            else:
                reader.add(placed)
        faults.raise_if_any()
        return {record.number: record for record in reader.records()}, missing

    def _refuse_same(
        self, answer: HttpAnswer, found: Mapping[int, RunRecord], new: Mapping[int, RunRecord], pages: int
    ) -> None:
        """:raises RunSourceError: a page brings nothing that was not there: the next one would not, either."""
        if pages and new and new.keys() <= found.keys():
            said = f"{answer.address}: page {pages + 1} has no run that was not on one before"
            raise RunSourceError(said, "does the service know this way of paging?")

    def _answers(self, since: Height | None) -> Iterator[tuple[HttpAnswer, list[object]]]:
        paging = self._keys.paging
        address, count = self._address(since), 0
        seen = {address}
        for index in range(MAX_PAGES):
            answer = self._client.get_json(address)
            objects = self._objects(answer)
            yield answer, objects
            count += len(objects)
            following = None
            if paging is not None and (paging.page or paging.offset):
                position = count if paging.offset else paging.first + index + 1
                following = self._address(since, position) if objects else None
            elif paging is not None:
                following = answer.next_link if paging.link else self._next(answer, paging.next or "")
            if not following:
                return
            if following in seen:
                raise RunSourceError(f"{answer.address}: its next page is one that was read before")
            seen.add(following)
            address = following
        raise RunSourceError(f"{self._address(since)}: more than {MAX_PAGES:,} pages", "ask for larger ones")

    def _address(self, since: Height | None, position: int | None = None) -> str:
        keys = self._keys
        given = {name: _text(value) for name, value in keys.parameters.items()}
        if keys.since is not None and since is not None:
            given[keys.since] = _text(since)
        if keys.paging is not None and keys.paging.page:
            given[keys.paging.page] = str(keys.paging.first if position is None else position)
        if keys.paging is not None and keys.paging.offset:
            given[keys.paging.offset] = str(position or 0)
        return self._service.address(keys.path, given.items())

    def _objects(self, answer: HttpAnswer) -> list[object]:
        where = self._keys.runs
        try:
            found = at_path(answer.document, where)
        except KeyError as error:
            said = f"{answer.address}: there is no list at {where!r}: nothing has {error.args[0]!r}"
            raise RunSourceError(said, "say with `runs` where it is") from None
        if not isinstance(found, list):
            said = f"{answer.address}: {where or 'the answer'} is {kind_of(found)}"
            raise RunSourceError(said, "say with `runs` where the list of runs is")
        return found

    def _next(self, answer: HttpAnswer, where: str) -> str:
        """The address of the next page as the answer has it; empty: this is the last."""
        try:
            found = at_path(answer.document, where)
        except KeyError:
            return ""
        if found is None or found == "":
            return ""
        if not isinstance(found, str):
            raise RunSourceError(f"{answer.address}: {where} is {kind_of(found)}", "the address of the next page")
        try:
            return urljoin(answer.address, found)
        except ValueError:
            raise RunSourceError(f"{answer.address}: {where} is no address") from None


def _text(value: object) -> str:
    """A parameter as it is sent; a part of a second is left out of times, so that nothing of it is missed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
