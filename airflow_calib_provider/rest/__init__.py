"""Airflow over its REST API: what is asked of it and told to it from outside, without importing it."""
