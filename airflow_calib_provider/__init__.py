"""Detector calibration workflows as Airflow DAGs."""

__version__ = "0.1.0"
