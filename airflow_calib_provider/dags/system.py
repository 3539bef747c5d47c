"""The system DAGs: everything recurring, so that there is no daemon of ours (rule 34)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, AssetOrTimeSchedule, CronDataIntervalTimetable, DeltaDataIntervalTimetable, Param

from airflow_calib_provider.dags.assets import RUNS as RUNS
from airflow_calib_provider.dags.forms import backfill_form, campaign_form
from airflow_calib_provider.hooks.group import AIRFLOW_RETRIES, airflow_retry_delay
from airflow_calib_provider.operators.backfill import CollectOperator, StartOperator
from airflow_calib_provider.operators.campaign import CampaignOperator, CreateCampaignOperator
from airflow_calib_provider.operators.inject import HousekeepingOperator, InjectOperator
from airflow_calib_provider.operators.messages import MessagesOperator
from airflow_calib_provider.operators.mirror import MirrorOperator
from airflow_calib_provider.settings import number
from airflow_calib_provider.spec.language import BACKFILL, BOX, INJECT, MESSAGES, MESSAGES_FILE, RUNS_ASSET
from airflow_calib_provider.spec.team import team_of

START = datetime(2020, 1, 1, tzinfo=UTC)

SYSTEM_WEIGHT = 1000
"""More than any task of a workflow has, which by Airflow's default is one for itself and each that comes after it."""


def system_dags(stub: str, specs: str = "../workflow_specs") -> dict[str, DAG]:
    """``calib_inject``, ``calib_housekeeping``, ``calib_mirror``, ``calib_campaign`` and ``calib_backfill``.

    Of a team (``team`` in ``sources.yaml``) only those that read its folder: ``calib_inject_<team>``,
    ``calib_campaign_<team>`` and ``calib_backfill_<team>``. The folder that names no team has those for the whole
    ledger. A folder with a ``messages.yaml`` also has ``calib_messages``.

    :param stub: ``__file__`` of the stub.
    :param specs: folder of the YAML files, relative to the stub.
    :returns: DAG id → DAG, for ``globals().update(...)``.
    """
    folder = str((Path(stub).resolve().parent / specs).resolve())
    team = team_of(Path(folder))
    of_folder = [_inject(folder, team), _campaign(folder, team), _backfill(folder, team)]
    if (Path(folder) / MESSAGES_FILE).is_file():
        of_folder.append(_messages(folder, team))
    return {dag.dag_id: dag for dag in (*of_folder, *([] if team else [_housekeeping(), _mirror()]))}


def _named(dag_id: str, team: str) -> str:
    return f"{dag_id}_{team}" if team else dag_id


def _inject(folder: str, team: str) -> DAG:
    with _dag(
        _named(INJECT, team),
        AssetOrTimeSchedule(timetable=_every(number("INJECT_MINUTES")), assets=[RUNS]),
        "Records completed runs, groups them, and opens the DAG runs that may start. Trigger it at any time: injecting "
        f"twice changes nothing. An event of the asset {RUNS_ASSET} (`calib runs announce`) runs it at once; what is "
        "announced while it runs is one run more.",
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
    return inject


def _housekeeping() -> DAG:
    with _dag(
        "calib_housekeeping",
        _cron("30 * * * *"),
        "Removes jobs that a missed kill left behind, logs and failed attempts whose time is over, and products that "
        "are dropped. Makes checksums that are missing. Reports drift between Airflow, the ledger, the backends, the "
        "mirror and storage. Starts campaigns whose days are all collected.",
        {},
    ) as housekeeping:
        HousekeepingOperator(task_id="housekeeping")
        # As in calib_campaign: its success is an announcement.
        StartOperator(task_id="start", outlets=[RUNS])
    return housekeeping


def _mirror() -> DAG:
    with _dag(
        "calib_mirror",
        "@continuous",
        "Mirrors the ledger's events to the InfluxDB of the connection calib_influxdb. It always runs, in the "
        "triggerer, and begins anew once a day; without such a connection it is skipped.",
        {},
    ) as mirror:
        MirrorOperator(task_id="mirror")
    return mirror


def _messages(folder: str, team: str) -> DAG:
    with _dag(
        _named(MESSAGES, team),
        "@continuous",
        f"Tells people what has happened, by the channels of {MESSAGES_FILE}: chat, e-mail. It always runs, in the "
        "triggerer, and begins anew every few minutes, when it reads the file.",
        {},
    ) as messages:
        MessagesOperator(task_id="messages", specs=folder)
    return messages


def _campaign(folder: str, team: str) -> DAG:
    with _dag(
        _named("calib_campaign", team),
        None,
        "Creates a campaign, such as a reprocessing of given runs, from a form. A dry run, the default, tells all that "
        "is wrong, or what it would be, in the log of the task check. What is created is injected at once.",
        campaign_form(),
    ) as campaign:
        check = CampaignOperator(task_id="check", specs=folder)
        # Its success, which a dry run has none of, is an announcement: calib_inject takes the campaign up.
        check >> CreateCampaignOperator(task_id="create", specs=folder, outlets=[RUNS])
    # Each run of it is a campaign of its own.
    campaign.max_active_runs = 16
    return campaign


def _backfill(folder: str, team: str) -> DAG:
    with _dag(
        _named(BACKFILL, team),
        _cron("0 0 * * *"),
        "Collects the runs that ended in each day of a backfill into a campaign, which the last day starts: choose "
        f"Backfill in the dialog of Trigger, fill in the campaign, and tick the box {BOX!r}. By itself it does "
        "nothing.",
        backfill_form(),
    ) as backfill:
        CollectOperator(task_id="collect", specs=folder, outlets=[RUNS])
    # As many days at once as a person asks for.
    backfill.max_active_runs = 16
    return backfill


def _every(minutes: float) -> DeltaDataIntervalTimetable:
    return DeltaDataIntervalTimetable(timedelta(minutes=minutes))


def _cron(text: str) -> CronDataIntervalTimetable:
    return CronDataIntervalTimetable(text, timezone="UTC")


def _dag(
    dag_id: str,
    schedule: AssetOrTimeSchedule | CronDataIntervalTimetable | DeltaDataIntervalTimetable | str | None,
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
            # Before all that waits: it is little, and new data wait for it.
            "priority_weight": SYSTEM_WEIGHT,
            "weight_rule": "absolute",
        },
    )
