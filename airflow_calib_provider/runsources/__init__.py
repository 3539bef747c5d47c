"""Where runs come from: files, services, databases."""

from airflow_calib_provider.runsources.base import read_source

__all__ = ["read_source"]
