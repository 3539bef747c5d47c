"""Where runs come from: CSV files of runs, and event files."""

from airflow_calib_provider.runsources.base import read_source

__all__ = ["read_source"]
