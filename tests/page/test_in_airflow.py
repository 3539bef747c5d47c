"""The page in a real Airflow: who gets which answer from each of its addresses."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from demo.airflow_server import AirflowServer
from fastapi.routing import APIRoute

from airflow_calib_provider.page.app import FILES, router
from tests.cli.conftest import _be_busy
from tests.cli.world import World
from tests.integration.harness import migrated_database
from tests.page.some_dags import SOME

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

HOUSE = Path(__file__).parents[2]

USERS = {"boss": "admin", "guest": "viewer", SOME: "viewer"}

STUB = "from airflow_calib_provider.dags.{of} import {made}\n\nglobals().update({made}(__file__))\n"

ADDRESSES = {
    "/": ["/"],
    "/static/{name}": [f"/static/{name}" for name in FILES],
    "/runs": ["/runs", "/runs?state=failed", "/runs?search=5", "/runs?campaign=prompt&workflow=demo"],
    "/group": ["/group?name=fill-r2", "/group?name=run-r5&workflow=demo", "/group?name=run-r5&workflow=third"],
    "/tag": ["/tag", "/tag?campaign=prompt&tag=Scale"],
    "/campaigns": ["/campaigns"],
    "/people": ["/people"],
    "/dag": ["/dag?dag_id=demo__run", "/dag?dag_id=third__run", "/dag?dag_id=nowhere"],
    "/dag-run": [
        "/dag-run?dag_id=demo__run&run_id=prompt__run-r5",
        "/dag-run?dag_id=third__run&run_id=prompt__run-r5",
        "/dag-run?dag_id=nowhere&run_id=prompt__run-r5",
    ],
    "/{rest:path}": ["/nowhere", "/openapi.json", "/docs", "/redoc", "/static/../app.py", "/runs/"],
}
"""Each route of the application, with addresses that it answers."""


class Answer(NamedTuple):
    status: int
    text: str
    headers: dict[str, str]


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class Site:
    """An API server whose people log in, beside a DAG processor, with the ledger of a small installation."""

    def __init__(self, folder: Path) -> None:
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
        self.airflow = AirflowServer(folder / "airflow", dags, environment)
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALIB_HOME", str(folder / "calib"))
        patch.delenv("CALIB_LEDGER", raising=False)
        patch.chdir(folder)
        made = Site(folder)
        try:
            made.start()
            yield made
        finally:
            made.airflow.stop(patience=0)
            made.world.ledger.close()


def test_each_route_has_an_address_here() -> None:
    assert {route.path for route in router.routes if isinstance(route, APIRoute)} == set(ADDRESSES)
    assert len(router.routes) == len(ADDRESSES)


EVERY = [address for listed in ADDRESSES.values() for address in listed]


def test_without_a_login_there_is_no_answer(site: Site) -> None:
    for address in EVERY:
        found = site.ask(address)
        assert found.status == 401, address
        assert found.text == "log in to Airflow first\n", address
        for token in ("forged", site.token("boss")[:-4] + "aaaa"):
            for by in ("cookie", "token"):
                assert site.ask(address, token, by=by).status in (401, 403), address


def test_nothing_is_answered_but_get(site: Site) -> None:
    for address in EVERY:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert site.ask(address, "boss", method=method).status == 405, address


def test_a_viewer_sees_everything_by_cookie_and_by_token(site: Site) -> None:
    unknown = {address for address in EVERY if "nowhere" in address} | set(ADDRESSES["/{rest:path}"])
    for address in EVERY:
        for by in ("cookie", "token"):
            found = site.ask(address, "guest", by=by)
            assert found.status == (
                404 if address in unknown else 307 if "dag" in address[:4] or address == "/" else 200
            ), address
            assert found.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in found.headers["content-security-policy"]
    page = site.ask("/runs", "guest").text
    assert "third.</span>laser" in page
    assert "demo.</span>skim" in page


def test_of_the_dags_of_others_nothing_is_told(site: Site) -> None:
    hidden = {"/group?name=run-r5&workflow=third": "/group?name=nowhere&workflow=third"}
    hidden |= {"/dag?dag_id=third__run": "/dag?dag_id=nowhere"}
    hidden |= {ADDRESSES["/dag-run"][1]: ADDRESSES["/dag-run"][2]}
    hidden |= {"/runs?workflow=third": "/runs?workflow=nowhere"}
    for address in [*EVERY, *hidden]:
        found = site.ask(address, SOME)
        if "third" not in address:  # what was asked for is said again
            assert "third" not in found.text, address
            assert "laser" not in found.text, address
    for address, unknown in hidden.items():
        there, nowhere = site.ask(address, SOME), site.ask(unknown, SOME)
        assert there.status == nowhere.status == 404, address
        asked, other = (dict(urllib.parse.parse_qsl(one.partition("?")[2])) for one in (address, unknown))
        same = there.text
        for name, value in asked.items():
            same = same.replace(value, other[name])
        assert same == nowhere.text, address
    assert "demo.</span>skim" in site.ask("/runs", SOME).text
    assert site.ask("/group?name=run-r5&workflow=demo", SOME).status == 200


def test_the_tabs_and_the_menu_are_known_to_airflow(site: Site) -> None:
    plugins = site.airflow.call("GET", "/api/v2/plugins")["plugins"]
    (ours,) = [one for one in plugins if one["name"] == "calib"]
    assert {one["destination"] for one in ours["external_views"]} == {"nav", "dag", "dag_run", "task"}
    assert site.airflow.call("GET", "/api/v2/plugins/importErrors")["import_errors"] == []
