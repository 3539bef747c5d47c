# ruff: noqa: E501 - what is said about an answer stands on one line
"""Runs from a real HTTP server: in pages, while they change, and with all that servers do instead of answering."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.domain.run import RunListing
from airflow_calib_provider.errors import RunSourceError
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.runsources import read_source
from airflow_calib_provider.runsources.base import read_on
from airflow_calib_provider.spec.loader import load_sources
from airflow_calib_provider.spec.models import RunSource
from tests.outside.server import Asked, JsonServer, json_server
from tests.runsources.connecting import connected

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECRET = "very-secret"


@pytest.fixture
def server() -> Iterator[JsonServer]:
    with (
        json_server() as server,
        connected(OutsideConnection("calib_http", "calib_http", server.url, password=SECRET)),
    ):
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], RunSource]:
    def make(block: str) -> RunSource:
        file = tmp_path / "sources.yaml"
        file.write_text(f"apiVersion: calib/v1\nsources:\n  daq:\n    http: {block}\n    fields: {{fill: int}}\n")
        return load_sources(file)["daq"]

    return make


def runs(*numbers: int) -> list[dict[str, Any]]:
    return [{"number": number, "fill": number // 10} for number in numbers]


def numbers(source: RunSource) -> list[int]:
    return [run.number for run in read_source(source, base_folder=Path())]


WAYS = {
    "next": "{path: runs, runs: data, paging: {next: links.next}}",
    "link": "{path: runs, runs: data, paging: {link: true}}",
    "page": "{path: runs, runs: data, paging: {page: p}, parameters: {size: 2}}",
    "page from 0": "{path: runs, runs: data, paging: {page: p0, first: 0}, parameters: {size: 2}}",
    "offset": "{path: runs, runs: data, paging: {offset: skip}, parameters: {limit: 2}}",
}


def serve(asked: Asked, listed: list[dict[str, Any]]) -> None:
    """Pages of two, asked for in any way."""
    query = asked.query
    begin = int(query.get("skip", 0)) or 2 * int(query.get("p0", 0)) or 2 * (int(query.get("p", 1)) - 1)
    following = f"?p={begin // 2 + 2}" if begin + 2 < len(listed) else None
    link = {"Link": f'<{following}>; rel="next"'} if following else {}
    asked.reply({"data": listed[begin : begin + 2], "links": {"next": following}}, **link)


@pytest.mark.parametrize("way", WAYS)
def test_pages(way: str, server: JsonServer, source: Callable[[str], RunSource]) -> None:
    server.answer = lambda asked: serve(asked, runs(5, 4, 3, 2, 1))
    assert numbers(source(WAYS[way])) == [1, 2, 3, 4, 5]
    assert all(path.startswith("/runs") for path, _ in server.asked)
    server.answer = lambda asked: serve(asked, [])
    assert numbers(source(WAYS[way])) == []


def test_a_key_may_be_missing_on_a_page_but_not_everywhere(
    server: JsonServer, source: Callable[[str], RunSource]
) -> None:
    listed: list[dict[str, Any]] = [*runs(1, 2), {"number": 3}]
    server.answer = lambda asked: serve(asked, listed)
    own = source(WAYS["next"])
    assert [run.fields["fill"] for run in read_source(own, base_folder=Path())] == [0, 0, None]
    del listed[:2]
    with pytest.raises(RunSourceError, match="no run has fill; say with `keys` where declared fields are in a run"):
        numbers(own)
    listed[:] = [{"nomber": 1}]
    with pytest.raises(RunSourceError, match="nothing has 'number'; expected nomber; did you mean"):
        numbers(own)


@pytest.mark.parametrize("way", ["page", "offset"])
def test_a_run_that_slips_between_pages_is_not_missed(
    way: str, server: JsonServer, source: Callable[[str], RunSource]
) -> None:
    def answer(asked: Asked) -> None:
        # After the first page a run of it is withdrawn: all others move up by one, and 3 would be missed.
        serve(asked, runs(5, 4, 3, 2, 1) if len(server.asked) == 1 else runs(4, 3, 2, 1))

    server.answer = answer
    found = numbers(source(WAYS[way]))
    assert {1, 2, 3, 4} <= set(found)


def test_what_never_stops_changing_is_an_error(server: JsonServer, source: Callable[[str], RunSource]) -> None:
    passes = []

    def answer(asked: Asked) -> None:
        if asked.query.get("p") == "1":
            passes.append(len(passes))
        serve(asked, runs(*range(10 * len(passes), 10 * len(passes) + 4)))

    server.answer = answer
    with pytest.raises(RunSourceError, match="changed while its pages were read, 3 times"):
        numbers(source(WAYS["page"]))


def test_a_run_that_changes_while_pages_are_read_counts_as_it_is_at_last(
    server: JsonServer, source: Callable[[str], RunSource]
) -> None:
    pages = [[{"number": 1, "fill": 1}, {"number": 2, "fill": 1}], [{"number": 2, "fill": 7}]]
    server.answer = lambda asked: asked.reply(pages[1] if asked.query else pages[0], Link='<?b=1>; rel="next"')
    own = source("{paging: {link: true}}")
    with pytest.raises(RunSourceError, match="its next page is one that was read before"):
        numbers(own)
    server.answer = lambda asked: (
        asked.reply(pages[1]) if asked.query else asked.reply(pages[0], Link="<?b=1>; rel=next")
    )
    assert read_source(own, base_folder=Path())[1].fields["fill"] == 7


BAD: dict[str, tuple[str, Callable[[Asked], None], str]] = {
    "ignores paging": (WAYS["page"], lambda asked: asked.reply({"data": runs(1, 2)}), "page 2 has no run that was not"),
    "elsewhere": (WAYS["next"], lambda asked: asked.reply({"data": [], "links": {"next": "http://evil.example/"}}), "is not on the host"),
    "no list": (WAYS["next"], lambda asked: asked.reply({"data": {}}), "data is an object; say with `runs`"),
    "no key": (WAYS["next"], lambda asked: asked.reply({"date": []}), "there is no list at 'data': nothing has 'data'"),
    "no address": (WAYS["next"], lambda asked: asked.reply({"data": [], "links": {"next": 5}}), "links.next is the number 5"),
    "bad run": ("{}", lambda asked: asked.reply([{"number": 1, "fill": 2}, {"number": 2, "fill": "x"}]), r"run\[1\].fill: 'x' is no whole number"),
    "relative file": ("{}", lambda asked: asked.reply([{"number": 1, "fill": 1, "files": ["a"]}]), "is relative, and nothing says to what"),
    "html": ("{}", lambda asked: asked.reply(b"<html>", Content_Type="text/html"), "a page of HTML"),
    "401": ("{}", lambda asked: asked.reply(SECRET.encode(), 401), r"HTTP 401: \*\*\*"),
    "never": ("{timeout: 1s}", lambda asked: asked.server.over.wait(60) and None, "no complete answer within 1 s"),
    "no watermark": ("{watermark: changed, since: s}", lambda asked: asked.reply(runs(1)), "no run has the watermark 'changed'"),
    "infinite": ("{}", lambda asked: asked.reply(b'[{"number": 1, "fill": 1e400}]'), r"run\[0\].fill: it is the number inf; expected a whole number"),
    "many digits": ("{}", lambda asked: asked.reply(b'[{"number": 1, "fill": 1%s}]' % (b"0" * 400)), r"run\[0\].fill: it is the number 1000"),
    "many digits of a run": ("{}", lambda asked: asked.reply(b'[{"number": 1%s, "fill": 1}]' % (b"0" * 400)), r"run\[0\].number: it is the number 1000"),
    "NaN": ("{}", lambda asked: asked.reply(b'[{"number": 1, "fill": NaN}]'), "NaN is no number of JSON"),
    "twice": ("{}", lambda asked: asked.reply([{"number": 1, "fill": 1}, {"number": 1, "fill": 2}]), r"run 1 is there twice with different content.*first at .*run\[0\]"),
    "cut": ("{}", lambda asked: asked.reply(b'[{"number": 1, "fill": 1}, {"num'), "the answer is not JSON: Unterminated string starting at at character 28 of 32 bytes"),
    "huge epoch": ("{epoch: seconds, keys: {start: at}}", lambda asked: asked.reply(b'[{"number": 1, "fill": 1, "at": 1%s}]' % (b"0" * 400)), r"run\[0\].at: 1000+ is no time"),
    "a time without a zone's hour": ("{zone: Europe/Zurich}", lambda asked: asked.reply([{"number": 1, "fill": 1, "start": "2026-03-29T02:30:00"}]), r"run\[0\].start: .*2026-03-29 02:30:00 does not exist in Europe/Zurich"),
    "infinite watermark": ("{watermark: fill, since: s}", lambda asked: asked.reply(b'[{"number": 1, "fill": 1}, {"number": 2, "fill": 1e400}]'), "fill"),
    "huge watermark": ("{watermark: w, since: s, epoch: seconds}", lambda asked: asked.reply(b'[{"number": 1, "fill": 1, "w": 1%s}]' % (b"0" * 400)), "the watermark is the number 1000"),
    "odd watermark": ("{watermark: fill, since: s, overlap: 1h}", lambda asked: asked.reply([{"number": 1, "fill": "1"}]), "the watermark '1' is not a time"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_with_its_place(
    case: str, server: JsonServer, source: Callable[[str], RunSource]
) -> None:
    block, server.answer, said = BAD[case]
    with pytest.raises(RunSourceError, match=said) as caught:
        numbers(source(block))
    assert SECRET not in str(caught.value)


class TestWatermark:
    """A service that lists what was changed since a time."""

    BLOCK = "{parameters: {all: true}, watermark: changed, since: changed_since, overlap: 30m, all_every: 12h}"

    @pytest.fixture
    def table(self, server: JsonServer) -> dict[int, datetime]:
        """Run → when it was changed."""
        table: dict[int, datetime] = {}

        def answer(asked: Asked) -> None:
            since = datetime.fromisoformat(asked.query.get("changed_since", "1970-01-01T00:00:00Z"))
            found = [(number, at) for number, at in table.items() if at >= since]
            # What is not known yet is left out.
            fills = [{"fill": 1} if n < 5 else {} for n, _ in found]
            asked.reply(
                [{"number": n, "changed": at.isoformat(), **fill} for (n, at), fill in zip(found, fills, strict=True)]
            )

        server.answer = answer
        return table

    def test_only_what_is_new_is_asked_for_and_all_of_it_every_so_often(
        self, server: JsonServer, source: Callable[[str], RunSource], table: dict[int, datetime]
    ) -> None:
        own = source(self.BLOCK)

        def read(mark: Any, now: datetime) -> RunListing:
            return read_on(own, base_folder=Path(), mark=mark, now=now)

        table |= {1: NOW - timedelta(days=2), 2: NOW - timedelta(hours=1)}
        first = read(None, NOW)
        assert (first.complete, [run.number for run in first.runs]) == (True, [1, 2])
        table |= {3: NOW - timedelta(minutes=80), 4: NOW}  # 3 is committed late: within the overlap
        second = read(first.mark, NOW + timedelta(minutes=1))
        assert (second.complete, [run.number for run in second.runs]) == (False, [2, 3, 4])
        assert "changed_since=2026-05-01T10%3A30%3A00Z" in server.asked[-1][0]
        table[1] = NOW + timedelta(minutes=2)  # corrected
        third = read(second.mark, NOW + timedelta(minutes=3))
        assert [run.number for run in third.runs] == [1, 4]
        table |= {5: NOW + timedelta(days=1)}
        del table[4], table[1]
        table[2] = NOW
        fourth = read(third.mark, NOW + timedelta(minutes=4))
        assert [(run.number, run.fields["fill"]) for run in fourth.runs] == [(2, 1), (5, None)]
        late = read(third.mark, NOW + timedelta(hours=13))
        assert (late.complete, len(late.runs)) == (True, 3)

    def test_watermarks_that_go_backwards_read_everything(
        self, server: JsonServer, source: Callable[[str], RunSource], table: dict[int, datetime]
    ) -> None:
        own = source(self.BLOCK)
        table |= {1: NOW, 2: NOW}
        first = read_on(own, base_folder=Path(), mark=None, now=NOW)
        table.clear()
        table |= {1: NOW - timedelta(days=3), 3: NOW - timedelta(minutes=1)}  # a backup was restored
        second = read_on(own, base_folder=Path(), mark=first.mark, now=NOW)
        assert (second.complete, [run.number for run in second.runs]) == (True, [1, 3])

    def test_a_watermark_of_the_future_hides_nothing(
        self, source: Callable[[str], RunSource], table: dict[int, datetime]
    ) -> None:
        own = source(self.BLOCK)
        table[1] = NOW + timedelta(days=3650)
        first = read_on(own, base_folder=Path(), mark=None, now=NOW)
        table[2] = NOW
        second = read_on(own, base_folder=Path(), mark=first.mark, now=NOW)
        assert (second.complete, [run.number for run in second.runs]) == (False, [1, 2])

    def test_a_source_that_was_edited_is_read_anew(
        self, source: Callable[[str], RunSource], table: dict[int, datetime]
    ) -> None:
        table[1] = NOW
        first = read_on(source(self.BLOCK), base_folder=Path(), mark=None, now=NOW)
        edited = source(self.BLOCK.replace("30m", "40m"))
        assert read_on(edited, base_folder=Path(), mark=first.mark, now=NOW).complete
        assert not read_on(source(self.BLOCK), base_folder=Path(), mark=first.mark, now=NOW).complete
