"""What every process of Airflow loads: light, and pointing at views that there are."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import parse_qsl, urlsplit

from fastapi.routing import APIRoute

from airflow_calib_provider.page.app import router
from airflow_calib_provider.page.parameters import DagQuery, DagRunQuery
from airflow_calib_provider.plugins.plugin import CalibPlugin

LOADED = """
import sys
import airflow_calib_provider.plugins.plugin
print(*[name for name in sys.modules if name.startswith("airflow_calib_provider.")])
print("fastapi" in sys.modules)
"""


def test_the_plugin_brings_neither_the_page_nor_the_ledger() -> None:
    said = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rooms = {name.split(".")[1] for name in said[-2].split()}
    assert rooms & {"page", "ledger", "hooks", "api", "jobsets", "triggers"} == set()
    assert said[-1] == "False"


def test_views_of_airflows_ui_are_views_of_the_page() -> None:
    paths = {route.path for route in router.routes if isinstance(route, APIRoute)}
    asked = {"dag": DagQuery, "dag-run": DagRunQuery}
    for view in CalibPlugin.external_views:
        address = urlsplit(f"/{view['href']}")
        mount, _, name = address.path.strip("/").partition("/")
        assert f"/{mount}" == CalibPlugin.fastapi_apps[0]["url_prefix"]
        assert f"/{name}" in paths
        for key, value in parse_qsl(address.query):
            assert key in asked[name].model_fields
            assert value in ("{DAG_ID}", "{RUN_ID}", "{TASK_ID}")
    assert len({view["url_route"] for view in CalibPlugin.external_views}) == 4
