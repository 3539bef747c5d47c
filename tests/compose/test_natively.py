"""What the services of docker-compose.yaml run, run here: its scripts and commands, with its variables."""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.hooks.condor import CondorHook
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.target import InfluxTarget
from deploy.compose import connections, healthy, make_secrets
from deploy.grafana.asking import Asker
from tests.cache import UnavailableError
from tests.compose.test_file import COMPOSE, TOP, services
from tests.influx.server import free_port
from tests.pool.pool import Pool
from tests.postgres import server
from tests.postgres.server import Postgres

BIN = Path(sys.executable).parent
OURS = dict.fromkeys(make_secrets.OWNERS, os.getuid())


@dataclass
class Place:
    """Where the services' folders are here.

    :ivar secrets: the volumes with secrets.
    :ivar home: all else.
    :ivar postgres: the database server.
    """

    secrets: Path
    home: Path
    postgres: Postgres

    def environment(self, service: str, **more: str) -> dict[str, str]:
        """A service's variables, with addresses and folders of this machine."""
        values = {}
        for name, value in services()[service].get("environment", {}).items():
            text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)).replace("$$", "$")
            text = text.replace("postgres:5432", f"127.0.0.1:{self.postgres.port}")
            text = text.replace("/run/calib", str(self.secrets)).replace("/opt/calib/examples", f"{TOP}/examples:{TOP}")
            text = text.replace("/opt/calib/dags", str(TOP / "dags")).replace(
                "/opt/calib/home", str(self.home / "calib")
            )
            values[name] = text.replace("/opt/airflow", str(self.home / "airflow"))
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        return {**kept, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **values, **more}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    make_secrets.make(folder, OURS)
    return folder


@pytest.fixture
def place(tmp_path: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A PostgreSQL as the service `postgres` has it, its databases made by the service's own script."""
    monkeypatch.setattr(server, "USER", "postgres")
    database = Postgres()
    try:
        database.start()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        if not shutil.which("psql"):
            pytest.skip("there is no psql here, which the script of the service postgres calls")
        reached = {"PGHOST": "127.0.0.1", "PGPORT": str(database.port), "PGPASSWORD": database.password}
        given = {"POSTGRES_USER": "postgres", "POSTGRES_DB": "postgres", "CALIB_SECRETS": str(secrets / "postgres")}
        run(COMPOSE / "postgres" / "10-databases.sh", environment={**os.environ, **reached, **given})
        passes = secrets / "airflow" / "pgpass"
        passes.write_text(passes.read_text().replace("postgres:5432", f"127.0.0.1:{database.port}"))
        yield Place(secrets, tmp_path, database)
    finally:
        database.stop()
        database.remove()


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a command; what it says.

    :raises AssertionError: it failed.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


def test_secrets_are_made_once_and_are_private(secrets: Path) -> None:
    files = {str(file.relative_to(secrets)): file.read_text() for file in secrets.rglob("*") if file.is_file()}
    assert set(make_secrets.files(dict.fromkeys(make_secrets.SECRETS, ""))) < set(files)
    assert len({files[f"all/{name}"] for name in make_secrets.SECRETS}) == len(make_secrets.SECRETS)
    assert all(len(files[f"all/{name}"]) >= 43 for name in make_secrets.SECRETS)
    for path in secrets.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    shutil.rmtree(secrets / "grafana")
    make_secrets.make(secrets, OURS)
    again = {str(file.relative_to(secrets)): file.read_text() for file in secrets.rglob("*") if file.is_file()}
    assert again == files
    assert json.loads(files["api/passwords.json"])["admin"] in make_secrets.show(secrets)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders to others")
def test_each_service_owns_its_secrets(tmp_path: Path) -> None:
    run(sys.executable, COMPOSE / "make_secrets.py", tmp_path)
    users = {name: int(service["user"].split(":")[0]) for name, service in services().items()}
    users |= {"airflow": users["scheduler"], "api": users["api-server"]}
    for name, owner in make_secrets.OWNERS.items():
        assert owner == users[name]
        for path in [tmp_path / name, *(tmp_path / name).iterdir()]:
            assert path.stat().st_uid == owner
    assert (tmp_path / "all").stat().st_uid == 0


def test_files_that_services_name_are_made(secrets: Path) -> None:
    for name, service in services().items():
        for value in service.get("environment", {}).values():
            for file in re.findall(r"/run/calib/([\w./]+)", str(value)):
                assert (secrets / file).is_file() or file == "condor/token", (name, file)


def test_init_brings_both_databases_up(place: Place) -> None:
    """The service `init`, and what the others then read: keys from files, the connection from the database."""
    environment = place.environment(
        "init", CALIB_COMPOSE=str(COMPOSE), CALIB_SECRETS=str(place.secrets / "airflow"), CALIB_ZEE_RUNS=""
    )
    said = run("bash", COMPOSE / "init.sh", environment=environment)
    assert "imported" in said.lower(), said[-500:]
    owners = place.postgres.execute(
        "SELECT datname, datdba::regrole::text FROM pg_database WHERE datname <> 'postgres'"
    )
    assert {("airflow", "airflow"), ("calib", "calib")} <= {(str(a), str(b)) for a, b in owners}
    assert place.postgres.execute("SELECT count(*) FROM dag", "airflow") == [(0,)]
    assert place.postgres.execute("SELECT count(*) FROM run_group", "calib") == [(0,)]
    look = """
import json
from airflow.configuration import conf
from airflow.models import Connection
from airflow.utils.session import create_session
with create_session() as session:
    found = session.query(Connection).filter_by(conn_id="calib_influxdb").one()
    connection = [found.host, found.login, found.password, found.extra_dejson, found.is_encrypted]
print("\\n" + json.dumps({"connection": connection, "fernet": conf.get("core", "fernet_key"),
    "api": conf.get("api", "secret_key"), "jwt": conf.get("api_auth", "jwt_secret")}))
"""
    read = json.loads(run(sys.executable, "-c", look, environment=environment).strip().splitlines()[-1])
    folder = place.secrets / "airflow"
    password = (folder / "influxdb").read_text()
    assert read["connection"] == [connections.HOST, connections.USER, password, {"database": "calib"}, True]
    assert read["fernet"] == (folder / "fernet_key").read_text()
    assert read["api"] == (folder / "api_secret").read_text()
    assert read["jwt"] == (folder / "jwt_secret").read_text()
    assert not any(secret in said for secret in secrets_of(place.secrets))
    # Again: nothing to do, nothing breaks.
    run("calib", "db", "upgrade", environment=environment)


def secrets_of(folder: Path) -> list[str]:
    return [file.read_text() for file in (folder / "all").iterdir()]


def test_databases_are_closed_to_the_other_user(place: Place) -> None:
    import psycopg

    password = (place.secrets / "postgres" / "airflow").read_text()
    address = {"host": "127.0.0.1", "port": place.postgres.port, "user": "airflow", "password": password}
    psycopg.connect(dbname="airflow", **address).close()
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(dbname="calib", **address)


def test_grafana_gets_its_secret_from_the_file_alone(secrets: Path, tmp_path: Path) -> None:
    program = tmp_path / "run.sh"
    program.write_text('#!/bin/sh\nprintf %s "$CALIB_INFLUXDB_PASSWORD"\n')
    program.chmod(0o755)
    given = {"PATH": os.environ["PATH"], "CALIB_SECRETS": str(secrets / "grafana"), "CALIB_GRAFANA": str(program)}
    said = run("/bin/sh", COMPOSE / "grafana" / "start.sh", environment=given)
    assert said == (secrets / "influxdb" / "grafana").read_text()


def test_grafana_is_told_what_its_data_source_reads() -> None:
    read = (TOP / "deploy/grafana/provisioning/datasources/influxdb.yaml").read_text()
    named = set(re.findall(r"\$(CALIB_\w+)", read))
    given = set(services()["grafana"]["environment"]) | set(
        re.findall(r"export (\w+)", (COMPOSE / "grafana/start.sh").read_text())
    )
    assert named == {name for name in given if name.startswith("CALIB_")}
    provider = (TOP / "deploy/grafana/provisioning/dashboards/calib.yaml").read_text()
    [mounted] = [
        v.split(":")[1] for v in services()["grafana"]["volumes"] if v.startswith("./deploy/grafana/dashboards")
    ]
    assert f"path: {mounted}" in provider
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{mounted}/overview.json"


def test_the_health_check_sees_what_airflow_says() -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            states = {"scheduler": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}}
            self.wfile.write(json.dumps(states).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as answering:
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{answering.server_port}/"
        assert healthy.healthy("scheduler", address)
        assert not healthy.healthy("triggerer", address)
        answering.shutdown()
    with pytest.raises(OSError, match="refused"):
        healthy.healthy("scheduler", address)
    asked = {service["healthcheck"]["test"][-1] for service in services().values() if "healthcheck" in service}
    assert {"scheduler", "triggerer", "dag_processor"} < asked


def test_the_connection_to_the_pool_is_one() -> None:
    text = services()["scheduler"]["environment"]["AIRFLOW_CONN_CALIB_CONDOR"]
    connection = json.loads(text)
    assert connection["conn_type"] == CondorHook.conn_type
    settings = (COMPOSE / "condor" / "99-calib.conf").read_text()
    assert f"SCHEDD_NAME = {connection['extra']['schedd']}\n" in settings
    for name, value in connection["extra"]["configuration"].items():
        assert f"{name} = {value}\n" in settings
    assert f"COLLECTOR_HOST = {connection['host']}:{connection['port']}\n" in settings


PLACES = """
RELEASE_DIR = /usr
LIBEXEC = /usr/libexec/condor
LOCAL_DIR = /tmp/calib-compose
LOCAL_CONFIG_FILE =
LOCAL_CONFIG_DIR =
BIN = /usr/bin
SBIN = /usr/sbin
LIB = /usr/lib/condor
SHARE = /usr/share/condor
LOG = $(LOCAL_DIR)/log
RUN = $(LOCAL_DIR)/run
LOCK = $(LOCAL_DIR)/lock
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
DAEMON_SOCKET_DIR = $(LOCAL_DIR)/run
SHARED_PORT_DAEMON_AD_FILE = $(LOCAL_DIR)/run/shared_port_ad
MAIL =
"""

HERE = """
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
SHARED_PORT_PORT = {port}
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
NO_DNS = True
SEC_PASSWORD_DIRECTORY = $(LOCAL_DIR)/keys
SEC_TOKEN_POOL_SIGNING_KEY_FILE = $(LOCAL_DIR)/keys/POOL
SEC_TOKEN_SYSTEM_DIRECTORY = $(LOCAL_DIR)/tokens
UPDATE_INTERVAL = 3
SCHEDD_INTERVAL = 3
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
"""


@pytest.mark.condor
def test_the_pool_runs_a_job_of_airflows_user(pool: Pool) -> None:
    """The service `condor`: its settings, its script, its health check, and a job by the token that it makes."""
    settings = PLACES + (COMPOSE / "condor" / "99-calib.conf").read_text() + HERE.format(port=free_port())
    script = (COMPOSE / "condor" / "pre-exec.sh").read_text()
    kind, check = services()["condor"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    told = [f"SETTINGS={settings}", f"SCRIPT={script}", f"CHECK={check}"]
    body = (TOP / "tests" / "compose" / "pool.sh").read_text()
    said = pool.tool("env", *told, "bash", "-c", body, timeout=200)
    for line in ("key kept", "token 50000 400", "healthy", "no token, no answer"):
        assert f"{line}\n" in said, said
    assert "uid=50000(airflow) gid=50000(airflow)" in said, said


@pytest.mark.airflow
@pytest.mark.long
def test_the_four_commands_run_and_are_healthy(place: Place) -> None:
    """Airflow's services with their commands, on PostgreSQL, until their own health checks are content."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    more = {
        "CALIB_COMPOSE": str(COMPOSE),
        "CALIB_SECRETS": str(place.secrets / "airflow"),
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
    }
    run("bash", COMPOSE / "init.sh", environment=place.environment("init", **more))
    assert (place.home / "calib" / "detector" / "runs.csv").is_file()
    names = {"api-server": "", "scheduler": "scheduler", "triggerer": "triggerer", "dag-processor": "dag_processor"}
    started = []
    try:
        for name in names:
            with (place.home / f"{name}.log").open("w") as log:
                command = ["airflow", services()[name]["command"]]
                environment = place.environment(name, **more)
                started.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
                )
        waiting = dict(names)
        end = time.monotonic() + 300
        while waiting:
            assert time.monotonic() < end, f"not healthy: {sorted(waiting)}; logs in {place.home}"
            assert all(process.poll() is None for process in started)
            for name, component in list(waiting.items()):
                try:
                    if component:
                        good = healthy.healthy(component, f"{address}/api/v2/monitor/health")
                    else:
                        good = urllib.request.urlopen(f"{address}/api/v2/version", timeout=8).status == 200
                except OSError:
                    good = False
                if good:
                    del waiting[name]
            time.sleep(1)
        admin = json.loads((place.secrets / "api" / "passwords.json").read_text())["admin"]
        body = json.dumps({"username": "admin", "password": admin}).encode()
        login = urllib.request.Request(f"{address}/auth/token", body, {"Content-Type": "application/json"})
        assert json.load(urllib.request.urlopen(login, timeout=20))["access_token"]
    finally:
        for process in started:
            os.killpg(process.pid, 15)
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def test_influxdb_knows_the_users_of_grafana_and_of_the_mirror(influx2: Any) -> None:
    """On 2.x, made as `influx v1 auth create` makes them, which the script of the service `influxdb` calls."""
    org = influx2.call("GET", "/api/v2/orgs")["orgs"][0]["id"]
    [bucket] = influx2.call("GET", "/api/v2/buckets", name=influx2.bucket)["buckets"]
    for user, actions in {"mirror": ["read", "write"], "grafana": ["read"]}.items():
        resource = {"type": "buckets", "id": bucket["id"], "orgID": org}
        rights = [{"action": action, "resource": resource} for action in actions]
        path = "/private/legacy/authorizations"
        made = influx2.call("POST", path, {"orgID": org, "token": user, "permissions": rights})
        influx2.call("POST", f"{path}/{made['id']}/password", {"password": f"the-password-of-{user}"})
    given = {"url": influx2.url, "user": "mirror", "password": "the-password-of-mirror"}
    extra = connections.connections("")["calib_influxdb"]["extra"] | {"database": influx2.database}
    line = b"system,campaign=all,workflow=all event=1i 1000000000"
    assert InfluxClient(InfluxTarget.from_mapping({**given, **extra})).write(line, "").ok
    refused = InfluxTarget.from_mapping({**given, **extra, "user": "grafana", "password": "the-password-of-grafana"})
    assert not InfluxClient(refused).write(line, "").ok
    header = base64.b64encode(b"grafana:the-password-of-grafana").decode()
    for authorization in (f"Basic {header}", f"Token {influx2.token}"):
        ask = Asker(influx2.url, influx2.database, authorization)
        assert ask('SELECT "event" FROM "system"')[0]["values"] == [[1000, 1]]
