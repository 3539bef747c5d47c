"""The Airflow DAGs calib_inject, calib_housekeeping and calib_mirror."""

from airflow_calib_provider.dags.system import system_dags

globals().update(system_dags(__file__))
