"""Airflow's connections, and what reads or steers Airflow itself."""
