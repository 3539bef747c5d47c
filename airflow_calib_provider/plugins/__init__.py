"""What Airflow loads by an entry point: into each of its processes, so that nothing heavy may be imported here."""
