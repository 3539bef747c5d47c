"""How soon Airflow sees new files is named where a user meets it, and set wherever we start an Airflow."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from airflow.configuration import conf

from airflow_calib_provider.cli.airflow_server import AirflowServer

TOP = Path(__file__).parents[2]
NAME = "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL"


@pytest.mark.parametrize("page", ["tutorial.md", "operations.md"])
def test_pages_name_it(page: str) -> None:
    assert "`[dag_processor] refresh_interval`" in (TOP / "docs" / page).read_text(encoding="utf-8")
    assert conf.get_default_value("dag_processor", "refresh_interval") == "300"


def test_the_compose_file_sets_it() -> None:
    written = yaml.safe_load((TOP / "docker-compose.yaml").read_text(encoding="utf-8"))
    with_airflow = [item["environment"] for item in written["services"].values() if _is_airflow(item)]
    assert with_airflow
    assert all(int(item[NAME]) <= 30 for item in with_airflow)


def _is_airflow(service: dict[str, object]) -> bool:
    return "AIRFLOW__CORE__EXECUTOR" in dict(service.get("environment") or {})


def test_what_we_start_sets_it(tmp_path: Path) -> None:
    variables = AirflowServer(tmp_path / "airflow", tmp_path).variables
    assert int(variables[NAME]) <= 30
    assert int(variables["AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL"]) <= 30


@pytest.mark.parametrize("name", ["refresh_interval", "min_file_process_interval", "parallelism"])
def test_the_settings_exist_in_this_airflow(name: str) -> None:
    section = "core" if name == "parallelism" else "dag_processor"
    assert conf.has_option(section, name)
