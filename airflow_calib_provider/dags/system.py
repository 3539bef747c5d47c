"""The system DAGs: everything recurring, so that there is no daemon of ours (rule 34)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, CronDataIntervalTimetable, DeltaDataIntervalTimetable, Param

from airflow_calib_provider.hooks.group import AIRFLOW_RETRIES, airflow_retry_delay
from airflow_calib_provider.operators.inject import HousekeepingOperator, InjectOperator
from airflow_calib_provider.operators.mirror import MirrorOperator
from airflow_calib_provider.settings import number

START = datetime(2020, 1, 1, tzinfo=UTC)


def system_dags(stub: str, specs: str = "../workflow_specs") -> dict[str, DAG]:
    """``calib_inject``, ``calib_housekeeping`` and ``calib_mirror``.

    :param stub: ``__file__`` of the stub.
    :param specs: folder of the YAML files, relative to the stub.
    :returns: DAG id → DAG, for ``globals().update(...)``.
    """
    folder = str((Path(stub).resolve().parent / specs).resolve())
    with _dag(
        "calib_inject",
        _every(number("INJECT_MINUTES")),
        "Records completed runs, groups them, and opens the DAG runs that may start. Trigger it at any time: injecting "
        "twice changes nothing.",
        {
            "campaign": Param(
                "",
                type="string",
                title="Campaign",
                description="Inject into this campaign only; empty: into every open one.",
            )
        },
    ) as inject:
        InjectOperator(task_id="inject", specs=folder)
    with _dag(
        "calib_housekeeping",
        _cron("30 * * * *"),
        "Removes jobs that a missed kill left behind, and logs and failed attempts whose time is over. Reports drift "
        "between Airflow, the ledger, the backends and the mirror.",
        {},
    ) as housekeeping:
        HousekeepingOperator(task_id="housekeeping")
    with _dag(
        "calib_mirror",
        "@continuous",
        "Mirrors the ledger's events to the InfluxDB of the connection calib_influxdb. It always runs, in the "
        "triggerer, and begins anew once a day; without such a connection it is skipped.",
        {},
    ) as mirror:
        MirrorOperator(task_id="mirror")
    return {dag.dag_id: dag for dag in (inject, housekeeping, mirror)}


def _every(minutes: float) -> DeltaDataIntervalTimetable:
    return DeltaDataIntervalTimetable(timedelta(minutes=minutes))


def _cron(text: str) -> CronDataIntervalTimetable:
    return CronDataIntervalTimetable(text, timezone="UTC")


def _dag(
    dag_id: str,
    schedule: CronDataIntervalTimetable | DeltaDataIntervalTimetable | str,
    text: str,
    params: dict[str, Param],
) -> DAG:
    return DAG(
        dag_id=dag_id,
        description=text.split(". ")[0],
        doc_md=text,
        schedule=schedule,
        start_date=START,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["calib", "calib-system"],
        params=params,
        default_args={
            "owner": "calib",
            "retries": AIRFLOW_RETRIES,
            "retry_delay": timedelta(seconds=airflow_retry_delay()),
        },
    )
