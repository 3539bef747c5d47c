"""What a task's process imports and reads before its ledger is open: next to nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.ledger import schema
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.spec import known
from airflow_calib_provider.spec.cache import checked
from benchmarks.parsing.making import write_specs

HEAVY = {
    "alembic", "mako", "pydantic", "jinja2", "yaml", "celpy", "cel_expr_python", "influxdb_client", "htcondor",
    "htcondor2", "classad", "pandas", "numpy", "typer", "rich", "httpx", "requests", "kubernetes", "sqlparse",
    "asyncpg", "flask", "fastapi",
}  # fmt: skip
"""Some of them Airflow imports itself; ours must import none that Airflow has not."""

NOT_OURS = {
    f"airflow_calib_provider.{name}"
    for name in ("spec.loader", "spec.positions", "spec.conditions", "spec.templates", "spec.cache", "domain.keys",
                 "injection.serving", "jobsets.begin", "jobsets.render", "cli.app")
}  # fmt: skip
"""What reads YAML, templates and conditions, and what comes after the ledger is open."""


def run(code: str, **environment: str) -> Any:
    """What a fresh Python prints at last, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_information_that_every_process_of_airflow_asks_for_imports_nothing_heavy() -> None:
    loaded = run("""
        import json, sys
        from airflow_calib_provider.provider_info import get_provider_info
        get_provider_info()
        print(json.dumps(list(sys.modules)))
    """)
    assert not {name.partition(".")[0] for name in loaded} & {*HEAVY, "airflow", "sqlalchemy"}
    assert not set(loaded) & NOT_OURS


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Specs that were checked a while ago, and a ledger."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    monkeypatch.setattr(known, "SETTLED", -1.0)
    names = write_specs(tmp_path, 20)
    assert checked(tmp_path / "workflow_specs").errors == []
    assert known.good_workflow(tmp_path / "workflow_specs" / f"{names[0]}.yaml") is not None
    ledger = Ledger()
    schema.upgrade(ledger)
    ledger.close()
    return tmp_path


PARSES = """
    import json, runpy, sys
    import airflow.sdk
    from airflow.sdk import DAG, Asset, BaseHook, BaseOperator, BaseSensorOperator, Param, TaskGroup
    from airflow.sdk.execution_time import supervisor, task_runner
    from airflow.triggers.base import BaseTrigger
    before, seen = set(sys.modules), []
    sys.addaudithook(lambda event, args: seen.append(str(args[0])) if event in ("open", "os.scandir", "os.listdir")
                     else None)
    import airflow_calib_provider.dags.factory as factory
    factory.get_parsing_context = lambda: type("Asked", (), {"dag_id": "w0__run"})
    dags = runpy.run_path("dags/w0.py")
    assert len(dags["w0__run"].tasks) == 10
    import airflow_calib_provider.operators.jobs, airflow_calib_provider.operators.dag_jobs
    import airflow_calib_provider.operators.condor, airflow_calib_provider.operators.publish
    import airflow_calib_provider.operators.inject, airflow_calib_provider.operators.mirror
    import airflow_calib_provider.sensors.ledger_sensor
    import airflow_calib_provider.triggers.job_set, airflow_calib_provider.triggers.ledger_wait
    import airflow_calib_provider.triggers.mirror
    from airflow_calib_provider.hooks.ledger import task_ledger
    task_ledger()
    print(json.dumps([sorted(set(sys.modules) - before), seen]))
"""


def test_a_task_imports_nothing_heavy_and_reads_no_spec_until_its_ledger_is_open(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    connection = json.dumps({"conn_type": "sqlite", "host": str(place / "calib" / "ledger.db")})
    # What is read as settled here would be read again there.
    for file in (place / "workflow_specs").iterdir():
        os.utime(file, (1_700_000_000, 1_700_000_000))
    code = PARSES.replace("dags = ", "from airflow_calib_provider.spec import known; known.SETTLED = -1.0; dags = ")
    run(code, AIRFLOW_CONN_CALIB_LEDGER=connection)  # after their change it is looked at again, once
    imported, opened = run(code, AIRFLOW_CONN_CALIB_LEDGER=connection)
    assert not {name.partition(".")[0] for name in imported} & HEAVY
    assert not set(imported) & NOT_OURS
    specs = str(place / "workflow_specs")
    assert [name for name in opened if name.startswith(specs)] == []
    assert any(name.startswith(str(place / "calib")) for name in opened)
