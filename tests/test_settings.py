"""Settings of the environment: paths that every process understands alike, and numbers that can be meant."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_calib_provider import settings
from airflow_calib_provider.errors import LedgerError, SettingError
from airflow_calib_provider.ledger.engine import Ledger


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CALIB_HOME", "AIRFLOW_HOME", "CALIB_LEDGER"):
        monkeypatch.delenv(name, raising=False)


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CALIB_HOME", "~/calib")
    assert settings.calib_home() == tmp_path / "calib"
    monkeypatch.delenv("CALIB_HOME")
    monkeypatch.setenv("AIRFLOW_HOME", "~/airflow")
    assert settings.calib_home() == tmp_path / "airflow" / "calib"


@pytest.mark.parametrize("variable", ["CALIB_HOME", "AIRFLOW_HOME"])
@pytest.mark.parametrize("path", ["calib", "./calib", "../calib", "~nobody_of_this_name/calib"])
def test_a_relative_folder_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, path: str) -> None:
    monkeypatch.setenv(variable, path)
    with pytest.raises(SettingError, match=rf"{variable} is .*{path}.*another place.*absolute path"):
        settings.calib_home()


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CALIB_HOME", "")
    assert settings.calib_home() == tmp_path / "airflow" / "calib"


@pytest.mark.parametrize("address", ["sqlite:///calib.db", "sqlite:///./data/calib.db", "sqlite+pysqlite:///calib.db"])
def test_a_ledger_with_a_relative_file_is_refused(address: str) -> None:
    with pytest.raises(LedgerError, match=r"calib\.db'.*sqlite:/// and the absolute path: four slashes"):
        Ledger(address)


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///:memory:"])
def test_a_ledger_in_memory_is_refused(address: str) -> None:
    with pytest.raises(LedgerError, match="in the memory of a process is another one for each process"):
        Ledger(address)


@pytest.mark.parametrize(
    "database", ["file:calib.db?uri=true", "file:/data/calib.db?uri=true", "file::memory:?uri=true"]
)
def test_a_uri_of_sqlites_own_is_refused(database: str) -> None:
    with pytest.raises(LedgerError, match="is a URI of SQLite's own"):
        Ledger(f"sqlite:///{database}")


def test_a_ledger_of_another_database_is_refused_with_what_there_is() -> None:
    with pytest.raises(LedgerError, match="a ledger is an SQLite file, or lies in PostgreSQL"):
        Ledger("mssql+pymssql://user:password@host/name")


def test_a_loop_of_links_is_no_ledger(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    ledger = Ledger(f"sqlite:///{loop}")
    with pytest.raises(LedgerError, match="unable to open database file"), ledger.read():
        pass


def test_the_ledgers_file_may_lie_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Ledger("sqlite:///~/calib.db").file == tmp_path / "calib.db"


def test_no_command_makes_a_folder_named_tilde(tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    code = "from airflow_calib_provider.cli import main; main()"
    variables = {**os.environ, "HOME": str(home), "CALIB_HOME": "~/calib"}
    subprocess.run(
        [sys.executable, "-c", code, "db", "upgrade"], cwd=here, env=variables, check=True, capture_output=True
    )
    assert list(here.iterdir()) == []
    assert (home / "calib" / "ledger.db").is_file()


@pytest.mark.parametrize("text", ["many", "nan", "inf", "-1", "0", "1e999"])
def test_a_number_that_cannot_be_meant(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CALIB_MAX_OPEN", text)
    with pytest.raises(SettingError, match=rf"CALIB_MAX_OPEN is '{text}': expected a number of at least 1.*100 if"):
        settings.number("MAX_OPEN")


def test_defaults_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALIB_LOCAL_SLOTS", raising=False)
    assert settings.number("LOCAL_SLOTS") == os.cpu_count()
    monkeypatch.setenv("CALIB_LOCAL_SLOTS", " 3 ")
    assert settings.number("LOCAL_SLOTS") == 3.0
    assert settings.number("WINDOW") == 20.0
