"""Locks on files and services in Airflow: asked by the triggerer, told in the UI, and not to be got past."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation
from tests.outside.server import JsonServer, json_server

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

OPENS, PUSHED = 8801, 8802

SPEC = """
apiVersion: calib/v1
workflow: filed
runs: {{source: filed, since: 1}}
tasks:
  wait:
    group_by: run
    locks:
      - file: {{path: "{folder}/{{{{ run.number }}}}.json", stable_for: 1s, every: 10s}}
        at_most: 30d
      - http:
          connection: quality
          path: runs/{{{{ group.first_run }}}}
          fields: {{status: string}}
          when: "answer.status == 'good'"
          every: 10s
    jobs: {{command: [sh, -c, 'echo made > "$CALIB_OUT/c.txt"']}}
    products: {{c: c.txt}}
"""


@pytest.fixture(scope="module")
def service(installation: Installation) -> Iterator[JsonServer]:
    """A service, and two runs that wait for it and for a file each."""
    (installation.folder / "laser").mkdir()
    with json_server() as server:
        server.answer = lambda asked: asked.reply({"status": "unknown"})
        connection = {"connection_id": "quality", "conn_type": "calib_http", "host": server.url}
        installation.airflow.call("POST", "/api/v2/connections", connection)
        sources = installation.specs / "sources.yaml"
        runs = installation.folder / "runs" / "filed.csv"
        times = "2026-03-01T12:00:00Z,2026-03-01T13:00:00Z,true"
        runs.write_text(f"number,start,end,completed\n{OPENS},{times}\n{PUSHED},{times}\n")
        fields = "{start: time, end: time, completed: bool}"
        sources.write_text(f"{sources.read_text()}  filed: {{csv: {{path: {runs}}}, fields: {fields}}}\n")
        (installation.specs / "filed.yaml").write_text(SPEC.format(folder=installation.folder / "laser"))
        stubs = installation.folder / "installation" / "dags"
        (stubs / "filed.py").write_text((stubs / "toy.py").read_text())
        installation.airflow.wait_for_dags("filed__run")
        assert installation.inject() == "success"
        yield server


def reason(installation: Installation, run: int, task: str = "wait.locks") -> str:
    """What the task says in Airflow's UI."""
    path = f"/api/v2/dags/filed__run/dagRuns/prompt__run-r{run}/taskInstances/{task}/xcomEntries"
    entries = installation.airflow.call("GET", path)["xcom_entries"]
    if not any(entry["key"] == "reason" for entry in entries):
        return ""
    return str(installation.airflow.call("GET", f"{path}/reason")["value"])


def state(installation: Installation, run: int) -> str | None:
    return installation.task_states().get((f"filed/run-r{run}", "wait"))


def generations(installation: Installation) -> int:
    made, group = tables.generation, tables.run_group
    query = select(made.c.id).join(group, group.c.id == made.c.group_id).where(group.c.workflow == "filed")
    return len(installation.rows(query))


def test_a_sensor_says_what_is_not_there(installation: Installation, service: JsonServer) -> None:
    def both() -> str:
        found = reason(installation, OPENS)
        return found if "is not there" in found and "is not so yet" in found else ""

    text = installation.wait(both, 300, "the reason of the sensor")
    assert f"{OPENS} (is not there)" in text
    assert "then the task fails" in text
    assert "status is the text 'unknown'" in text
    said = installation.calib("explain", f"run-r{OPENS}", "--workflow", "filed")
    assert "is not there" in said


def test_a_mark_success_on_the_sensor_does_not_get_past(installation: Installation, service: JsonServer) -> None:
    run_id = f"prompt__run-r{PUSHED}"
    installation.wait(lambda: reason(installation, PUSHED), 300, "the sensor")
    installation.set_state("filed__run", run_id, "wait.locks", "success")
    installation.wait(
        lambda: installation.airflow_tasks("filed__run", run_id).get("wait") == "deferred", 300, "the task to wait"
    )
    assert state(installation, PUSHED) == "waiting"
    assert generations(installation) == 0


def test_both_go_on_when_it_is_there(installation: Installation, service: JsonServer) -> None:
    service.answer = lambda asked: asked.reply({"status": "good"})
    for run in (OPENS, PUSHED):
        (installation.folder / "laser" / f"{run}.json").write_text("{}")
    for run in (OPENS, PUSHED):
        installation.wait(lambda run=run: state(installation, run) == "done", 400, f"run {run}")
    asked = installation.rows(select(tables.outside_answer.c.kind, tables.outside_answer.c.opens))
    assert sorted((row.kind, row.opens) for row in asked) == [("file", True)] * 2 + [("http", True)] * 2
