"""The server for tests does what tests rely on, and the ledger says what is wrong with one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psycopg
import pytest

from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.ledger import campaigns, schema, tables
from airflow_calib_provider.ledger.engine import Ledger
from tests.cache import UnavailableError
from tests.ledger.making import count
from tests.postgres.fixture import Database
from tests.postgres.programs import Programs, unpacked
from tests.postgres.server import Postgres, system_user


def test_each_test_has_a_database_of_its_own(postgres: Database) -> None:
    assert postgres.server.databases() >= {postgres.name}
    assert postgres.server.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", postgres.name) == [
        (0,)
    ]


def test_it_is_nobodys_but_this_machines(postgres: Database) -> None:
    assert postgres.server.execute("SHOW listen_addresses") == [("127.0.0.1",)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host="127.0.0.1", port=postgres.server.port, user="calib", password="x", dbname=postgres.name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a server to another user")
def test_it_is_not_roots(postgres: Database) -> None:
    [(number,)] = postgres.server.execute("SELECT pg_backend_pid()")
    assert number
    folder = postgres.server.folder / "data"
    assert str(folder.stat().st_uid) == system_user()


def test_it_survives_a_kill(postgres: Database) -> None:
    ledger = Ledger(postgres.url)
    schema.upgrade(ledger)
    with ledger.write() as connection:
        campaigns.create(connection, "one", kind="streamed")
    port = postgres.server.port
    postgres.server.kill()
    with pytest.raises(LedgerError, match=r"test_\w+ cannot be used: .*; check that the database is up and reachable"):
        count(ledger, tables.campaign)
    with pytest.raises(LedgerError) as caught:
        schema.check(Ledger(postgres.url))
    assert "\n" not in str(caught.value)
    postgres.server.start()
    assert postgres.server.port == port
    assert count(ledger, tables.campaign) == 1  # the same ledger comes back by itself
    ledger.close()


@pytest.mark.postgres
@pytest.mark.parametrize("who", ["owner", "guard"])
def test_it_ends_with_its_owner_and_its_guard(postgres: Database, who: str) -> None:
    code = """
        import signal
        from tests.postgres.server import Postgres
        server = Postgres().start()
        print(server._server.number, server._server._guard.pid, server.folder, flush=True)
        signal.pause()
    """
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner:
        server, guard, folder = owner.stdout.readline().split()
        os.kill(owner.pid if who == "owner" else int(guard), signal.SIGKILL)
        until = time.monotonic() + 20
        while Path(f"/proc/{server}").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        owner.kill()
    left = Postgres()
    left.folder = Path(folder)
    left.remove()


def test_programs_that_do_not_work_are_said(tmp_path: Path) -> None:
    server = Postgres(Programs(tmp_path))
    with pytest.raises(UnavailableError, match=r"PostgreSQL cannot be set up \(log: .*postgres.log\): .*initdb"):
        server.start()
    server.remove()


def test_without_a_packager_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_CI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="is not installed, and cannot be without apt-get, dpkg-deb"):
        unpacked()


# --- What is wrong is said


def test_a_database_that_is_not_there(postgres: Database) -> None:
    ledger = Ledger(postgres.server.url("nowhere"))
    for action in (schema.upgrade, schema.check):
        with pytest.raises(LedgerError, match=r'database "nowhere" does not exist; create it') as caught:
            action(ledger)
        assert postgres.server.password not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_empty_database_wants_an_upgrade(postgres: Database) -> None:
    ledger = Ledger(postgres.url)
    with pytest.raises(LedgerError, match=r"at version none.*run `calib db upgrade`"):
        schema.check(ledger)
    with pytest.raises(LedgerError, match=r"no tables of ours yet.*run `calib db upgrade`"):
        count(ledger, tables.campaign)
    ledger.close()


def test_a_wrong_password(postgres: Database) -> None:
    ledger = Ledger(postgres.url.replace(postgres.server.password, "wrong-one"))
    with pytest.raises(
        LedgerError, match=r"password authentication failed.*; check the user and the password"
    ) as caught:
        schema.check(ledger)
    assert "wrong-one" not in str(caught.value)


def test_a_user_that_may_not_make_tables(postgres: Database) -> None:
    postgres.server.execute("DROP ROLE IF EXISTS weak")
    postgres.server.execute("CREATE ROLE weak LOGIN PASSWORD 'weak'")
    ledger = Ledger(f"postgresql+psycopg://weak:weak@127.0.0.1:{postgres.server.port}/{postgres.name}")
    with pytest.raises(LedgerError, match=r"permission denied for schema public; give this user the right"):
        schema.upgrade(ledger)
    ledger.close()
    assert schema.current_version(Ledger(postgres.url)) is None


def test_tables_of_another_program(postgres: Database) -> None:
    postgres.server.execute("CREATE TABLE job (id int)", postgres.name)
    with pytest.raises(LedgerError, match="another program"):
        schema.upgrade(Ledger(postgres.url))
    tables_left = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert postgres.server.execute(tables_left, postgres.name) == [("job",)]


def test_a_schema_of_its_own(postgres: Database) -> None:
    """Beside the tables of another program, in the same database."""
    postgres.server.execute("CREATE TABLE job (id int)", postgres.name)
    postgres.server.execute("CREATE SCHEMA calib", postgres.name)
    ledger = Ledger(f"{postgres.url}?options=-csearch_path%3Dcalib")
    assert schema.upgrade(ledger) == (None, schema.head_version())
    with ledger.write() as connection:
        campaigns.create(connection, "one", kind="streamed")
    assert count(ledger, tables.campaign) == 1
    ledger.close()
