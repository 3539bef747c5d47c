"""Starting and stopping an Airflow in a folder of its own: SQLite, this machine only, free ports."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from airflow_calib_provider.errors import CalibError

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")

AIRFLOW = (sys.executable, "-m", "airflow_calib_provider.dags.component")
"""The command ``airflow``; it is a module of ours that imports Airflow, which the command line never does."""

USUAL_PORT = 8080

DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"

REFRESH = 15
"""Seconds after which new and edited files are seen."""

PARALLEL = 4
"""Tasks that run at once: more at a time lock up Airflow's SQLite."""

_ODD = "?#%$"
"""Characters that addresses of databases or Airflow's configuration take for something else."""


class AirflowFailed(CalibError, RuntimeError):
    """A component of Airflow died or did not come up; the message names its log."""


def free_port(wanted: int = 0) -> int:
    """A port of this machine that nobody listens on.

    :param wanted: this one.
    :raises OSError: it is not free.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", wanted))
        return int(probe.getsockname()[1])


def usual_port() -> int:
    """Airflow's usual port if it is free, else another."""
    try:
        return free_port(USUAL_PORT)
    except OSError:
        return free_port()


@dataclass
class AirflowServer:
    """One Airflow installation.

    :param home: its folder (``AIRFLOW_HOME``); made if it is missing.
    :param dags: the folder of the stubs.
    :param environment: further variables for every component. Those of this process are passed on, but for Airflow's
        and our own: they may be those of another installation.
    :param port: of the UI; 0: any that is free.
    """

    home: Path
    dags: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.home = self.home.resolve()
        if odd := [letter for letter in _ODD if letter in str(self.home)]:
            raise AirflowFailed(
                f"Airflow cannot be in the folder {self.home}: its name has {odd[0]!r}", "choose another with --home"
            )
        self.logs.mkdir(parents=True, exist_ok=True)
        self._lock: int | None = None
        self.port = self.port or free_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "CALIB_"))}
        bin_folder = str(Path(sys.executable).parent)
        path = f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}"
        self.variables = {**kept, "PATH": path, **self._settings(), **self.environment}

    def _settings(self) -> dict[str, str]:
        return {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags.resolve()),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # On a busy machine the five seconds that SQLite waits for a lock by default are too few: components die.
            DATABASE: self._database(60),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(PARALLEL),
            # It listens on this machine only, where everybody is an administrator anyway.
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            # By default tasks would look for it at the usual port, whichever it has.
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": self._secret("api"),
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt"),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "200",
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            # A worker often sees the end of its task only when the next heartbeat is due, and is taken until then.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": str(REFRESH),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": str(REFRESH),
            # Longer than all may wait for a lock: a file whose parsing waited so long has not lost its DAGs.
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "150",
            "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "150",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **self._encryption(),
        }

    def _database(self, patience: int) -> str:
        return f"sqlite:///{self.home / 'airflow.db'}?timeout={patience}"

    def settings_of(self, component: str) -> dict[str, str]:
        """The environment of one component.

        What a person asks the API server for is first written to the audit log, in the thread that serves everybody: if
        a request of a task has the lock of SQLite just then, each waits for the other until the time is over.
        """
        alone = component == "api-server" and DATABASE not in self.environment
        return {**self.variables, DATABASE: self._database(8)} if alone else self.variables

    def _encryption(self) -> dict[str, str]:
        """What connections are encrypted with.

        Without a configuration file each component that starts writes one, with a key of its own, and reads what
        another has encrypted as if it were not there. A file that is there already has the key of what is stored.
        """
        if (self.home / "airflow.cfg").exists() and not self._secret_file("fernet").exists():
            return {}
        return {"AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(bytes.fromhex(self._secret("fernet"))).decode()}

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> Path:
        """Where the components' output goes."""
        return self.home / "component-logs"

    def _secret(self, name: str) -> str:
        """A secret that all components share, and that a restart keeps."""
        file = self._secret_file(name)
        if not file.exists():
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_hex(32))
        return file.read_text()

    def _secret_file(self, name: str) -> Path:
        return self.home / f".{name}-secret"

    def lock(self) -> None:
        """Keep the folder for this Airflow; its components keep it too, should this process be killed.

        :raises AirflowFailed: one runs in it already.
        """
        descriptor = os.open(self.home / ".running", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            said = os.read(descriptor, 1000).decode(errors="replace").strip()
            os.close(descriptor)
            raise AirflowFailed(
                f"an Airflow runs in {self.home} already{': ' + said if said else ''}",
                "end it with Ctrl-C where it was started, or kill these processes; or choose another folder with "
                "--home",
            ) from None
        self._lock = descriptor

    def prepare(self) -> None:
        """Create Airflow's database, or bring it to this version.

        :raises AirflowFailed: that did not work.
        """
        with (self.logs / "db.log").open("ab") as log:
            done = subprocess.run(
                [*AIRFLOW, "db", "migrate"],
                env=self.variables,
                stdin=subprocess.DEVNULL,
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
                    [*AIRFLOW, name],
                    env=self.settings_of(name),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=() if self._lock is None else (self._lock,),
                )
        if self._lock is not None:
            listed = ", ".join(f"{name} {process.pid}" for name, process in self.processes.items())
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{self.url} ({listed})\n".encode(), 0)

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
        """:raises AirflowFailed: a component has died."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise AirflowFailed(f"airflow {name} died ({process.returncode}); see {self.logs / f'{name}.log'}")

    def wait_healthy(self, timeout: float = 400.0) -> None:
        """:raises AirflowFailed: a component died, or not all were healthy in time."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            self.check_alive()
            if self._is_healthy():
                return
            time.sleep(0.5)
        raise AirflowFailed(f"Airflow was not healthy after {timeout:g} s; see {self.logs}")

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/monitor/health", timeout=30) as answer:  # noqa: S310
                health = json.load(answer)
        except (OSError, ValueError):
            return False
        parts = ("scheduler", "triggerer", "dag_processor")
        return all((health.get(name) or {}).get("status") == "healthy" for name in parts)

    def write_environment(self, file: Path) -> Path:
        """Write what a shell needs to see this Airflow and its ledger; some of it is secret."""
        variables = {**self.variables, "CALIB_AIRFLOW_URL": self.url}
        names = sorted(name for name in variables if name.startswith(("AIRFLOW", "CALIB_")))
        lines = [f"export {name}={shlex.quote(variables[name])}" for name in names]
        lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
        file.touch(0o600)
        file.chmod(0o600)
        file.write_text("\n".join([*lines, ""]), encoding="utf-8")
        return file


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
