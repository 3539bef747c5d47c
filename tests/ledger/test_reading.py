"""Reading an SQLite ledger needs no permission to write; what cannot be read says why. A child process is another user,
since tests may run as root."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.errors import LedgerError
from airflow_calib_provider.ledger import campaigns, schema, tables
from airflow_calib_provider.ledger.engine import Ledger

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's."""
    made = Path(tempfile.mkdtemp(prefix="calib-reading-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    """A ledger with one campaign."""
    made = Ledger(f"sqlite:///{folder}/ledger.db")
    schema.upgrade(made)
    with made.write() as connection:
        campaigns.ensure_prompt(connection)
    yield made
    made.close()


def read_as_nobody(place: Path) -> tuple[list[str], str, str]:
    """Names of campaigns, or an error with its hint, as a user sees them who owns nothing."""
    out, into = os.pipe()
    if (child := os.fork()) == 0:  # pragma: no cover - another process
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(into, json.dumps(_read(place)).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    names, error, hint = json.loads(said)
    return names, error, hint


def _read(place: Path) -> tuple[list[str], str, str]:
    opened = Ledger(f"sqlite:///{place}/ledger.db")
    try:
        schema.check(opened)
        with opened.read() as connection:
            return [row.name for row in campaigns.open_campaigns(connection)], "", ""
    except LedgerError as error:
        return [], error.message, error.hint
    except Exception as error:  # noqa: BLE001 - shown by the parent
        return [], repr(error), ""


def files(place: Path) -> dict[str, tuple[int, int]]:
    """What lies there, with owner and size."""
    return {item.name: (item.stat().st_uid, item.stat().st_size) for item in place.iterdir()}


def test_while_nobody_has_it_open(ledger: Ledger, folder: Path) -> None:
    ledger.close()
    before = files(folder)
    assert before.keys() == {"ledger.db"}
    assert read_as_nobody(folder) == (["prompt"], "", "")
    assert files(folder) == before


def test_while_a_writer_has_it_open(ledger: Ledger, folder: Path) -> None:
    assert files(folder).keys() == {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    assert read_as_nobody(folder) == (["prompt"], "", "")


def test_after_a_writer_died(ledger: Ledger, folder: Path) -> None:
    copy = folder / "copy"
    shutil.copytree(folder, copy)
    assert read_as_nobody(copy) == (["prompt"], "", "")


@pytest.mark.parametrize("mode", [0o644, 0o666])
def test_what_a_reader_leaves_keeps_no_writer_out(ledger: Ledger, folder: Path, mode: int) -> None:
    """In a folder where everybody may write, SQLite would make files there that belong to the reader."""
    ledger.close()
    (folder / "ledger.db").chmod(mode)
    folder.chmod(0o777 if mode == 0o644 else 0o755)
    assert read_as_nobody(folder) == (["prompt"], "", "")
    assert files(folder).keys() == {"ledger.db"}
    with ledger.write() as connection:
        campaigns.create(connection, "next", kind="streamed")
    assert read_as_nobody(folder)[0] == ["prompt", "next"]


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal", "ledger.db-shm"])
def test_a_file_that_may_not_be_read_is_named(ledger: Ledger, folder: Path, name: str) -> None:
    (folder / name).chmod(0o600)
    names, error, hint = read_as_nobody(folder)
    assert not names
    assert error.endswith(f"cannot be read: this user may not read {folder}/{name}")
    assert hint == f"its owner can permit it: chmod o+r {folder}/{name} (or g+r, for a group of both)"


def test_a_folder_that_may_not_be_entered_is_named(ledger: Ledger, folder: Path) -> None:
    inside = folder / "closed" / "inside"
    shutil.copytree(folder, inside)
    inside.parent.chmod(0o700)
    assert read_as_nobody(inside)[1].endswith(f"this user may not enter the folder {folder}/closed")


def test_changes_that_only_a_writer_can_take_in_are_not_passed_over(ledger: Ledger, folder: Path) -> None:
    copy = folder / "copy"
    shutil.copytree(folder, copy)
    (copy / "ledger.db-shm").unlink()
    names, error, hint = read_as_nobody(copy)
    assert not names
    assert f"its last changes lie in {copy}/ledger.db-wal" in error
    assert "calib db check" in hint
    Ledger(f"sqlite:///{copy}/ledger.db").close()
    assert _read(copy)[0] == ["prompt"]  # as root, who may write; it closes the ledger cleanly


def test_writing_says_what_is_missing(ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.close()
    monkeypatch.setattr(os, "access", lambda path, how: how != os.W_OK)  # as on a file system that is read-only
    opened = Ledger(f"sqlite:///{folder}/ledger.db")
    with opened.read() as connection:
        assert campaigns.get(connection, "prompt").state == "open"
    with pytest.raises(LedgerError, match="readonly database; give this user write permission"), opened.write() as one:
        campaigns.create(one, "next", kind="streamed")
    opened.close()


def test_a_snapshot_that_changes_is_refused_and_then_read_anew(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.close()
    reader = Ledger(f"sqlite:///{folder}/ledger.db")

    def seen() -> int:
        with monkeypatch.context() as patched:
            patched.setattr(os, "access", lambda path, how: how != os.W_OK)
            with reader.read() as connection:
                return len(campaigns.open_campaigns(connection))

    def create(name: str) -> None:
        with ledger.write() as connection:
            campaigns.create(connection, name, kind="streamed")

    assert seen() == 1

    def changed_meanwhile() -> None:
        with reader.read() as connection:
            campaigns.open_campaigns(connection)
            create("next")
            ledger.close()

    with pytest.raises(LedgerError, match="was changed while it was read"):
        changed_meanwhile()
    assert seen() == 2
    create("third")
    assert seen() == 3  # while the writer has it open
    reader.close()


def test_files_of_a_ledger_are_readable_by_others_only_as_its_owner_says(ledger: Ledger, folder: Path) -> None:
    """SQLite gives the files beside it the permissions of the ledger: one chmod of it is enough."""
    ledger.close()
    (folder / "ledger.db").chmod(0o640)
    with ledger.read() as connection:
        campaigns.open_campaigns(connection)
        assert {stat.S_IMODE(item.stat().st_mode) for item in folder.iterdir()} == {0o640}


def test_what_only_reads_cannot_write(ledger: Ledger) -> None:
    """Who forgets it would take the lock of the one writer, and fail where the file is read-only."""
    with pytest.raises(LedgerError, match="readonly"), ledger.read() as connection:
        connection.execute(tables.campaign.delete())
    with ledger.write() as connection:
        connection.execute(tables.campaign.delete())
    with ledger.read() as connection:
        assert not connection.execute(tables.campaign.select()).all()
