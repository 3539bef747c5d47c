"""The Airflow DAGs calib_inject and calib_housekeeping."""

from airflow_calib_provider.dags.system import system_dags

globals().update(system_dags(__file__))
