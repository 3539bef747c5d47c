"""The assets that several DAGs share."""

from __future__ import annotations

from airflow.sdk import Asset

from airflow_calib_provider.spec.language import RUNS_ASSET

RUNS = Asset(name="runs", uri=RUNS_ASSET, group="calib")
"""What is announced at the end of a run, or when its values are known: calib_inject has something to do (rule 59)."""
