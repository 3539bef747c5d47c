"""The page "Calibration" in Airflow's UI: what the ledger says, as HTML made by the server, for reading only.

:mod:`.app` is the application, without anything of Airflow's; :mod:`.in_airflow` is that application behind Airflow's
logins. Each view is a module that reads what it shows in a fixed number of statements, and a template. Only Airflow's
API server imports this package, and only when somebody asks for the page.
"""
