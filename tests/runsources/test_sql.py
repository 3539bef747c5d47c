"""Runs from a real PostgreSQL, and from SQLite."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_calib_provider.domain.run import RunListing
from airflow_calib_provider.errors import RunSourceError
from airflow_calib_provider.outside import databases
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.runsources import read_source, sql_rows
from airflow_calib_provider.runsources.base import read_on
from airflow_calib_provider.spec.loader import load_sources
from airflow_calib_provider.spec.models import RunSource
from tests.postgres.fixture import Database
from tests.runsources.connecting import address, connected, connection_to, run_script

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

Make = Callable[..., RunSource]


@pytest.fixture
def source(tmp_path: Path) -> Make:
    def make(select: str, fields: str = "{fill: int}", **more: str) -> RunSource:
        lines = "".join(f"      {key}: {value}\n" for key, value in more.items())
        file = tmp_path / "sources.yaml"
        file.write_text(
            "apiVersion: calib/v1\nsources:\n  daq:\n    sql:\n      connection: daq\n"
            f"      select: |\n        {select}\n{lines}    fields: {fields}\n"
        )
        return load_sources(file)["daq"]

    return make


@pytest.fixture
def daq(postgres: Database) -> Iterator[Database]:
    run_script(postgres, "CREATE TABLE runs (number bigint, fill int, changed timestamptz, local timestamp)")
    with connected(connection_to(postgres)):
        yield postgres


def rows(database: Database, *values: str) -> None:
    for value in values:
        run_script(database, f"INSERT INTO runs (number, fill, changed, local) VALUES ({value})")


def read(source: RunSource) -> list[Any]:
    return read_source(source, base_folder=Path())


def test_types_as_the_database_has_them(daq: Database, source: Make) -> None:
    select = (
        "SELECT 7 AS number, '2026-07-01 12:00+02'::timestamptz AS start, '2026-07-01 15:00'::timestamp AS \"end\", "
        "false AS completed, 1.5::numeric AS lumi, 5::numeric AS fill, 'a:b%c :d \\:e'::text AS note, true AS good, "
        "'2026-07-01'::date AS day, ARRAY['/a.root', 'root://b'] AS files -- a comment"
    )
    fields = "{lumi: float, fill: int, note: string, good: bool, day: time}"
    (run,) = read(source(select, fields, zone="Europe/Zurich"))
    assert run.start == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert run.end == datetime(2026, 7, 1, 13, tzinfo=UTC)
    assert not run.completed
    assert run.fields == {
        "lumi": 1.5,
        "fill": 5,
        "note": "a:b%c :d \\:e",
        "good": True,
        "day": "2026-06-30T22:00:00+00:00",
    }
    assert run.files == ("/a.root", "root://b")


@pytest.mark.parametrize(
    ("select", "more", "said"),
    [
        ("SELECT nomber FROM runs", {}, 'column "nomber" does not exist'),
        ("SELECT 1 AS nomber, 2 AS fill", {}, "nothing has 'number'; expected one of fill, nomber; did you mean"),
        ("SELECT 1 AS number", {}, "nothing has 'fill'; expected number"),
        ("SELECT 1 AS number, 2 AS fill, 3 AS fill", {}, "the column 'fill' is there twice"),
        ("SELECT 1 AS number, 'x' AS fill", {}, "daq: row 1.fill: 'x' is no whole number"),
        ("SELECT n AS number, n/2 AS fill FROM generate_series(0, 1) n", {}, "daq: row 1.number: the run number is 0"),
        ("SELECT 1 AS number, 1 AS fill", {"watermark": "seen"}, "there is no column 'seen', the watermark"),
        ("SELECT 1 AS number, 1 AS fill, '5'::text AS seen", {"watermark": "seen"}, "the watermark is a text"),
        ("SELECT 1 AS number, 1 AS fill; DROP TABLE runs", {}, "syntax error"),
        ("WITH d AS (DELETE FROM runs RETURNING *) SELECT * FROM d", {}, "data-modifying|read-only"),
        ("SELECT nextval('ids') AS number, 1 AS fill", {}, "read-only transaction"),
    ],
)
def test_what_is_wrong_is_told(daq: Database, source: Make, select: str, more: dict[str, str], said: str) -> None:
    run_script(daq, "CREATE SEQUENCE ids")
    with pytest.raises(RunSourceError, match=said):
        read(source(select, **more))
    with psycopg.connect(address(daq)) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)


ODD = [
    ("'NaN'::float8 AS fill", "{fill: float}", "row 1.fill: it is the number nan; expected a finite number"),
    ("'infinity'::float8 AS fill", "{fill: float}", "row 1.fill: it is the number inf; expected a finite number"),
    ("'NaN'::numeric AS fill", "{fill: float}", "row 1.fill: it is the number NaN; expected a finite number"),
    ("1e400::numeric AS fill", "{fill: float}", "row 1.fill: it is the number inf; expected a finite number"),
    ("9223372036854775808::numeric AS fill", "{fill: int}", "row 1.fill: it is the number 9.22337"),
    ("1.5::numeric AS fill", "{fill: int}", "row 1.fill: it is the number 1.5; expected a whole number"),
    ("'{}'::jsonb AS fill", "{fill: string}", "row 1.fill: it is an object; expected a text"),
    ("'x'::bytea AS fill", "{fill: string}", "row 1.fill: it is the number b'x'"),
    ("interval '1 day' AS fill", "{fill: time}", "row 1.fill: '1 day, 0:00:00' is no time; expected ISO 8601"),
    ("time '12:00' AS fill", "{fill: time}", "row 1.fill: '12:00:00' is no time"),
    ("'infinity'::timestamptz AS fill", "{fill: time}", "timestamp too large"),
    ("timestamp '2026-03-29 02:30' AS fill", "{fill: time}", "2026-03-29 02:30:00 does not exist in Europe/Zurich"),
    ("timestamp '9999-12-31 23:59' AS start", "{}", "row 1.start: |is no time"),
    ("timestamptz '9998-12-31 23:59+00' AS \"end\"", "{}", "row 1.end: 9998-12-31T23:59:00+00:00 is no time of a run"),
    ("timestamptz '2026-05-01 12:00+00' AS start, timestamptz '2026-05-01 11:00+00' AS \"end\"", "{}", "ends before"),
]


@pytest.mark.parametrize(("column", "fields", "said"), ODD)
def test_values_that_no_run_has(daq: Database, source: Make, column: str, fields: str, said: str) -> None:
    own = source(
        f"SELECT 1 AS number, {column}", fields, zone="America/New_York" if "9999" in column else "Europe/Zurich"
    )
    with pytest.raises(RunSourceError, match=re.escape(said) if "|" not in said else said) as caught:
        read(own)
    assert "cannot be read" not in str(caught.value), "it is told as a mistake of that value"


def test_numbers_of_any_type_are_times_where_epoch_says_so(daq: Database, source: Make) -> None:
    """What PostgreSQL extracts from a time is a numeric."""
    moment = "EXTRACT(EPOCH FROM timestamptz '2026-05-01 12:00+00')"
    (run,) = read(
        source(f"SELECT 1 AS number, {moment} AS start, ({moment} + 60)::float8 AS end", "{}", epoch="seconds")
    )
    assert (run.start, run.end) == (NOW, NOW + timedelta(minutes=1))
    with pytest.raises(RunSourceError, match=r"row 1\.start: 'NaN' is no time|row 1\.start: NaN is no time"):
        read(source("SELECT 1 AS number, 'NaN'::numeric AS start", "{}", epoch="seconds"))
    with pytest.raises(
        RunSourceError, match=r"row 1\.start: 1777636800\.0* is a number; say with `epoch` what it counts"
    ):
        read(source(f"SELECT 1 AS number, {moment} AS start", "{}"))


def test_rows_are_streamed_and_counted(daq: Database, source: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    own = source("SELECT n AS number, 1 AS fill FROM generate_series(1, 10000) n")
    assert len(read(own)) == 10_000
    monkeypatch.setattr(sql_rows, "MAX_ROWS", 5_000)
    with pytest.raises(RunSourceError, match="more than 5,000 rows; select fewer runs"):
        read(own)


def test_a_select_that_takes_an_hour_is_cut_off_by_the_server(daq: Database, source: Make) -> None:
    begin = time.monotonic()
    with pytest.raises(RunSourceError, match="no complete answer within 1 s; see why it is slow, or allow more"):
        read(source("SELECT 1 AS number, 1 AS fill FROM pg_sleep(3600)", timeout="1s"))
    assert time.monotonic() - begin < 60
    with psycopg.connect(address(daq)) as connection:
        left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
        assert connection.execute(left).fetchone() == (0,)


@pytest.mark.timeout(120)
def test_a_server_that_answers_no_more_is_hung_up_on(
    daq: Database, source: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_LATER", 0.5)
    stopped: list[int] = []
    original = databases._ended

    def stop(connection: Any, deadline: Any) -> Any:
        pid = connection.connection.dbapi_connection.info.backend_pid
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)
        return original(connection, deadline)

    monkeypatch.setattr(databases, "_ended", stop)
    try:
        with pytest.raises(RunSourceError, match="no complete answer within 1 s"):
            read(source("SELECT 1 AS number, 1 AS fill", timeout="1s"))
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert stopped


def test_nothing_listens_there(postgres: Database, source: Make) -> None:
    with (
        connected(connection_to(postgres, port=1, password="very-secret")),
        pytest.raises(RunSourceError, match="OperationalError") as caught,
    ):
        read(source("SELECT 1 AS number, 1 AS fill"))
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        (None, "there is no connection 'daq'"),
        (OutsideConnection("daq", "slack"), "has the type 'slack', which is no known database"),
        (OutsideConnection("daq", "postgres"), "has no host"),
        (OutsideConnection("daq", "sqlite"), "names no file"),
        (OutsideConnection("daq", "x", "h", extra={"sqlalchemy_scheme": "nosuch+driver"}), "driver installed"),
    ],
)
def test_connections_that_cannot_be_used(connection: OutsideConnection | None, said: str, source: Make) -> None:
    with connected(*[connection] if connection else []), pytest.raises(RunSourceError, match=said):
        read(source("SELECT 1 AS number, 1 AS fill"))


class TestWatermark:
    @pytest.mark.parametrize("column", ["changed", "local"])
    def test_late_commits_and_corrections_are_found(self, column: str, daq: Database, source: Make) -> None:
        own = source("SELECT * FROM runs", watermark=column, overlap="30m", zone="Europe/Zurich")

        def listing(mark: Any, now: datetime = NOW) -> RunListing:
            return read_on(own, base_folder=Path(), mark=mark, now=now)

        def at(hour: int, minute: int) -> str:
            # 12:00 UTC is 14:00 there.
            return f"'2026-05-01 {hour}:{minute:02}+00', '2026-05-01 {hour + 2}:{minute:02}'"

        rows(daq, f"1, 1, {at(8, 0)}", f"2, 1, {at(11, 50)}", "9, 1, NULL, NULL")
        first = listing(None)
        assert (first.complete, [run.number for run in first.runs]) == (True, [1, 2, 9])
        rows(daq, f"3, 1, {at(11, 30)}", f"4, 1, {at(11, 10)}", f"5, 1, {at(11, 55)}")
        second = listing(first.mark)
        assert (second.complete, [run.number for run in second.runs]) == (False, [2, 3, 5, 9])
        everything = listing(second.mark, NOW + timedelta(days=1))
        assert (everything.complete, len(everything.runs)) == (True, 6)

    def test_a_database_that_was_restored_is_read_anew(self, daq: Database, source: Make) -> None:
        own = source("SELECT * FROM runs", watermark="changed")
        rows(daq, "1, 1, '2026-05-01 08:00+00', NULL", "2, 1, '2026-05-01 11:00+00', NULL")
        first = read_on(own, base_folder=Path(), mark=None, now=NOW)
        run_script(daq, "DELETE FROM runs WHERE number = 2")
        rows(daq, "3, 1, '2026-05-01 09:00+00', NULL")
        second = read_on(own, base_folder=Path(), mark=first.mark, now=NOW)
        assert (second.complete, [run.number for run in second.runs]) == (True, [1, 3])

    def test_numbers(self, daq: Database, source: Make) -> None:
        own = source("SELECT number, fill, number * 10 AS serial FROM runs", watermark="serial", overlap="10")
        rows(daq, "1, 1, NULL, NULL", "2, 1, NULL, NULL", "3, 1, NULL, NULL")
        first = read_on(own, base_folder=Path(), mark=None, now=NOW)
        second = read_on(own, base_folder=Path(), mark=first.mark, now=NOW)
        assert (second.complete, [run.number for run in second.runs]) == (False, [2, 3])

    @pytest.mark.parametrize(
        "value", ["'infinity'::float8", "'NaN'::float8", "'NaN'::numeric", "1e300::numeric", "1e19::float8"]
    )
    def test_a_number_that_would_hide_all_that_comes(self, daq: Database, source: Make, value: str) -> None:
        own = source(f"SELECT 1 AS number, 1 AS fill, {value} AS serial", watermark="serial")
        with pytest.raises(RunSourceError, match=r"the watermark is the number .*; a watermark is a time, or a number"):
            read_on(own, base_folder=Path(), mark=None, now=NOW)

    def test_a_number_of_the_future_that_is_a_time_counts_as_now(self, daq: Database, source: Make) -> None:
        """Such as one in milliseconds among those in seconds."""
        select = "SELECT number, fill, EXTRACT(EPOCH FROM changed) AS serial FROM runs"
        own = source(select, watermark="serial", epoch="seconds")
        rows(daq, "1, 1, '2026-05-01 11:00+00', NULL", "2, 1, '2056-05-01 11:00+00', NULL")
        first = read_on(own, base_folder=Path(), mark=None, now=NOW)
        rows(daq, "3, 1, '2026-05-01 12:30+00', NULL")
        second = read_on(own, base_folder=Path(), mark=first.mark, now=NOW + HOUR)
        assert (second.complete, [run.number for run in second.runs]) == (False, [1, 2, 3])


class TestSqlite:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Iterator[Path]:
        file = tmp_path / "daq.db"
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE runs (number, fill)")
            connection.execute("INSERT INTO runs VALUES (2, 1), (1, 1)")
        connection.close()
        with connected(OutsideConnection("daq", "sqlite", str(file))):
            yield file

    def test_rows(self, file: Path, source: Make) -> None:
        assert [run.number for run in read(source("SELECT * FROM runs"))] == [1, 2]

    def test_a_select_that_does_not_end_is_cut_off(self, file: Path, source: Make) -> None:
        endless = (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) AS number, 1 AS fill FROM n"
        )
        with pytest.raises(RunSourceError, match="no complete answer within 1 s"):
            read(source(endless, timeout="1s"))

    def test_a_file_that_is_not_there_is_not_made(self, file: Path, source: Make) -> None:
        file.unlink()
        with pytest.raises(RunSourceError, match="unable to open database file"):
            read(source("SELECT * FROM runs"))
        assert not file.exists()

    @pytest.mark.parametrize("name", ["a b.db", "a%20b.db", "a?mode=rwc.db", "a#b.db", "é.db"])
    def test_a_file_of_any_name_is_only_read(self, name: str, file: Path, source: Make) -> None:
        named = file.rename(file.parent / name)
        with connected(OutsideConnection("daq", "sqlite", str(named))):
            assert [run.number for run in read(source("SELECT * FROM runs"))] == [1, 2]
        assert {path.name for path in file.parent.iterdir() if path.is_file()} == {name, "sources.yaml"}

    def test_a_relative_path_would_be_another_file_for_each_process(self, file: Path, source: Make) -> None:
        said = "the connection daq names the relative path 'tmp/daq.db'"
        own = source("SELECT * FROM runs")
        with (
            connected(OutsideConnection("daq", "sqlite", schema="tmp/daq.db")),
            pytest.raises(RunSourceError, match=re.escape(said)),
        ):
            read(own)
