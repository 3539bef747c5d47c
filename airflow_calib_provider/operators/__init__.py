"""The tasks of DAGs."""
