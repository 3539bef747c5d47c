"""Where runs come from: CSV files of runs, and event files."""

from airflow_calib_provider.runsources.base import FieldValue, RunRecord, read_source

__all__ = ["FieldValue", "RunRecord", "read_source"]
