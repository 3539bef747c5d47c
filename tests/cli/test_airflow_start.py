"""``calib airflow start``: an Airflow with safe settings, in any folder, that ends as a whole."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.fernet import Fernet

from airflow_calib_provider.cli.airflow_server import AirflowFailed, AirflowServer, free_port
from tests.cli.conftest import Calib
from tests.cli.world import World
from tests.integration.harness import migrated_database

ODD = "it's a try"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with a space and a quote."""
    folder = tmp_path / ODD
    (folder / "dags").mkdir(parents=True)
    return folder


class TestSettings:
    def test_tasks_find_the_server_at_the_port_that_it_has(self, odd: Path) -> None:
        server = AirflowServer(odd / "airflow", odd / "dags")
        assert server.variables["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == f"{server.url}/execution/"
        assert server.variables["AIRFLOW__API__PORT"] == str(server.port)
        names = ("API__PORT", "LOGGING__WORKER_LOG_SERVER_PORT", "LOGGING__TRIGGER_LOG_SERVER_PORT")
        assert len({server.variables[f"AIRFLOW__{name}"] for name in names}) == 3

    def test_sqlite_is_waited_for_and_little_runs_at_once(self, odd: Path) -> None:
        variables = AirflowServer(odd / "airflow", odd / "dags").variables
        assert variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].endswith("/airflow.db?timeout=60")
        assert int(variables["AIRFLOW__CORE__PARALLELISM"]) <= 8
        assert int(variables["AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL"]) <= 30
        assert variables["AIRFLOW__API__HOST"] == "127.0.0.1"

    def test_who_would_wait_for_himself_waits_a_short_time(self, odd: Path) -> None:
        name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
        server = AirflowServer(odd / "airflow", odd / "dags")
        assert server.settings_of("api-server")[name].endswith("/airflow.db?timeout=8")
        assert server.settings_of("scheduler")[name].endswith("/airflow.db?timeout=60")
        given = AirflowServer(odd / "airflow", odd / "dags", {name: "postgresql://a/b"})
        assert given.settings_of("api-server")[name] == "postgresql://a/b"

    def test_settings_of_another_airflow_do_not_get_in(self, odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production/airflow")
        monkeypatch.setenv("AIRFLOW_HOME", "/production")
        shown = json.dumps(AirflowServer(odd / "airflow", odd / "dags").variables)
        assert "production" not in shown

    def test_secrets_are_kept_and_nobody_elses(self, odd: Path) -> None:
        first, second = (AirflowServer(odd / "airflow", odd / "dags").variables for _ in range(2))
        for name in ("AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"):
            assert first[name] == second[name]
            assert len(first[name]) == 64
        modes = {stat.S_IMODE(file.stat().st_mode) for file in (odd / "airflow").glob(".*-secret")}
        assert modes == {0o600}

    def test_all_components_encrypt_connections_with_one_key(self, odd: Path) -> None:
        first, second = (AirflowServer(odd / "airflow", odd / "dags").variables for _ in range(2))
        assert first["AIRFLOW__CORE__FERNET_KEY"] == second["AIRFLOW__CORE__FERNET_KEY"]
        told = Fernet(first["AIRFLOW__CORE__FERNET_KEY"]).encrypt(b"told")
        assert Fernet(second["AIRFLOW__CORE__FERNET_KEY"]).decrypt(told) == b"told"

    def test_what_was_encrypted_before_can_be_read(self, odd: Path) -> None:
        home = odd / "airflow"
        home.mkdir(parents=True)
        (home / "airflow.cfg").write_text("[core]\nfernet_key = written-by-airflow\n")
        assert "AIRFLOW__CORE__FERNET_KEY" not in AirflowServer(home, odd / "dags").variables

    @pytest.mark.parametrize("letter", "?#%$")
    def test_a_folder_that_an_address_cannot_name(self, tmp_path: Path, letter: str) -> None:
        with pytest.raises(AirflowFailed, match="cannot be in the folder"):
            AirflowServer(tmp_path / f"a{letter}b", tmp_path)

    def test_other_shells_get_every_value_as_it_is(self, odd: Path) -> None:
        values = {"CALIB_HOME": "/a b/'c'", "AIRFLOW_CONN_X": '{"extra": {"$HOME": "`id`"}}', "SECRET": "not this one"}
        server = AirflowServer(odd / "airflow", odd / "dags", values)
        file = server.write_environment(odd / "environment")
        assert file.stat().st_mode & 0o777 == 0o600
        show = 'printf "%s\\n" "$CALIB_HOME" "$AIRFLOW_CONN_X" "$SECRET" "$CALIB_AIRFLOW_URL" "$AIRFLOW_HOME"'
        shown = subprocess.run(
            ["sh", "-c", f'. "$1"; {show}', "sh", str(file)], capture_output=True, text=True, check=True, env={}
        )
        expected = [values["CALIB_HOME"], values["AIRFLOW_CONN_X"], "", server.url, str(odd / "airflow")]
        assert shown.stdout.splitlines() == expected

    def test_one_at_a_time_in_a_folder(self, odd: Path) -> None:
        first, second = (AirflowServer(odd / "airflow", odd / "dags") for _ in range(2))
        first.lock()
        with pytest.raises(AirflowFailed, match=r"runs in .* already"):
            second.lock()


class TestRefusals:
    def test_without_stubs(self, world: World, calib: Calib) -> None:
        assert "calib spec stubs" in calib.fails("airflow", "start", "--dags", "nowhere")

    def test_without_a_ledger(self, odd: Path, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CALIB_HOME", str(odd / "calib"))
        monkeypatch.delenv("CALIB_LEDGER", raising=False)
        assert "calib db upgrade" in calib.fails("airflow", "start", "--dags", str(odd / "dags"))

    def test_a_port_that_is_taken(self, world: World, calib: Calib) -> None:
        (world.folder / "dags").mkdir()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            assert f"the port {port} cannot be used" in calib.fails("airflow", "start", "--port", port, code=2)
            with pytest.raises(OSError, match="in use"):
                free_port(int(port))


def start(folder: Path, *options: str) -> Any:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CALIB_")}
    code = "from airflow_calib_provider.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "airflow", "start", "--json", *options],
        cwd=folder,
        env={**environment, "CALIB_HOME": str(folder / "calib"), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.airflow
@pytest.mark.timeout(900)
def test_it_runs_and_ends_as_a_whole(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(odd / "calib"))
    World(odd)  # a ledger
    home = odd / "airflow"
    home.mkdir()
    (home / "airflow.db").write_bytes(migrated_database().read_bytes())
    running = start(odd)
    try:
        said = json.loads("".join(iter(running.stdout.readline, "}\n")) + "}")
        assert Path(said["home"]) == home
        listening = f'. "$1"; {sys.executable} -m airflow config get-value core execution_api_server_url'
        shown = subprocess.run(
            ["sh", "-c", listening, "sh", said["environment"]], capture_output=True, text=True, check=True
        )
        assert said["url"] in shown.stdout
        again = start(odd)
        _, errors = again.communicate(timeout=120)
        assert again.returncode == 1
        assert "already" in errors
        assert str(running.pid) not in errors
        family = psutil.Process(running.pid).children(recursive=True)
        assert len(family) >= 4
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGINT)
        assert running.wait(120) == 0, running.stderr.read()
        until = time.monotonic() + 10
        while alive := [process for process in family if process.is_running() and process.status() != "zombie"]:
            assert time.monotonic() < until, alive
            time.sleep(0.2)
    finally:
        running.kill()
