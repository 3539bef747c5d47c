"""Driving an Airflow from outside: starting it as ``calib airflow start`` does, and using its REST API."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from airflow_calib_provider.cli.airflow_server import COMPONENTS, AirflowFailed
from airflow_calib_provider.cli.airflow_server import AirflowServer as Server

__all__ = ["COMPONENTS", "AirflowFailed", "AirflowServer"]


class AirflowServer(Server):
    """One Airflow installation, with what a user does in its UI."""

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
        run_id = str(run["dag_run_id"])
        # Airflow answers before its database has the DAG run.
        until = time.monotonic() + 30
        while True:
            try:
                self.run_state(dag_id, run_id)
            except urllib.error.HTTPError as error:
                if error.code != 404 or time.monotonic() > until:
                    raise
                time.sleep(0.2)
            else:
                return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a DAG run."""
        return str(self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_for_dags(self, *dag_ids: str, timeout: float = 300.0) -> None:
        """:raises AirflowFailed: not all of these DAGs were parsed in time."""
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
