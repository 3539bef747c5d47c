"""Words for what holds on Airflow's side (rule 23)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_calib_provider.domain.listing import listed
from airflow_calib_provider.domain.quantities import format_time


def _unreachable(params: Mapping[str, Any]) -> str:
    return f"Airflow cannot be asked, so causes on its side are not known: {params['why']}"


def _heartbeat(params: Mapping[str, Any]) -> str:
    return f"(last heartbeat {format_time(params['heartbeat']) or 'never'})"


TEXTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "airflow_unreachable": _unreachable,
    "scheduler_down": lambda p: f"Airflow's scheduler is down {_heartbeat(p)}",
    "triggerer_down": lambda p: (
        f"Airflow's triggerer is down {_heartbeat(p)}: nothing that " + "waits or runs is looked at"
    ),
    "dag_processor_down": lambda p: (
        f"Airflow's DAG processor is down {_heartbeat(p)}: new and " + "edited DAGs are not seen"
    ),
    "metadatabase_down": lambda p: "Airflow's own database is down",
    "dag_not_found": lambda p: (
        f"Airflow {'has no file of' if p.get('stale') else 'does not know'} the DAG {p['dag_id']}"
    ),
    "dag_import_error": lambda p: f"Airflow cannot import {p['file']}: {p['error']}",
    "dag_paused": lambda p: f"the DAG {p['dag_id']} is paused",
    "dag_run_missing": lambda p: (
        f"the ledger says that the DAG run {p['run_id']} was opened, but Airflow does not have it"
    ),
    "dag_run_queued": lambda p: (
        f"the DAG run {p['run_id']} is queued: Airflow's limit max_active_runs is reached, or its "
        + "scheduler has not looked yet"
    ),
    "dag_run_failed": lambda p: (
        f"the DAG run {p['run_id']} has failed in Airflow" + (f": {listed(p['tasks'])}" if p.get("tasks") else "")
    ),
    "pool_full": lambda p: (
        f"{p['task']} is {p['state']}: all {p['slots']} slots of Airflow's pool {p['pool']} are occupied"
    ),
    "task_queued": lambda p: f"{p['task']} is {p['state']} in Airflow: no worker has taken it yet",
    "up_for_retry": lambda p: (
        f"{p['task']} crashed in Airflow (try {p['try_number']}) and will be tried again; it attaches "
        + "to the jobs that run"
    ),
    "task_not_in_dag_run": lambda p: (
        f"the DAG run {p['run_id']} is {p['state']}, and does not have {p['task']}, which its workflow got later"
    ),
    "airflow_upstream_failed": lambda p: f"Airflow will not start {p['task']}: a task before it has failed",
    "airflow_task_ended": lambda p: f"{p['task']} is {p['state']} in Airflow, but {p['ledger']} in the ledger",
}

RELEASES: dict[str, str] = {
    "airflow_unreachable": "CALIB_AIRFLOW_URL of a running Airflow, with CALIB_AIRFLOW_TOKEN or …_TOKEN_FILE",
    "scheduler_down": "`airflow scheduler`",
    "triggerer_down": "`airflow triggerer`",
    "dag_processor_down": "`airflow dag-processor`",
    "metadatabase_down": "Airflow's administrator",
    "dag_not_found": "`calib spec stubs`, then Airflow's DAG processor",
    "dag_import_error": "a corrected file: `calib spec check`",
    "dag_paused": "unpausing it in Airflow: `airflow dags unpause`",
    "dag_run_missing": "an expert: somebody deleted it in Airflow; a group is opened once only",
    "dag_run_queued": "a DAG run of this DAG that ends",
    "dag_run_failed": "`calib retry`, which runs again what failed",
    "pool_full": "a free slot; or a larger pool",
    "task_queued": "a free worker",
    "up_for_retry": "time: Airflow's retry delay",
    "task_not_in_dag_run": "`calib retry`, which adds it to the DAG run",
    "airflow_upstream_failed": "`calib retry`, which runs the task that failed, too",
    "airflow_task_ended": "`calib retry`, which clears it in Airflow",
}
