"""A real Airflow on one machine, with the example calibration streamed through it."""
