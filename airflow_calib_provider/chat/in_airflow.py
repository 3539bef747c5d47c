"""The endpoint with Airflow's connections."""

from __future__ import annotations

from airflow_calib_provider.chat.app import make_app
from airflow_calib_provider.hooks.connections import task_connection
from airflow_calib_provider.hooks.ledger import task_ledger

app = make_app(task_ledger, task_connection)
