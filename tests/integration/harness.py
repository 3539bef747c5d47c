"""A real Airflow with the toy workflows, and what tests ask of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from demo.airflow_server import COMPONENTS, AirflowServer
from sqlalchemy import make_url, select

from airflow_calib_provider.ledger import schema, tables
from airflow_calib_provider.ledger.engine import Ledger
from tests.cache import kept

HERE = Path(__file__).parent
HEADER = "number,start,end,fill,luminosity,completed,files"
FIRST_START = datetime(2026, 1, 1, tzinfo=UTC)

QUICK = {
    "CALIB_AIRFLOW_RETRY_DELAY": "2",
    "CALIB_RETRY_DELAY": "1",
    # Jobs that hold must not keep others from running.
    "CALIB_LOCAL_SLOTS": "24",
    "CALIB_WATCH_INTERVAL": "1",
    "CALIB_POLL_INTERVAL": "2",
    "CALIB_OPEN_PATIENCE": "60",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    # To read all stubs all the time costs more than the tests: what `edit` writes is read at once, and new stubs soon.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3",
}


def migrated_database() -> Path:
    """An empty database of this version of Airflow: to migrate one takes as long as a test."""

    def make(folder: Path) -> None:
        server = AirflowServer(folder / "home", folder)
        server.prepare()
        (folder / "home" / "airflow.db").rename(folder / "airflow.db")
        shutil.rmtree(folder / "home")

    return kept("airflow-database", version("apache-airflow"), make) / "airflow.db"


def ledger_connection(address: str) -> dict[str, object]:
    """An Airflow connection as a site would write it: by its fields for PostgreSQL, else as one address."""
    url = make_url(address)
    if url.get_backend_name() != "postgresql":
        return {"conn_type": "generic", "extra": {"url": address}}
    where: dict[str, object] = {"host": url.host, "port": url.port, "schema": url.database}
    return {"conn_type": "postgres", **where, "login": url.username, "password": url.password}


class Installation:
    """Airflow, ledger, run source and job control of the modules that share them.

    Run numbers only grow: a module has a run source and a workflow of its own (:meth:`add_workflow`).

    :param folder: everything is written below.
    :param ledger_url: the ledger's address; by default an SQLite file.
    """

    def __init__(self, folder: Path, extra: Mapping[str, str] | None = None, ledger_url: str = "") -> None:
        self.folder = folder
        shutil.copytree(HERE / "installation", folder / "installation")
        self.control = folder / "control"
        self.crashes = folder / "crashes"
        for path in (self.control, self.crashes, folder / "runs"):
            path.mkdir()
        self.specs = folder / "installation" / "workflow_specs"
        for spec in self.specs.glob("*.yaml"):
            # What a spec names outside of its checkout is in no copy of it.
            spec.write_text(spec.read_text().replace("{{ spec.folder }}/../../control", str(self.control)))
        self.take_runs_from("runs")
        self.home = folder / "calib"
        # Not where the default would be: whoever finds it took it from the Airflow connection.
        self.ledger_url = ledger_url or f"sqlite:///{folder / 'by-connection' / 'ledger.db'}"
        self.environment = {
            **QUICK,
            "CALIB_HOME": str(self.home),
            "CALIB_TEST_RUNS": str(folder / "runs"),
            "CALIB_CRASH_FOLDER": str(self.crashes),
            "TOY_CONTROL": str(self.control),
            "AIRFLOW_CONN_CALIB_LEDGER": json.dumps(ledger_connection(self.ledger_url)),
            **(extra or {}),
        }
        self.airflow = AirflowServer(folder / "airflow", folder / "installation" / "dags", self.environment)
        os.environ["CALIB_HOME"] = str(self.home)
        self.ledger = Ledger(self.ledger_url)
        self._keep = threading.Event()
        self._keeper: threading.Thread | None = None
        self.restarts: Counter[str] = Counter()

    def start(self) -> None:
        """Start everything, and restart what dies, as a service manager does."""
        schema.upgrade(self.ledger)
        shutil.copy(migrated_database(), self.airflow.home / "airflow.db")
        self.airflow.start()
        self.airflow.wait_healthy()
        self._keep.set()
        self._keeper = threading.Thread(target=self._restart_the_dead, daemon=True)
        self._keeper.start()

    def _restart_the_dead(self) -> None:
        while self._keep.is_set():
            for name in COMPONENTS:
                process = self.airflow.processes.get(name)
                if process is not None and process.poll() is not None:
                    self.restarts[name] += 1
                    self.airflow.start(name)
            time.sleep(0.5)

    def stop(self) -> None:
        self._keep.clear()
        if self._keeper:
            self._keeper.join()
        # It is not used again: nobody waits for it.
        self.airflow.stop(patience=0)
        self.ledger.close()

    def kill(self, component: str) -> None:
        """Kill -9; the keeper starts it again."""
        process = self.airflow.processes[component]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()

    def take_runs_from(self, source: str) -> None:
        """Let :meth:`add_runs` add to this source."""
        self.runs_file = self.folder / "runs" / f"{source}.csv"
        if not self.runs_file.exists():
            self.runs_file.write_text(HEADER + "\n")

    def add_workflow(self, name: str) -> None:
        """A workflow as ``toy``, of a run source of its own; both have this name, and so has what is published."""
        self.add_source(name)
        text = (self.specs / "toy.yaml").read_text()
        text = text.replace("workflow: toy", f"workflow: {name}").replace("source: runs", f"source: {name}")
        self.write_workflow(name, text.replace("ToyConstants", f"{name.title()}Constants"))
        self.airflow.wait_for_dags(f"{name}__run", f"{name}__sum")

    def add_source(self, name: str) -> None:
        """A run source of this name, from which runs are taken from now on."""
        self.take_runs_from(name)
        sources = self.specs / "sources.yaml"
        lines = sources.read_text().splitlines()
        sources.write_text("\n".join([*lines, *(line.replace("runs", name) for line in lines[2:5]), ""]))

    def write_workflow(self, name: str, text: str) -> None:
        """A workflow and its stub, which Airflow reads soon."""
        (self.specs / f"{name}.yaml").write_text(text)
        stubs = self.folder / "installation" / "dags"
        shutil.copy(stubs / "toy.py", stubs / f"{name}.py")

    def edit(self, spec: Path, text: str) -> None:
        """Write a spec, and let Airflow read all stubs at once, not only when it is time."""
        spec.write_text(text)
        for stub in (self.folder / "installation" / "dags").glob("*.py"):
            stub.touch()

    def add_runs(
        self, numbers: Sequence[int], *, fill: int = 1, completed: bool = True, luminosity: float = 1.0
    ) -> None:
        """Let the run source list these runs."""
        with self.runs_file.open("a") as stream:
            for number in numbers:
                start = FIRST_START + timedelta(minutes=number)
                end = start + timedelta(seconds=50)
                stream.write(
                    f"{number},{start.isoformat()},{end.isoformat()},{fill},{luminosity},{str(completed).lower()},\n"
                )

    def control_job(self, run: int, what: str) -> None:
        (self.control / str(run)).write_text(what)

    def inject(self, timeout: float = 300.0) -> str:
        """Trigger calib_inject, and wait for its end."""
        run_id = self.airflow.trigger("calib_inject")
        self.wait(
            lambda: self.airflow.run_state("calib_inject", run_id) in ("success", "failed"), timeout, "calib_inject"
        )
        return self.airflow.run_state("calib_inject", run_id)

    def wait(self, condition: Callable[[], Any], timeout: float, what: str = "") -> Any:
        """Wait for a condition, and say how everything stands if it does not come."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if found := condition():
                return found
            time.sleep(1)
        raise AssertionError(f"after {timeout:g} s still waiting for {what}\n{self.describe()}")

    def describe(self) -> str:
        states = self.task_states()
        tasks: dict[str, Counter[str]] = {}
        for (_, task), state in states.items():
            tasks.setdefault(task, Counter())[state] += 1
        open_tasks = [f"{key}: {state}" for key, state in sorted(states.items()) if state not in ("done", "skipped")]
        return (
            f"ledger: {tasks}\nnot done: {open_tasks[:30]}\nrestarts: {dict(self.restarts)}\n"
            f"Airflow: {self.describe_airflow()}\nlogs: {self.folder}"
        )

    def describe_airflow(self) -> list[str]:
        """The newest DAG runs with tasks that have not ended well, with these tasks."""
        found = self.airflow.call("GET", "/api/v2/dags/~/dagRuns?limit=30&order_by=-id")["dag_runs"]
        told = []
        for run in found:
            tasks = self.airflow_tasks(run["dag_id"], run["dag_run_id"])
            if left := {task: state for task, state in tasks.items() if state not in ("success", "skipped")}:
                told.append(f"{run['dag_id']} {run['dag_run_id']} ({run['state']}): {left}")
        return told

    def rows(self, query: Any) -> list[Any]:
        with self.ledger.read() as connection:
            return list(connection.execute(query).all())

    def task_states(self, campaign: str = "prompt") -> dict[tuple[str, str], str]:
        """(group, task) → state in the ledger."""
        table, group = tables.group_task, tables.run_group
        query = select(group.c.workflow, group.c.name, table.c.task, table.c.state)
        query = query.join(group, group.c.id == table.c.group_id).where(group.c.campaign == campaign)
        return {(f"{row.workflow}/{row.name}", row.task): row.state for row in self.rows(query)}

    def executions(self) -> Counter[tuple[int, int, int]]:
        """How often (run, job, attempt) was really executed."""
        file = self.control / "executions"
        lines = file.read_text().splitlines() if file.exists() else []
        return Counter(tuple(int(word) for word in line.split()) for line in lines)  # type: ignore[misc]

    def airflow_runs(self, dag_id: str) -> list[Any]:
        return list(self.airflow.call("GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=500")["dag_runs"])

    def airflow_tasks(self, dag_id: str, run_id: str) -> dict[str, str]:
        answer = self.airflow.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return {item["task_id"]: item["state"] for item in answer["task_instances"]}

    def calib(self, *arguments: str) -> str:
        """Run the command line as a user does, with Airflow's address; returns what it printed.

        As a user it tries once more if Airflow says 500, as its SQLite does when it is locked for too long.
        """
        done = self.run_calib(*arguments)
        if "answers 500" in done.stderr:
            done = self.run_calib(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run_calib(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """As :meth:`calib`, which may fail."""
        variables = {
            **os.environ,
            "CALIB_HOME": str(self.home),
            "CALIB_LEDGER": self.ledger_url,
            "CALIB_AIRFLOW_URL": self.airflow.url,
            **{name: self.environment[name] for name in ("PYTHONPATH", "CALIB_TEST_RUNS") if name in self.environment},
            **environment,
        }
        command = [str(Path(sys.executable).parent / "calib"), *arguments]
        folder = self.folder / "installation"
        return subprocess.run(
            command, env=variables, cwd=folder, capture_output=True, text=True, check=False, timeout=300
        )

    def set_state(self, dag_id: str, run_id: str, task: str, state: str) -> None:
        """Mark success or failed, as a user does in the UI."""
        self.airflow.call("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}", {"new_state": state})

    def wait_run_ended(self, dag_id: str, run_id: str) -> None:
        """A clear between a task's end and its DAG run's is lost: the scheduler then ends the DAG run all the same."""
        self.wait(lambda: self.airflow.run_state(dag_id, run_id) in ("failed", "success"), 120, f"{run_id} to end")

    def clear(self, dag_id: str, run_id: str, *tasks: str, downstream: bool = False) -> None:
        """Clear tasks, as a user does in the UI."""
        if "deferred" not in self.airflow_tasks(dag_id, run_id).values():
            self.wait_run_ended(dag_id, run_id)
        body = {
            "dag_run_id": run_id,
            "task_ids": list(tasks),
            "dry_run": False,
            "only_failed": False,
            "reset_dag_runs": True,
            "include_downstream": downstream,
        }
        self.airflow.call("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body)
