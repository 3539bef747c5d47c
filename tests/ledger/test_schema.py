"""The migrations make exactly the tables that the code uses, and what does not fit is refused."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.ledger import campaigns, engine, schema, tables
from airflow_calib_provider.ledger.engine import Ledger, refuse_network_file_system


def test_upgrade_again_changes_nothing(ledger: Ledger) -> None:
    assert schema.upgrade(ledger) == (schema.head_version(), schema.head_version())
    assert schema.check(ledger) == schema.head_version()


def test_the_version_that_is_written_down_is_that_of_the_migrations() -> None:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(schema._config())
    assert scripts.get_current_head() == schema.HEAD
    for script in scripts.walk_revisions():
        assert Path(script.path).name.startswith(f"{script.revision}_")


@pytest.mark.parametrize("module", ["cli.common", "hooks.ledger"])
def test_nothing_imports_alembic_to_open_a_ledger(sqlite: Ledger, module: str) -> None:
    code = (
        f"import sys; from airflow_calib_provider.{module} import open_ledger; open_ledger({str(sqlite.url)!r}); "
        "print([name for name in sys.modules if name.split('.')[0] in ('alembic', 'mako')])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path}/l.db")
    schema.upgrade(made)
    yield made
    made.close()


def test_ledger_is_in_write_ahead_mode(sqlite: Ledger) -> None:
    with sqlite.read() as connection:
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
    before = ledger.file.read_bytes() if ledger.file else b""
    for action in (schema.upgrade, schema.check):
        with pytest.raises(LedgerError, match=r"version 9999, which this software .* does not know; upgrade airflow"):
            action(ledger)
    assert schema.current_version(ledger) == "9999"
    assert not ledger.file or ledger.file.read_bytes() == before


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


def test_full_disk_in_a_transaction(sqlite: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    sqlite.close()
    monkeypatch.setenv("CALIB_SQLITE_MAX_PAGES", str(pages + 5))
    full = Ledger(sqlite.url.render_as_string(hide_password=False))
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


@pytest.mark.parametrize("url", ["somewhere over the rainbow", "sqlite://user:secret@//x", "nosuch://x"])
def test_address_is_no_url(url: str) -> None:
    with pytest.raises(LedgerError, match="not an SQLAlchemy URL that works; check CALIB_LEDGER") as caught:
        Ledger(url)
    assert "secret" not in str(caught.value)


def test_password_is_never_shown(ledger: Ledger) -> None:
    ledger.url = ledger.url.set(username="me", password="secret")
    assert "secret" not in str(ledger.error(ValueError("disk full")))
