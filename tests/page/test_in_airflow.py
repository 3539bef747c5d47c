"""The page in a real Airflow: who gets which answer from each of its addresses."""

from __future__ import annotations

import json
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import update

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.page.app import FILES, router
from tests.page.site import Site, running
from tests.page.some_dags import SOME

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("site")) as made:
        yield made


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
    assert {one["destination"] for one in ours["external_views"]} == {"nav", "dag", "dag_run", "task_instance"}
    assert site.airflow.call("GET", "/api/v2/plugins/importErrors")["import_errors"] == []


def test_the_ledger_of_a_connection_that_airflow_keeps_is_read(site: Site) -> None:
    """As tasks do; the API server itself is no task."""
    file = site.world.ledger.file
    assert file is not None
    other = file.with_name("other.db")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM INTO ?", [str(other)])
    with Ledger(f"sqlite:///{other}") as ledger, ledger.write() as connection:
        connection.execute(
            update(tables.run_group).where(tables.run_group.c.name == "fill-r2").values(name="fill-moved")
        )
    body = {"connection_id": "calib_ledger", "conn_type": "generic", "extra": json.dumps({"url": f"sqlite:///{other}"})}
    assert site.ask("/group?name=fill-moved", "boss").status == 404
    site.airflow.call("POST", "/api/v2/connections", body)
    try:
        assert site.ask("/group?name=fill-moved", "boss").status == 200
    finally:
        site.airflow.call("DELETE", "/api/v2/connections/calib_ledger")
    assert site.ask("/group?name=fill-r2", "boss").status == 200
