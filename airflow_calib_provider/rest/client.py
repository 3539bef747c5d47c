"""Airflow's REST API, as far as this package needs it.

Address: ``CALIB_AIRFLOW_URL``. Token: ``CALIB_AIRFLOW_TOKEN``, or the file ``CALIB_AIRFLOW_TOKEN_FILE`` (mode 0600); an
Airflow whose simple auth manager makes everybody an administrator hands one out.
"""

from __future__ import annotations

import json
import os
import stat
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_calib_provider.errors import AirflowUnreachable, CalibError, NotFound
from airflow_calib_provider.spec.language import INJECT, RUNS_ASSET

if TYPE_CHECKING:
    import httpx

    from airflow_calib_provider.ledger.explain_airflow import Answer

TIMEOUT = 10.0
CHANGE_TIMEOUT = 60.0
"""Seconds for what changes something: whoever gives up earlier does not know whether it has happened."""

AWAITING = "awaiting_input"
"""Airflow's state of a task that has asked persons."""

LOOKS = 3
LOOK_AGAIN = 1.0
"""Seconds between two looks at a DAG run that was cleared: longer than a scheduler needs to write what it has found."""

TRIES = 3
PAGE = 100

_TOKEN_HINT = "set CALIB_AIRFLOW_TOKEN, or CALIB_AIRFLOW_TOKEN_FILE"  # noqa: S105 - names of variables, no secret


class _TryAgain(Exception):
    """Airflow answered that something inside it failed."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


def token_from_environment() -> str | None:
    """The token that the user has set.

    :raises CalibError: its file cannot be read, or others can read it; or it is no token.
    """
    if token := os.environ.get("CALIB_AIRFLOW_TOKEN"):
        return _usable(token.strip(), "CALIB_AIRFLOW_TOKEN")
    name = os.environ.get("CALIB_AIRFLOW_TOKEN_FILE")
    if not name:
        return None
    file = Path(name)
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            raise CalibError(f"the token file {file} has mode {mode:04o}: others may use it", f"chmod 0600 {file}")
        token = file.read_bytes().decode(errors="replace").strip()
    except OSError as error:
        raise CalibError(
            f"the token file {file} cannot be read: {error.strerror}", "check CALIB_AIRFLOW_TOKEN_FILE"
        ) from error
    if not token:
        raise CalibError(f"the token file {file} is empty", "put Airflow's token into it")
    return _usable(token, f"the token file {file}")


def _usable(token: str, where: str) -> str:
    """What HTTP can carry; the token itself is never told."""
    if not all("!" <= letter <= "~" for letter in token):
        raise CalibError(
            f"{where} holds no token: a blank, a line end or another letter than those of ASCII is in it",
            "put nothing but Airflow's token there",
        )
    return token


class Airflow:
    """A client, to be used in a ``with`` statement.

    :raises AirflowUnreachable: no usable address is set.
    :raises CalibError: the token's file is not usable.
    """

    def __init__(self, url: str | None = None) -> None:
        address = (url or os.environ.get("CALIB_AIRFLOW_URL") or "").rstrip("/")
        if not address.startswith(("http://", "https://")):
            what = f"CALIB_AIRFLOW_URL is {address!r}, no web address" if address else "CALIB_AIRFLOW_URL is not set"
            raise AirflowUnreachable(what, "set it to Airflow's address, such as http://127.0.0.1:8080")
        self.address = address
        self._token = token_from_environment()

        import httpx

        self._client = httpx.Client()

    def user(self) -> str | None:
        """The id of whose token this is, as it says itself; ``None``: it does not.

        Airflow is not asked, and decides by itself: this only tells somebody early that it will be of no use.
        """
        try:
            inner = self.token().split(".")[1]
            claims = json.loads(urlsafe_b64decode(inner + "=" * (-len(inner) % 4)))
        except (IndexError, ValueError):  # it is another kind of token
            return None
        found = claims.get("sub") if isinstance(claims, dict) else None
        return str(found) if found is not None else None

    def token(self) -> str:
        """The token of this person, else the one that is handed out to everybody.

        :raises AirflowUnreachable: Airflow wants one, or does not answer.
        """
        if self._token is None:
            self._token = self._token_for_everybody()
        return self._token

    def __enter__(self) -> Airflow:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def health(self) -> Answer:
        """Component → status and heartbeat."""
        return self._get("/monitor/health") or {}

    def dag(self, dag_id: str) -> Answer | None:
        """The DAG; ``None`` if Airflow has none of this id."""
        return self._get(f"/dags/{part(dag_id)}")

    def dag_run(self, dag_id: str, run_id: str) -> Answer | None:
        """The DAG run; ``None`` if Airflow has none of this id."""
        return self._get(f"/dags/{part(dag_id)}/dagRuns/{part(run_id)}")

    def task_instances(self, dag_id: str, run_id: str) -> dict[str, Answer]:
        """Task id → task instance."""
        items = self._pages(f"/dags/{part(dag_id)}/dagRuns/{part(run_id)}/taskInstances", "task_instances")
        return {item["task_id"]: item for item in items}

    def import_errors(self) -> list[Answer]:
        """The files that Airflow cannot import."""
        return self._pages("/importErrors", "import_errors")

    def pools(self) -> dict[str, Answer]:
        """Pools by name."""
        return {item["name"]: item for item in self._pages("/pools", "pools")}

    def clear(self, dag_id: str, run_id: str, task_ids: Sequence[str], *, downstream: bool) -> list[Answer]:
        """Clear tasks of a DAG run, so that they run again.

        :returns: the task instances that were cleared.
        :raises CalibError: one of them is running.
        """
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "include_downstream": downstream,
            "reset_dag_runs": True,
            "prevent_running_task": True,
        }
        answer = self.ask("POST", f"/api/v2/dags/{part(dag_id)}/clearTaskInstances", json=body)
        found = self.checked(answer)
        return list(found.get("task_instances", []))

    def announce(self, extra: Mapping[str, object]) -> Answer:
        """Let calib_inject, and those of teams, run at once: an event of their asset.

        :param extra: facts that stand with the event in Airflow.
        :raises NotFound: Airflow has no such DAG or asset yet.
        :raises CalibError: all of them are paused: Airflow would forget the event.
        """
        found = self._get("/assets", {"uri_pattern": RUNS_ASSET, "limit": PAGE}) or {}
        # Airflow keeps the address with a slash at its end.
        known = [item for item in found.get("assets", []) if str(item.get("uri")).rstrip("/") == RUNS_ASSET]
        names = sorted(str(dag["dag_id"]) for item in known[:1] for dag in item.get("scheduled_dags", []))
        if not names:
            hint = f"`calib spec stubs` writes the stub of {INJECT}; or Airflow has not read it yet, or cannot"
            raise NotFound(f"Airflow at {self.address} has no DAG that waits for {RUNS_ASSET}", hint)
        if all((self.dag(name) or {}).get("is_paused") for name in names):
            listed = ", ".join(names)
            raise CalibError(
                f"{listed} is paused: nothing was announced", f"unpause it: airflow dags unpause {names[0]}"
            )
        body = {"asset_id": known[0]["id"], "extra": dict(extra)}
        return self.checked(self.ask("POST", "/api/v2/assets/events", json=body))

    def edges(self, dag_id: str) -> dict[str, list[str]]:
        """Task id → the ids of the tasks right after it."""
        found = self._get(f"/dags/{part(dag_id)}/tasks") or {}
        return {item["task_id"]: list(item.get("downstream_task_ids") or ()) for item in found.get("tasks", [])}

    def add_new_tasks(self, dag_id: str, run_id: str) -> bool:
        """Let a DAG run have the tasks that its DAG has got since, and no other run again.

        :returns: whether Airflow has such a DAG run.
        """
        body = {"dry_run": False, "only_new": True, "run_on_latest_version": True}
        answer = self.ask("POST", f"/api/v2/dags/{part(dag_id)}/dagRuns/{part(run_id)}/clear", json=body)
        if answer.status_code == 404:
            return False
        self.checked(answer)
        return True

    def forget_questions(self, dag_id: str, run_id: str, task_ids: Sequence[str]) -> None:
        """Delete task instances that have asked persons, as Airflow keeps a question as it was.

        A clear of a DAG run that has ended makes new ones in their place, and no other one does.

        :raises CalibError: the DAG run has not ended: nothing was deleted.
        :raises AirflowUnreachable: Airflow does not answer, or does not let this person delete them.
        """
        if not task_ids:
            return
        if (self.dag_run(dag_id, run_id) or {}).get("state") not in ("failed", "success"):
            there = self.task_instances(dag_id, run_id)
            waits = any(there.get(one, {}).get("state") == AWAITING for one in task_ids)
            first = "reject what is asked about, such as with `calib payload reject`; then " if waits else ""
            raise CalibError(
                f"the DAG run {run_id} of {dag_id} has not ended: its question cannot be asked anew yet",
                f"nothing was changed; {first}try it again when the other tasks have ended",
            )
        where = f"/api/v2/dags/{part(dag_id)}/dagRuns/{part(run_id)}/taskInstances"
        for task_id in task_ids:
            answer = self.ask("DELETE", f"{where}/{part(task_id)}")
            if answer.status_code not in (204, 404):
                self.checked(answer)

    def see_it_go_on(self, dag_id: str, run_id: str, task_ids: Sequence[str]) -> None:
        """Look whether a DAG run that was alive when its tasks were cleared goes on, and let it, where it does not.

        A scheduler that has just found all its tasks ended writes so after the clear: the DAG run is then failed with
        tasks that have no state, and nothing ever runs them.

        :param task_ids: what was cleared.
        """
        for _ in range(LOOKS):
            time.sleep(LOOK_AGAIN)
            run = self.dag_run(dag_id, run_id) or {}
            if run.get("state") not in ("failed", "success"):
                continue
            there = self.task_instances(dag_id, run_id)
            if any(task in there and there[task]["state"] is None for task in task_ids):
                where = f"/api/v2/dags/{part(dag_id)}/dagRuns/{part(run_id)}"
                self.checked(self.ask("PATCH", where, json={"state": "queued"}))

    def clear_dag_run(self, dag_id: str, run_id: str) -> None:
        """Clear all tasks of a DAG run, so that they run again, from the newest version of the DAG.

        :raises NotFound: Airflow has no such DAG run.
        """
        body = {"dry_run": False, "only_failed": False, "run_on_latest_version": True}
        answer = self.ask("POST", f"/api/v2/dags/{part(dag_id)}/dagRuns/{part(run_id)}/clear", json=body)
        self.checked(answer)

    def _pages(self, path: str, name: str) -> list[Answer]:
        items: list[Answer] = []
        while True:
            found = self._get(path, {"limit": PAGE, "offset": len(items)}) or {}
            page = list(found.get(name, []))
            items += page
            if not page or len(items) >= int(found.get("total_entries") or 0):
                return items

    def _get(self, path: str, parameters: Mapping[str, object] | None = None) -> Answer | None:
        answer = self.ask("GET", f"/api/v2{path}", params=dict(parameters or {}))
        return None if answer.status_code == 404 else self.checked(answer)

    def checked(self, answer: httpx.Response) -> Answer:
        """What an answer says.

        :raises NotFound: there is no such thing.
        :raises AirflowUnreachable: the token is refused, or it is no answer of Airflow's.
        :raises CalibError: Airflow refuses it.
        """
        code = answer.status_code
        if code in (401, 403):
            raise AirflowUnreachable(f"Airflow at {self.address} refuses the token ({code})", _TOKEN_HINT)
        if code == 404:
            raise NotFound(f"Airflow: {_detail(answer)}")
        if code >= 500:
            raise AirflowUnreachable(f"Airflow at {self.address} answers {code}", "look at the log of its API server")
        if code >= 400:
            raise CalibError(f"Airflow refuses ({code}): {_detail(answer)}")
        try:
            found = answer.json()
        except ValueError as error:
            raise AirflowUnreachable(
                f"{self.address} does not answer like Airflow", "check CALIB_AIRFLOW_URL"
            ) from error
        return found if isinstance(found, dict) else {}

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request with the token.

        :param options: as :meth:`httpx.Client.request` takes them.
        :raises AirflowUnreachable: nothing answers.
        """
        options["headers"] = {"Authorization": f"Bearer {self.token()}"}
        return self._send(method, path, **options)

    def _token_for_everybody(self) -> str:
        answer = self._send("GET", "/auth/token")
        if answer.status_code not in (200, 201):
            raise AirflowUnreachable(f"Airflow at {self.address} wants a token", _TOKEN_HINT)
        try:
            return str(answer.json()["access_token"])
        except (ValueError, KeyError, TypeError) as error:
            raise AirflowUnreachable(
                f"{self.address} does not answer like Airflow", "check CALIB_AIRFLOW_URL"
            ) from error

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A read is repeated after an error inside Airflow; a change only if it certainly did not arrive."""
        import httpx
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

        again: tuple[type[Exception], ...] = (_TryAgain, httpx.ConnectError)
        policy = Retrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential(multiplier=0.2, max=1),
            retry=retry_if_exception_type(again),
            reraise=True,
        )
        try:
            return policy(self._once, method, path, **options)
        except _TryAgain as failure:
            return failure.answer
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AirflowUnreachable(
                f"Airflow at {self.address} does not answer ({str(error) or type(error).__name__})",
                "check CALIB_AIRFLOW_URL, and that its API server runs",
            ) from error

    def _once(self, method: str, path: str, **options: Any) -> httpx.Response:
        patience = TIMEOUT if method == "GET" else CHANGE_TIMEOUT
        answer = self._client.request(method, self.address + path, timeout=patience, **options)
        if answer.status_code >= 500 and method == "GET":
            raise _TryAgain(answer)
        return answer


def part(text: str) -> str:
    """A part of an address."""
    return quote(text, safe="")


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("detail"))
    except (ValueError, AttributeError):
        return answer.text[:200]
