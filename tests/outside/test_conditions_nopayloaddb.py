"""nopayloaddb as an outside store: read, written, and with the oddities of its server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.errors import OutsideError, StoreRefused, StoreUnauthorised, StoreUnavailable
from airflow_calib_provider.outside.conditions import PlacedPayload
from airflow_calib_provider.outside.conditions_nopayloaddb import NopayloaddbStore
from airflow_calib_provider.outside.connections import OutsideConnection, look_up_with
from tests.outside.conformance import ConditionsStoreConformance, Interval, Put
from tests.outside.nopayloaddb import Nopayloaddb, nopayloaddb
from tests.outside.writing import KeptContentsConformance, WritableStoreConformance


@pytest.fixture
def database() -> Iterator[Nopayloaddb]:
    with nopayloaddb() as server:
        server.token = "let-me-in"
        server.make("PROMPT", "Fixed")
        yield server


@pytest.fixture(autouse=True)
def connection(database: Nopayloaddb, tmp_path: Path) -> Iterator[None]:
    files = tmp_path / "files"
    files.mkdir()
    found = OutsideConnection(
        "npdb", "calib_nopayloaddb", host=database.url, password="let-me-in", extra={"files": str(files)}
    )
    look_up_with({"npdb": found}.get)
    yield
    look_up_with(lambda name: None)


class _Faults:
    def __init__(self, database: Nopayloaddb) -> None:
        self.database = database

    def arm(self, number: int, what: str, pid: int) -> None:
        # In a child of this process the server is a copy that nobody asks: it is told over the line.
        import urllib.request

        body = f"{number} {what} {pid}".encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.database.url}/arm", body, method="PATCH")).read()

    def calls(self) -> int:
        return self.database.count

    def disarm(self) -> None:
        self.database.faults.clear()


class TestNopayloaddb(ConditionsStoreConformance, WritableStoreConformance, KeptContentsConformance):
    @pytest.fixture
    def name(self) -> str:
        return "nopayloaddb"

    @pytest.fixture
    def place(self) -> str:
        return "npdb/PROMPT"

    @pytest.fixture
    def no_place(self) -> str:
        return "npdb"

    @pytest.fixture
    def put(self, database: Nopayloaddb) -> Put:
        def write(tag: str, intervals: Iterable[Interval]) -> None:
            label = database.list_of("PROMPT", tag)
            database.intervals = [one for one in database.intervals if one["payload_list"] != label or label is None]
            for first, last, file in intervals:
                database.place("PROMPT", tag, file, first, None if last is None else last + 1)

        return write

    @pytest.fixture
    def breaks(self, database: Nopayloaddb) -> Callable[[], None]:
        def stop() -> None:
            database.shutdown()
            database.server_close()

        return stop

    @pytest.fixture
    def ready_tags(self, database: Nopayloaddb) -> Callable[[], tuple[str, str]]:
        def make() -> tuple[str, str]:
            tags = f"Scale{len(database.lists)}", f"Errors{len(database.lists)}"
            database.make("PROMPT", *tags)
            return tags

        return make

    @pytest.fixture
    def faults(self, database: Nopayloaddb) -> _Faults:
        return _Faults(database)

    @pytest.fixture
    def spoil(self, tmp_path: Path) -> Callable[[NopayloaddbStore, PlacedPayload, str | None], None]:
        def change(_: NopayloaddbStore, one: PlacedPayload, text: str | None) -> None:
            file = tmp_path / "files" / one.file
            file.unlink()
            if text is not None:
                file.write_text(text)

        return change

    def test_what_others_have_put_elsewhere_is_not_looked_at(self, store, database, tmp_path):
        (tmp_path / "secret").write_text("theirs")
        digest = "ab" * 32
        for number, file in enumerate(
            [f"../secret/{digest}", "/etc/hostname", f"Fixed/../../{digest}", "Fixed/own.root"]
        ):
            database.place("PROMPT", "Fixed", file, 10 * number, 10 * number + 5, f"sha256:{digest}")
        assert len(store.current("Fixed")) == 4
        assert store.altered("Fixed", store.current("Fixed")) == []

    def test_a_folder_that_is_not_there_says_nothing_about_contents(self, store, publish, ready_tags, tmp_path):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        (tmp_path / "files").rename(tmp_path / "away")
        with pytest.raises(StoreUnavailable, match="files is not there"):
            store.altered(tags[0], store.current(tags[0]))


@pytest.fixture
def store() -> NopayloaddbStore:
    return NopayloaddbStore("npdb/PROMPT")


@pytest.mark.parametrize("state", ["locked", "frozen"])
def test_a_global_tag_that_is_not_unlocked_is_refused_before_anything_is_sent(store, database, state):
    database.states["PROMPT"] = state
    with pytest.raises(StoreRefused, match=f"PROMPT is {state}"):
        store.ready(["Fixed"])


def test_types_and_global_tags_are_not_made(store):
    with pytest.raises(StoreRefused, match="no payload list of the type Other"):
        store.ready(["Other"])
    with pytest.raises(StoreRefused, match="no global tag NIGHTLY"):
        NopayloaddbStore("npdb/NIGHTLY").ready(["Fixed"])


def test_who_is_not_let_in_is_told_and_no_token_is_shown(store, database):
    database.token = "another"
    with pytest.raises(StoreUnauthorised) as caught:
        store.ready(["Fixed"])
    assert "let-me-in" not in str(caught.value)


def test_a_minor_number_is_no_run(store, database):
    database.place("PROMPT", "Fixed", "f", 3, 9)
    database.intervals[-1]["minor_iov"] = 4
    with pytest.raises(OutsideError, match="a minor number"):
        store.listing("Fixed")


def test_a_folder_of_payloads_that_is_gone_is_no_new_folder(store, tmp_path):
    (tmp_path / "files").rmdir()
    file = tmp_path / "c"
    file.write_text("1")
    with pytest.raises(StoreUnavailable):
        store.put("Fixed", file, store.ref("Fixed", "ab" * 32, "c"), "c")
    assert not (tmp_path / "files").exists()
