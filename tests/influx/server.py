"""A real InfluxDB server on this machine alone, with authentication."""

from __future__ import annotations

import json
import random
import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import httpx

from tests import owned
from tests.cache import UnavailableError
from tests.influx.building import build

START_SECONDS = 60.0
STOP_SECONDS = 30.0
CALL_SECONDS = 30.0
CERTIFICATES = False  # there is no TLS, and to read them takes longer than a call
TRIES = 5  # at a free port
ADMIN = "admin"
ORG = "calib"
RECORD = "server.json"


@dataclass
class Influx:
    """A server with a database or bucket in it: a context manager, or :meth:`start` and :meth:`stop`.

    Attributes:
        version: 1.8.10 or 2.7.12.
        folder: of its data, its log and its settings.
        port: of 127.0.0.1; the same from the first start to the end.
        database: the name by which InfluxQL knows the present database; of 2.x that is the bucket's.
        user: who may read and write that database, and nothing else; of 2.x: who set the server up.
        password: the user's.
        org: of 2.x.
        bucket: of 2.x, the present one.
        token: of 2.x, with every right; see also :meth:`bucket_token`.
    """

    version: str
    folder: Path
    port: int = 0
    database: str = ""
    user: str = "writer"
    password: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)
    org: str = ""
    bucket: str = ""
    token: str = field(default="", repr=False)
    admin_password: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)
    _server: owned.Owned | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def major(self) -> int:
        """1 or 2."""
        return int(self.version[0])

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "influxd.log"

    # --- Life

    def start(self, owner: int | None = None) -> Self:
        """Start it with the data that it had, if any, and wait until it answers; a running one is left alone.

        Args:
            owner: the process with whose end it ends; by default this one; 0 for none.

        Raises:
            UnavailableError: it cannot be built or started here.
        """
        if self.running():
            return self
        program = build(self.version)
        fresh = not self.port
        self.folder.mkdir(parents=True, exist_ok=True)
        for _ in range(TRIES if fresh else 1):
            if fresh:
                self.port = free_port()
            self._server = owned.start(self._command(program), self.log, owner=owner)
            if self._answers():
                break
            self.kill()
        else:
            raise UnavailableError(f"InfluxDB {self.version} does not start (log: {self.log}): {self._last_words()}")
        if fresh:
            self._set_up()
            self.new_database("calib")
        return self

    def running(self) -> bool:
        """Whether its process has not ended."""
        return self._server is not None and self._server.running()

    def stop(self) -> None:
        """End it in the ordinary way; its data stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it, and start it on the same port with the same data."""
        self.stop()
        self.start()

    def stop_silently(self) -> None:
        """Stop it with SIGSTOP: it accepts connections and stays silent."""
        assert self._server is not None
        self._server.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after :meth:`stop_silently`."""
        assert self._server is not None
        self._server.send(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- Databases

    def new_database(self, name: str = "") -> str:
        """Make a database or bucket, and make it the present one.

        Returns:
            Its name.
        """
        name = name or f"t{secrets.token_hex(6)}"
        if self.major == 1:
            self.query(f'CREATE DATABASE "{name}"')
            self.query(f'GRANT ALL ON "{name}" TO "{self.user}"')
        else:
            org = self._org_id()
            made = self.call("POST", "/api/v2/buckets", {"name": name, "orgID": org, "retentionRules": []})
            mapping = {"bucketID": made["id"], "orgID": org, "database": name, "retention_policy": "autogen"}
            self.call("POST", "/api/v2/dbrps", {**mapping, "default": True})
            self.bucket = name
        self.database = name
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, or a bucket with its mapping."""
        if self.major == 1:
            self.query(f'DROP DATABASE "{name}"')
            return
        for bucket in self.call("GET", "/api/v2/buckets", name=name)["buckets"]:
            for mapping in self.call("GET", "/api/v2/dbrps", orgID=self._org_id(), bucketID=bucket["id"])["content"]:
                if not mapping.get("virtual"):
                    self.call("DELETE", f"/api/v2/dbrps/{mapping['id']}", orgID=self._org_id())
            self.call("DELETE", f"/api/v2/buckets/{bucket['id']}")

    def bucket_token(self, *actions: str) -> str:
        """Of 2.x: a token for the present bucket alone.

        Args:
            actions: ``read``, ``write``; by default both.
        """
        org = self._org_id()
        [bucket] = self.call("GET", "/api/v2/buckets", name=self.bucket)["buckets"]
        resource = {"type": "buckets", "id": bucket["id"], "orgID": org}
        rights = [{"action": action, "resource": resource} for action in actions or ("read", "write")]
        made = self.call("POST", "/api/v2/authorizations", {"orgID": org, "permissions": rights})
        return str(made["token"])

    # --- Reading and writing, with every right

    def query(self, influxql: str) -> list[dict[str, Any]]:
        """The rows of all statements: tags, times (ns) and fields by their names; ``_name`` is the measurement.

        Raises:
            RuntimeError: the server refused it; the text holds what it said.
        """
        answer = self._request("POST", "/query", params={"db": self.database, "q": influxql, "epoch": "ns"})
        rows = []
        for result in answer.json()["results"]:
            if "error" in result:
                raise RuntimeError(f"{influxql}: {result['error']}")
            for series in result.get("series", []):
                same = {"_name": series.get("name", ""), **series.get("tags", {})}
                rows += [
                    same | dict(zip(series["columns"], values, strict=True)) for values in series.get("values", [])
                ]
        return rows

    def write(self, *lines: str) -> None:
        """Write points by line protocol, with times in ns.

        Raises:
            RuntimeError: the server refused them; the text holds what it said.
        """
        where = {"db": self.database} if self.major == 1 else {"org": self.org, "bucket": self.bucket}
        path = "/write" if self.major == 1 else "/api/v2/write"
        self._request("POST", path, params={**where, "precision": "ns"}, content="\n".join(lines).encode())

    def call(self, method: str, path: str, body: Any = None, **params: str) -> Any:
        """Of 2.x: one call of its API; what it answers.

        Raises:
            RuntimeError: the server refused it; the text holds what it said.
        """
        answer = self._request(method, path, params=params, json=body)
        return answer.json() if answer.content else None

    # --- Found again by hand

    def save(self) -> None:
        """Write down what :meth:`attach` needs."""
        assert self._server is not None
        record = {item.name: getattr(self, item.name) for item in fields(self) if not item.name.startswith("_")}
        path = self.folder / RECORD
        path.touch(mode=0o600)
        path.write_text(json.dumps({**record, "folder": str(self.folder), "number": self._server.number}))

    @classmethod
    def attach(cls, folder: Path) -> tuple[Self, int]:
        """The server that another process started, and the number of its process.

        Raises:
            FileNotFoundError: none runs there.
        """
        record = json.loads((folder / RECORD).read_text())
        number = record.pop("number")
        if b"influxd" not in Path(f"/proc/{number}/cmdline").read_bytes():  # another process has its number
            raise FileNotFoundError(f"no InfluxDB runs in {folder}")
        return cls(**{**record, "folder": Path(record["folder"])}), number

    # --- Inner

    def _command(self, program: Path) -> list[str]:
        if self.major == 1:
            settings = self.folder / "influxdb.toml"
            settings.write_text(_SETTINGS_1.format(folder=self.folder, port=self.port))
            return [str(program), "run", "-config", str(settings)]
        return [
            str(program),
            *("--bolt-path", str(self.folder / "influxd.bolt")),
            *("--sqlite-path", str(self.folder / "influxd.sqlite")),
            *("--engine-path", str(self.folder / "engine")),
            *("--http-bind-address", f"127.0.0.1:{self.port}"),
            "--reporting-disabled",
        ]

    def _answers(self) -> bool:
        """Wait until it is ready; whether it is."""
        end = time.monotonic() + START_SECONDS
        while self.running() and time.monotonic() < end:
            try:
                answer = httpx.get(f"{self.url}/health", timeout=5, verify=CERTIFICATES)
                # Another server may have taken the port: ours must be the one that goes on.
                if answer.status_code == 200 and self.running():
                    return True
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        return False

    def _set_up(self) -> None:
        """What a new server needs: its users, and the token of 2.x."""
        if self.major == 1:
            # Authentication begins with the first user.
            create = "CREATE USER \"{}\" WITH PASSWORD '{}'"
            self.query(f"{create.format(ADMIN, self.admin_password)} WITH ALL PRIVILEGES")
            self.query(create.format(self.user, self.password))
            return
        self.org, self.token = ORG, secrets.token_urlsafe(32)
        account = {"username": self.user, "password": self.password, "org": ORG, "bucket": "first"}
        answer = httpx.post(
            f"{self.url}/api/v2/setup",
            json={**account, "token": self.token},
            timeout=CALL_SECONDS,
            verify=CERTIFICATES,
        )
        if answer.status_code != 201:
            raise UnavailableError(f"InfluxDB {self.version} cannot be set up: {answer.text}")

    def _org_id(self) -> str:
        [org] = self.call("GET", "/api/v2/orgs", org=self.org)["orgs"]
        return str(org["id"])

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A call with every right."""
        if self.major == 1:
            options["auth"] = (ADMIN, self.admin_password)
        else:
            options["headers"] = {"Authorization": f"Token {self.token}"}
        answer = httpx.request(method, f"{self.url}{path}", timeout=CALL_SECONDS, verify=CERTIFICATES, **options)
        if answer.status_code >= 300:
            raise RuntimeError(f"{method} {path} was answered with {answer.status_code}: {answer.text.strip()}")
        return answer

    def _end(self, number: int) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.send(number)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.send(signal.SIGKILL)
            server.wait(STOP_SECONDS)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing was said"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on.

    It is none of those that the system hands out by itself: while the server is down, nobody comes to have it.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


_SETTINGS_1 = """
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  auth-enabled = true
  log-enabled = false
"""
