"""The page behind Airflow's logins: who asks, and which DAGs they may read, Airflow says."""

from __future__ import annotations

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep

from airflow_calib_provider.hooks.ledger import task_ledger
from airflow_calib_provider.page.app import make_app
from airflow_calib_provider.page.rights import Reader


def reader(user: GetUserDep) -> Reader:
    """Who asks, by the cookie of Airflow's UI or a token.

    An unknown DAG is none that may be read: only those that Airflow has are asked for.
    """
    return Reader(frozenset(get_auth_manager().get_authorized_dag_ids(user=user, method="GET")))


app = make_app(task_ledger, reader)
