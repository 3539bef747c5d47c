"""Buttons of a task in Airflow's UI: to what it waits for, and to the YAML that it was made from.

Airflow asks for them in the worker when a task ends or begins to wait, and keeps what it was told; while it waits, its
trigger keeps :class:`AwaitedLink` up to date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from airflow_calib_provider.ledger.engine import Ledger


def page(*parts: str) -> str:
    """The address of a page of Airflow's UI."""
    from airflow.sdk.configuration import conf

    base = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return "/".join([base, *(quote(part, safe="") for part in parts)])


class AwaitedLink(BaseOperatorLink):
    """To the task that is waited for, that has failed, or whose work is missing; nothing where there is none."""

    @property
    def name(self) -> str:
        """Of the button."""
        return "What it waits for"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The page of the first DAG run that is waited for, else of the DAG that will have it."""
        from airflow_calib_provider.hooks.ledger import task_ledger

        task = str(getattr(operator, "ledger_task", "") or getattr(operator, "waits_for", ""))
        return awaited_page(task_ledger(), ti_key.dag_id, ti_key.run_id, task)


def awaited_page(ledger: Ledger, dag_id: str, run_id: str, task: str) -> str:
    """Where to see what a task waits for now; empty if there is no such page.

    :param task: in the spec.
    """
    from airflow_calib_provider.ledger.awaited import awaited

    with ledger.read() as connection:
        found = awaited(connection, dag_id, run_id, task)
    if found is None:
        return ""
    if found.run_id is None:
        return page("dags", found.dag_id)
    return page("dags", found.dag_id, "runs", found.run_id, "tasks", found.task)


class SpecLink(BaseOperatorLink):
    """To the YAML in the repository's web pages at the task's commit, where the bundle knows them; else to the DAG.

    Its documentation (the button Dag Docs) is the YAML.
    """

    @property
    def name(self) -> str:
        """Of the button."""
        return "YAML"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The page."""
        bundle = getattr(ti_key, "bundle_instance", None)
        version = getattr(bundle, "version", None)
        if bundle is not None and version and (template := bundle.view_url_template()):
            return str(template).format(version=version)
        return page("dags", ti_key.dag_id)
