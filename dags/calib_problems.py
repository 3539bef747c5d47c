"""What is wrong with the YAML files, as the import error of this file, which has no DAGs."""

from airflow_calib_provider.dags.problems import report_problems

report_problems(__file__)
