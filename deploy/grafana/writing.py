"""From dashboards to files, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.boards import BOARDS
from deploy.grafana.influxql import register

FOLDER = Path(__file__).parent / "dashboards"
AIRFLOW_URL = "http://localhost:8080"
"""Where docker-compose.yaml publishes Airflow's UI."""


def dashboards(airflow_url: str = AIRFLOW_URL) -> dict[str, Dashboard]:
    """Every dashboard by the name of its file."""
    built = [make(airflow_url) for make in BOARDS]
    return {f"{str(board.uid).removeprefix('calib-')}.json": board for board in built}


def text(board: Dashboard) -> str:
    """Its file's content."""
    return JSONEncoder(indent=1, ensure_ascii=False).encode(board) + "\n"


def write(folder: Path = FOLDER, airflow_url: str = AIRFLOW_URL) -> list[Path]:
    """Write all files; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, board in dashboards(airflow_url).items():
        (folder / name).write_text(text(board), encoding="utf-8")
        written.append(folder / name)
    return written


def read_back(content: str) -> Any:
    """What the SDK's types make of a file: the same, if they know every key of it."""
    register()
    return json.loads(text(Dashboard.from_json(json.loads(content))))
