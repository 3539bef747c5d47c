"""An Airflow whose people log in: API server and DAG processor, with the ledger of a small installation."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from demo.airflow_server import AirflowServer

from tests.cli.conftest import _be_busy
from tests.cli.world import World
from tests.integration.harness import migrated_database
from tests.page.some_dags import SOME

HOUSE = Path(__file__).parents[2]

USERS = {"boss": "admin", "guest": "viewer", SOME: "viewer"}

STUB = "from airflow_calib_provider.dags.{of} import {made}\n\nglobals().update({made}(__file__))\n"


class Below(AirflowServer):
    """Below a path of its host.

    Attributes:
        path: such as ``/af``; empty: at the top.
    """

    path = ""

    @property
    def url(self) -> str:
        return f"{super().url}{self.path}"


class Answer(NamedTuple):
    status: int
    text: str
    headers: dict[str, str]


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class Site:
    """An API server whose people log in, beside a DAG processor, with the ledger of a small installation."""

    def __init__(self, folder: Path, path: str = "") -> None:
        self.world = World(folder)
        _be_busy(self.world)
        dags = folder / "dags"
        dags.mkdir()
        for name in ("demo", "other", "third"):
            (dags / f"{name}.py").write_text(STUB.format(of="factory", made="workflow_dags"))
        (dags / "calib_system.py").write_text(STUB.format(of="system", made="system_dags"))
        environment = {
            "CALIB_HOME": str(folder / "calib"),
            "PYTHONPATH": str(HOUSE),
            "AIRFLOW__CORE__AUTH_MANAGER": "tests.page.some_dags.SomeDags",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
        }
        self.airflow = type("Site", (Below,), {"path": path})(folder / "airflow", dags, environment)
        (self.airflow.home / "airflow.db").write_bytes(migrated_database().read_bytes())
        self.token = cache(self._token)
        # What the server has of an attribute is asked with by its own methods.
        self.airflow.token = lambda: self.token("boss")  # type: ignore[method-assign]

    def start(self) -> None:
        self.airflow.start("api-server", "dag-processor")
        until = time.monotonic() + 300
        while True:
            try:
                self.token("boss")
            except OSError:
                assert time.monotonic() < until, self.airflow.logs
                self.airflow.check_alive()
                time.sleep(0.5)
            else:
                break
        self.airflow.wait_for_dags("demo__run", "demo__fill", "other__run", "third__run", "calib_inject")

    def _token(self, user: str) -> str:
        passwords = json.loads((self.airflow.home / "simple_auth_manager_passwords.json.generated").read_text())
        body = json.dumps({"username": user, "password": passwords[user]}).encode()
        request = urllib.request.Request(
            f"{self.airflow.url}/auth/token", body, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer)["access_token"])

    def ask(self, path: str, user: str = "", *, by: str = "cookie", method: str = "GET") -> Answer:
        """What somebody gets, by the cookie as in a browser, or by a token; ``user`` may be a token itself."""
        token = self.token(user) if user in USERS else user
        headers = {"Cookie": f"_token={token}"} if by == "cookie" else {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(
            f"{self.airflow.url}/calib{path}", headers=headers if user else {}, method=method
        )
        try:
            with urllib.request.build_opener(NoRedirect).open(request, timeout=60) as answer:
                return Answer(answer.status, answer.read().decode(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode(), dict(error.headers))


@contextmanager
def running(folder: Path, path: str = "") -> Iterator[Site]:
    """The site, until the block ends.

    Args:
        path: of Airflow's address.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALIB_HOME", str(folder / "calib"))
        patch.delenv("CALIB_LEDGER", raising=False)
        patch.chdir(folder)
        made = Site(folder, path)
        try:
            made.start()
            yield made
        finally:
            made.airflow.stop(patience=0)
            made.world.ledger.close()
