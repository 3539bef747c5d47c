"""Airflow DAGs of ../workflow_specs/far.yaml; `calib spec stubs` writes this file."""

from airflow_calib_provider.dags.factory import workflow_dags

globals().update(workflow_dags(__file__))
