"""The page in front of a small installation, without Airflow: who asks is said by a header."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fastapi import HTTPException, Request
from starlette.testclient import TestClient

from airflow_calib_provider.page.app import make_app
from airflow_calib_provider.page.rights import Reader
from tests.cli.conftest import busy, database, folder, world
from tests.cli.world import World

__all__ = ["busy", "database", "folder", "world"]

ALL = ("calib_inject", "demo__run", "demo__fill", "other__run", "third__run")


def asking(request: Request) -> Reader:
    """Whose DAGs the header ``dags`` lists."""
    if "dags" not in request.headers:
        raise HTTPException(401)
    return Reader(frozenset(request.headers["dags"].split()))


As = Callable[..., TestClient]


@pytest.fixture
def as_reader(world: World) -> Iterator[As]:
    """A browser of somebody who may read these DAGs; all by default."""
    app = make_app(lambda: world.ledger, asking)
    opened = []

    def browser(*dags: str) -> TestClient:
        client = TestClient(app, headers={"dags": " ".join(dags or ALL)}, follow_redirects=False)
        opened.append(client)
        return client

    yield browser
    for client in opened:
        client.close()


@pytest.fixture
def page(as_reader: As) -> TestClient:
    """Of somebody who may read everything."""
    return as_reader()
