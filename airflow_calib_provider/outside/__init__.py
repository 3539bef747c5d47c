"""Services that are asked over a network: where Airflow's connections say they are, and how long an answer may take."""
