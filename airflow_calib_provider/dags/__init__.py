"""DAGs made of workflow specs, and the DAG that keeps the house."""
