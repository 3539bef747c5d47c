"""What specs would make of runs, told before they do: the decisions of injection over a simulated clock.

Nothing is written. The functions never import Airflow, and raise :class:`~airflow_calib_provider.errors.CalibError`
with what to do.
"""
