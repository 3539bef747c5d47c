"""Starting and stopping a real Airflow in a folder of its own: SQLite, localhost, free ports."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")


class AirflowFailed(RuntimeError):
    """A component of Airflow died or did not come up; the message names its log."""


def free_port() -> int:
    """A port on localhost that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class AirflowServer:
    """One Airflow installation.

    :param home: its folder (``AIRFLOW_HOME``); made if it is missing.
    :param dags: the folder of the stubs.
    :param environment: further variables for every component.
    """

    home: Path
    dags: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.home = self.home.resolve()
        self.logs.mkdir(parents=True, exist_ok=True)
        self.port, worker_logs, trigger_logs = (free_port() for _ in range(3))
        bin_folder = str(Path(sys.executable).parent)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "CALIB_"))}
        self.variables = {
            **kept,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags.resolve()),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # On a busy machine the five seconds that SQLite waits for a lock by default are too few: components die.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}?timeout=60",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            # It listens on this machine only, where everybody is an administrator anyway.
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{self.port}",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": self._secret("api"),
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt"),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
            "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "200",
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "15",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **self.environment,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> Path:
        return self.home / "component-logs"

    def _secret(self, name: str) -> str:
        """A secret that all components share, and that a restart keeps."""
        file = self.home / f".{name}-secret"
        if not file.exists():
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_hex(32))
        return file.read_text()

    def prepare(self) -> None:
        """Create Airflow's database.

        :raises AirflowFailed: that did not work.
        """
        with (self.logs / "db.log").open("ab") as log:
            done = subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=self.variables,
                stdout=log,
                stderr=log,
                check=False,
            )
        if done.returncode:
            raise AirflowFailed(f"`airflow db migrate` failed; see {self.logs / 'db.log'}")

    def start(self, *components: str) -> None:
        """Start these components, all by default, each in a session of its own."""
        for name in components or COMPONENTS:
            with (self.logs / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "airflow", name],
                    env=self.variables,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def kill(self, component: str) -> None:
        """Kill -9 a component with all of its children, as a power failure would."""
        process = self.processes.pop(component)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, patience: float = 15.0) -> None:
        """Stop everything, and return when nothing of it is left."""
        for process in self.processes.values():
            _signal_group(process.pid, signal.SIGTERM)
        until = time.monotonic() + patience
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()

    def check_alive(self) -> None:
        """
        :raises AirflowFailed: a component has died.
        """
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise AirflowFailed(f"airflow {name} died ({process.returncode}); see {self.logs / f'{name}.log'}")

    def wait_healthy(self, timeout: float = 400.0) -> None:
        """
        :raises AirflowFailed: a component died, or not all were healthy in time.
        """
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            self.check_alive()
            try:
                health = self.call("GET", "/api/v2/monitor/health", tries=1)
            except (OSError, ValueError):
                time.sleep(0.5)
                continue
            states = {
                name: (health.get(name) or {}).get("status") for name in ("scheduler", "triggerer", "dag_processor")
            }
            if all(state == "healthy" for state in states.values()):
                return
            time.sleep(0.5)
        raise AirflowFailed(f"Airflow was not healthy after {timeout:g} s; see {self.logs}")

    def token(self) -> str:
        """A token for the REST API."""
        if not hasattr(self, "_token"):
            self._token = str(self._request("GET", "/auth/token", None, {})["access_token"])
        return self._token

    def call(self, method: str, path: str, body: Any = None, *, tries: int = 10) -> Any:
        """Call the REST API; server errors, which a busy SQLite causes now and then, are tried again.

        :raises urllib.error.HTTPError: the API refused (4xx), or failed at every try.
        """
        for left in reversed(range(tries)):
            try:
                return self._request(method, path, body, {"Authorization": f"Bearer {self.token()}"})
            except urllib.error.HTTPError as error:
                if error.code < 500 or not left:
                    raise
            except OSError:
                if not left:
                    raise
            time.sleep(1)
        raise AssertionError("unreachable")

    def _request(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - the address is our own
            self.url + path, data=data, method=method, headers={"Content-Type": "application/json", **headers}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            text = answer.read()
        return json.loads(text) if text else None

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Trigger a DAG run by hand, as a user does in the UI.

        :returns: its run id.
        """
        run = self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": dict(conf or {})})
        return str(run["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a DAG run."""
        return str(self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_for_dags(self, *dag_ids: str, timeout: float = 300.0) -> None:
        """
        :raises AirflowFailed: not all of these DAGs were parsed in time.
        """
        until = time.monotonic() + timeout
        known: set[str] = set()
        texts = ""
        while time.monotonic() < until and not texts:
            self.check_alive()
            known = {dag["dag_id"] for dag in self.call("GET", "/api/v2/dags?limit=100")["dags"]}
            if known.issuperset(dag_ids):
                return
            errors = self.call("GET", "/api/v2/importErrors")["import_errors"]
            texts = "\n".join(f"{error['filename']}: {error['stack_trace']}" for error in errors)
            time.sleep(0.5)
        raise AirflowFailed(f"DAGs missing: {sorted(set(dag_ids) - known)}\n{texts}")


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
