"""A package that is installed beside this one brings its own backend, grouping, locks, run source and payload store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.payloads import store
from tests.integration.harness import Installation
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

    states = {row.backend: row.state for row in installation.rows(select(tables.generation)) if row.task == "fit"}
    assert states["toy:nicer"] == "done"
    (row,) = installation.rows(
        select(tables.payload).where(tables.payload.c.tag == "Toy", tables.payload.c.first_run == 1)
    )
    with toys(monkeypatch):
        path = store.content_path(row)
    assert path.parent.name == "drawer"
    first, niceness = path.read_text().split()
    assert first == "1"
    assert int(niceness) >= 7, "as the connection says"
