"""The endpoint that Mattermost tells of pressed buttons, in Airflow's API server; off unless it is declared (rule 68).

:mod:`.app` is the application, without anything of Airflow's, and :mod:`.pressed` what becomes of a press;
:mod:`.in_airflow` is the application with Airflow's connections. Nothing is carried out here: the task
``calib_messages`` does that.
"""
