"""Members of kinds that another package brings, and a run source that is a service behind an Airflow connection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.payloads import store
from tests.integration.harness import Installation
from tests.outside.server import json_server
from tests.toys.installed import SITE, toys

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

ENVIRONMENT = {
    "PYTHONPATH": str(SITE),
    "AIRFLOW_CONN_NICER": json.dumps({"conn_type": "calib_toy", "extra": {"niceness": 7}}),
}

SPEC = """\
apiVersion: calib/v1
workflow: toyland
runs: {source: counted, since: 1}
tasks:
  fit:
    group_by: {pairs: {size: 2}}
    locks: [{run_known: {number: 4}}, {runs_counted: {at_least: 4}}]
    backend: toy:nicer
    jobs: {command: [sh, -c, 'echo "{{ group.first_run }} $(nice)" > "$CALIB_OUT/c.txt"']}
    products: {c: c.txt}
  deliver:
    group_by: {pairs: {size: 2}}
    needs: [fit]
    publish: {tag: Toy, file: "{{ tasks.fit.products.c }}", store: drawer}
"""


def sources(folder: Path, last: int) -> None:
    """Let the source have so many runs."""
    file = folder / "workflow_specs" / "sources.yaml"
    kept = file.read_text().partition("  counted:")[0]
    file.write_text(f"{kept}  counted: {{numbers: {{first: 1, last: {last}}}}}\n")


def test_from_yaml_to_a_payload_in_airflow(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    here = installation.folder / "installation"
    sources(here, 3)
    (here / "workflow_specs" / "toyland.yaml").write_text(SPEC)
    (here / "dags" / "toyland.py").write_text((here / "dags" / "toy.py").read_text())
    installation.airflow.wait_for_dags("toyland__pairs")
    assert installation.inject() == "success"
    group = "toyland/pairs-r1"
    installation.wait(lambda: installation.task_states().get((group, "fit")) == "waiting", 300, "the locks to be shut")
    sources(here, 5)
    assert installation.inject() == "success"
    installation.wait(lambda: installation.task_states().get((group, "deliver")) == "done", 500, "a payload")

    group_of, made = tables.run_group, tables.generation
    query = select(made.c.backend, made.c.state).join(group_of, group_of.c.id == made.c.group_id)
    query = query.where(group_of.c.workflow == "toyland", group_of.c.name == "pairs-r1", made.c.task == "fit")
    assert [tuple(row) for row in installation.rows(query)] == [("toy:nicer", "done")]
    (row,) = installation.rows(
        select(tables.payload).where(tables.payload.c.tag == "Toy", tables.payload.c.first_run == 1)
    )
    with toys(monkeypatch):
        path = store.content_path(row)
    assert path.parent.name == "drawer"
    first, niceness = path.read_text().split()
    assert first == "1"
    assert int(niceness) >= 7, "as the connection says"


WEB = """\
apiVersion: calib/v1
workflow: web
runs: {source: registry, since: 1}
tasks:
  fit: {group_by: run, jobs: {command: ["true"]}}
"""
PASSWORD = "wvgqz-not-to-be-seen"


def test_runs_of_a_service_behind_a_connection_of_airflow(installation: Installation) -> None:
    here = installation.folder / "installation"
    files = [here / "workflow_specs" / "web.yaml", here / "dags" / "web.py"]
    sources_file = here / "workflow_specs" / "sources.yaml"
    before = sources_file.read_text()
    with json_server() as server:
        connection = {"conn_type": "calib_http", "host": server.url, "login": "calib", "password": PASSWORD}
        listed = [{"number": 71, "end": "2026-01-01T00:00:00Z"}]
        server.answer = lambda asked: asked.reply({"runs": listed})
        installation.airflow.call("POST", "/api/v2/connections", {"connection_id": "registry", **connection})
        sources_file.write_text(f"{before}  registry: {{http: {{connection: registry, path: all, runs: runs}}}}\n")
        files[0].write_text(WEB)
        files[1].write_text((here / "dags" / "toy.py").read_text())
        try:
            installation.airflow.wait_for_dags("web__run")
            assert installation.inject() == "success"
            installation.wait(lambda: installation.task_states().get(("web/run-r71", "fit")) == "done", 300, "run 71")
            path, headers = server.asked[-1]
            assert (path, headers["Authorization"][:6]) == ("/all", "Basic ")

            server.answer = lambda asked: asked.reply(b"<html>log in</html>", Content_Type="text/html")
            assert installation.inject() == "failed"
            assert "a page of HTML, not JSON" in installation.run_calib("explain", "71999").stderr
            assert "the run source registry cannot be read since" in installation.run_calib("status").stderr

            server.answer = lambda asked: asked.reply({"runs": [*listed, {"number": 72, "end": None}]})
            known = {"AIRFLOW_CONN_REGISTRY": json.dumps(connection)}
            planned = installation.run_calib("spec", "plan", "-w", "web", "--runs-from", "source", "--json", **known)
            assert planned.returncode == 0, planned.stderr
            assert installation.inject() == "success"
            assert "cannot be read" not in installation.run_calib("status").stderr
        finally:
            sources_file.write_text(before)
            for file in files:
                file.unlink()
    written = [file for file in installation.folder.rglob("*.log") if PASSWORD in file.read_text(errors="replace")]
    assert written == []
