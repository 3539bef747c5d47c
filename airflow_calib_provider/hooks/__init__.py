"""Airflow's connections, and what reads or steers Airflow itself."""

from __future__ import annotations

from airflow_calib_provider.outside.connections import OutsideConnection, look_up_with


def _of_airflow(name: str) -> OutsideConnection | None:
    from airflow_calib_provider.hooks.connections import task_connection

    return task_connection(name)


look_up_with(_of_airflow)  # who imports hooks is in Airflow
