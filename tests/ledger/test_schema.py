"""The migrations make exactly the tables that the code uses, and what does not fit is refused."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.ledger import campaigns, engine, schema, tables
from airflow_calib_provider.ledger.engine import Ledger, refuse_network_file_system


def test_migrations_make_the_tables_of_the_code(ledger: Ledger) -> None:
    with ledger.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": schema.VERSION_TABLE, "compare_server_default": True}
        )
        assert compare_metadata(context, tables.metadata) == []


def test_upgrade_again_changes_nothing(ledger: Ledger) -> None:
    assert schema.upgrade(ledger) == (schema.head_version(), schema.head_version())
    assert schema.check(ledger) == schema.head_version()


def test_upgrade_from_the_first_version_keeps_what_is_there(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/l.db")
    config = schema._config()
    with ledger.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    at = "2026-01-01 00:00:00.000000"
    with ledger.write() as connection:
        for line in (
            "INSERT INTO run_group (id, campaign, workflow, grouping, name, first_run, last_run, state, policy,"
            " amounts, fills, opened_at) VALUES"
            f" (1, 'c', 'w', 'run', 'run-r1', 1, 1, 'closed', '{{}}', '{{}}', '[]', '{at}')",
            "INSERT INTO generation (id, group_id, task, n, state, max_tries, backend, spec_hash, definitions_hash,"
            " inputs, runs, excluded_runs, used, retries, quorum, products, folder, dag_run_id, started_at)"
            f" VALUES (7, 1, 't', 1, 'running', 0, 'local', 'x', 'x', '[]', '[1]', '[]', '{{}}', 3,"
            f" 1.0, '{{}}', 'f', 'd', '{at}')",
            "INSERT INTO job (generation_id, step, job_index, state, attempt, failures, losses, definition)"
            """ VALUES (7, 0, 0, 'running', 2, 1, 0, '{"memory": 5}')""",
            "INSERT INTO attempt (generation_id, step, job_index, n, round, state) VALUES (7, 0, 0, 2, 1, 'running')",
        ):
            connection.exec_driver_sql(line.replace("%", "%%"))
    assert schema.upgrade(ledger) == ("0001", schema.head_version())
    with ledger.read() as connection:
        generation = connection.execute(select(tables.generation)).one()
        job = connection.execute(select(tables.job)).one()
        attempt = connection.execute(select(tables.attempt)).one()
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        context = MigrationContext.configure(
            connection, opts={"version_table": schema.VERSION_TABLE, "compare_server_default": True}
        )
        assert compare_metadata(context, tables.metadata) == []
    assert (generation.failures, generation.options, generation.keep, generation.trouble) == ([], {}, None, None)
    assert (generation.n, generation.quorum, generation.runs) == (1, 1.0, [1])
    assert (job.state, job.attempt, job.releases, job.hold_code, job.definition) == (
        "running",
        2,
        0,
        None,
        {"memory": 5},
    )
    assert (attempt.state, attempt.n, attempt.request_memory) == ("running", 2, None)
    with ledger.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    assert schema.current_version(ledger) == "0001"
    assert schema.upgrade(ledger) == ("0001", schema.head_version())
    ledger.close()


def test_ledger_is_in_write_ahead_mode(ledger: Ledger) -> None:
    with ledger.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_missing_ledger_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"no ledger at .*; run `calib db upgrade`"):
        schema.check(Ledger(f"sqlite:///{tmp_path}/none.db"))
    assert not (tmp_path / "none.db").exists()


def test_empty_ledger_wants_an_upgrade(tmp_path: Path) -> None:
    (tmp_path / "l.db").touch()
    with pytest.raises(LedgerError, match=r"at version none.*run `calib db upgrade`"):
        schema.check(Ledger(f"sqlite:///{tmp_path}/l.db"))


def test_newer_ledger_is_refused_and_not_touched(ledger: Ledger) -> None:
    with ledger.write() as connection:
        connection.exec_driver_sql(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    assert ledger.file is not None
    before = ledger.file.read_bytes()
    for action in (schema.upgrade, schema.check):
        with pytest.raises(LedgerError, match=r"version 9999, which this software .* does not know; upgrade airflow"):
            action(ledger)
    assert ledger.file.read_bytes() == before


def test_not_a_database(tmp_path: Path) -> None:
    file = tmp_path / "l.db"
    file.write_text("number,start,end\n" * 100)
    for action in (schema.upgrade, schema.check):
        with pytest.raises(LedgerError, match=r"l\.db.*not a database; the file is damaged: restore it from a backup"):
            action(Ledger(f"sqlite:///{file}"))
    assert file.read_text() == "number,start,end\n" * 100


def test_tables_of_another_program(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "l.db") as connection:
        connection.execute("CREATE TABLE job (id INTEGER PRIMARY KEY)")
    ledger = Ledger(f"sqlite:///{tmp_path}/l.db")
    with pytest.raises(LedgerError, match="another program"):
        schema.upgrade(ledger)
    with sqlite3.connect(tmp_path / "l.db") as connection:
        assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == ["job"]


def test_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_SQLITE_MAX_PAGES", "20")
    ledger = Ledger(f"sqlite:///{tmp_path}/l.db")
    with pytest.raises(LedgerError, match=r"l\.db.*full; free space"):
        schema.upgrade(ledger)
    ledger.close()
    monkeypatch.delenv("CALIB_SQLITE_MAX_PAGES")
    again = Ledger(f"sqlite:///{tmp_path}/l.db")
    assert schema.current_version(again) is None
    assert schema.upgrade(again) == (None, schema.head_version())


def _create_many(ledger: Ledger) -> None:
    with ledger.write() as connection:
        for number in range(1000):
            campaigns.create(connection, f"c{number}", kind="streamed")


def test_full_disk_in_a_transaction(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    with ledger.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    ledger.close()
    monkeypatch.setenv("CALIB_SQLITE_MAX_PAGES", str(pages + 5))
    full = Ledger(ledger.url.render_as_string(hide_password=False))
    with pytest.raises(LedgerError, match="full"):
        _create_many(full)
    with full.read() as connection:
        assert connection.execute(select(tables.campaign)).all() == []
        assert connection.execute(select(tables.event)).all() == []
    with full.write() as connection:
        campaigns.create(connection, "one", kind="streamed")


def _as_nobody(url: str, answers: multiprocessing.Queue[str]) -> None:
    os.setgid(65534)
    os.setuid(65534)
    ledger = Ledger(url)
    try:
        schema.upgrade(ledger)
        with ledger.write() as connection:
            campaigns.create(connection, "x", kind="streamed")
        answers.put("written")
    except LedgerError as error:
        answers.put(str(error))


def _tell_nobody(url: str) -> str:
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[str] = context.Queue()
    process = context.Process(target=_as_nobody, args=(url, answers))
    process.start()
    answer = answers.get(timeout=30)
    process.join()
    return answer


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without permission")


@needs_root
def test_read_only_file(tmp_path: Path) -> None:
    folder = _open_folder(tmp_path)
    ledger = Ledger(f"sqlite:///{folder}/l.db")
    schema.upgrade(ledger)
    with ledger.write() as connection:
        connection.exec_driver_sql("PRAGMA user_version")
    ledger.close()
    (folder / "l.db").chmod(0o444)
    answer = _tell_nobody(f"sqlite:///{folder}/l.db")
    assert "l.db" in answer
    assert "permission" in answer or "writable" in answer


@needs_root
def test_folder_not_writable(tmp_path: Path) -> None:
    folder = _open_folder(tmp_path)
    assert "check that its folder exists and is writable" in _tell_nobody(f"sqlite:///{folder}/l.db")
    assert "set CALIB_HOME to a writable folder" in _tell_nobody(f"sqlite:///{folder}/deeper/l.db")
    assert list(folder.iterdir()) == []


def _open_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "readable"
    folder.mkdir()
    for path in (folder, *folder.parents):
        if str(path).startswith("/tmp/pytest"):
            path.chmod(0o755)
    return folder


def test_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\n\nserver:/x {tmp_path}/net\\040share nfs4 rw 0 0\n")
    monkeypatch.setattr(engine, "MOUNTS", mounts)
    refuse_network_file_system(tmp_path / "ledger.db")
    with pytest.raises(LedgerError, match=r"network file system \(nfs4 at .*/net share\).*set CALIB_HOME to a local"):
        Ledger(f"sqlite:///{tmp_path}/net share/deep/ledger.db")
    mounts.write_text(mounts.read_text() + f"/dev/sdb {tmp_path}/net\\040share/deep ext4 rw 0 0\n")
    refuse_network_file_system(tmp_path / "net share" / "deep" / "ledger.db")


@pytest.mark.parametrize("url", ["somewhere over the rainbow", "sqlite://user:secret@/x", "nosuch://x"])
def test_address_is_no_url(url: str) -> None:
    with pytest.raises(LedgerError, match="not an SQLAlchemy URL that works; check CALIB_LEDGER") as caught:
        Ledger(url)
    assert "secret" not in str(caught.value)


def test_password_is_never_shown(ledger: Ledger) -> None:
    ledger.url = ledger.url.set(username="me", password="secret")
    assert "secret" not in str(ledger.error(ValueError("disk full")))
