"""The first look: whether anything waits, fails or fills up."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.influxql import (
    HERE,
    INTERVAL,
    current_states,
    installation,
    sampled,
    sampled_now,
    select,
    series,
    table,
)
from deploy.grafana.look import (
    AMBER,
    CYAN,
    DAG_RUN,
    DAY,
    GRAY,
    GREEN,
    HOUR,
    PURPLE,
    RED,
    RUN_BOARD,
    STATE_COLOURS,
    STONE,
    TASK_LOG,
    AnyPanel,
    campaign,
    curves,
    make,
    number,
    rows,
    thresholds,
    workflow,
)
from deploy.grafana.transformations import columns

CODES = {"new": 0, "waiting": 1, "processing": 2, "done": 3, "failed": 4, "skipped": 5}
"""``state_code`` of ``run_task``."""


def _count(state: str, by: str = "") -> str:
    return select(f'count("event") AS "{state}"', current_states("state_code"), f'"state_code" = {CODES[state]}', by=by)


def board(airflow_url: str) -> Dashboard:
    """Overview."""
    states = number(
        "Tasks of runs, by state",
        "How many tasks of runs are in each state, of those whose state changed in the chosen time range. Red above "
        "zero: look at “What has failed” below. Purple that grows while cyan stays: look at the waits on Workflow.",
        *(series(_count(state), state) for state in CODES),
        colours={state: STATE_COLOURS[state] for state in CODES},
        span=24,
        height=4,
    )
    panels = [
        states,
        _oldest_untreated_run(),
        _held_jobs(),
        _lag_of_this_picture(),
        _free_disk_of_the_spool(),
        _jobs_by_state(),
        _throughput_and_failures(),
        _what_has_failed(),
        _tasks(),
        _oldest_untreated_run_by_workflow(),
    ]
    return make(
        "overview",
        "Calibration: overview",
        "Does anything wait, fail or fill up? For shifters; every panel says what to do.",
        [campaign(), workflow(several=True)],
        panels,
        airflow_url,
    )


def _oldest_untreated_run() -> AnyPanel:
    return number(
        "Oldest untreated run",
        "Age of the oldest completed run that is not done, failed or skipped. Above a day: open Workflow, find "
        "the first run that is not green, and run `calib explain RUN`: it says what it waits for.",
        series(
            select('max("oldest_untreated_seconds")', "system", HERE, by=INTERVAL, fill="none"),
            "age",
        ),
        unit="s",
        limits=thresholds((12 * HOUR, AMBER), (DAY, RED)),
        graph=True,
        span=6,
    )


def _held_jobs() -> AnyPanel:
    return number(
        "Held jobs",
        "Jobs that the batch system holds. Most are released by themselves; if the number stays for hours, open "
        "Jobs and read the reasons.",
        series(
            sampled_now("jobs_held"),
            "held",
        ),
        limits=thresholds((1, AMBER), (100, RED)),
        span=6,
    )


def _lag_of_this_picture() -> AnyPanel:
    return number(
        "Lag of this picture",
        "How far InfluxDB is behind the ledger. Above a minute the dashboards show the past: run `calib mirror "
        "status`, which says why. Calibrations are not affected.",
        series(
            installation('max("mirror_lag_seconds")'),
            "lag",
        ),
        unit="s",
        limits=thresholds((60, AMBER), (600, RED)),
        graph=True,
        span=6,
    )


def _free_disk_of_the_spool() -> AnyPanel:
    return number(
        "Free disk of the spool",
        "Free space where jobs write. Below 20 GB: tell the expert; below 5 GB jobs will fail. Shorter `keep` in "
        "the specs lets calib_housekeeping remove more.",
        series(
            installation('min("spool_free_bytes")'),
            "free",
        ),
        unit="bytes",
        limits=thresholds((5e9, AMBER), (20e9, GREEN), base=RED),
        graph=True,
        span=6,
    )


def _jobs_by_state() -> AnyPanel:
    return curves(
        "Jobs by state",
        "Jobs that wait, are queued, run or are held, of the chosen workflows. Many submitted and none running: "
        "the batch system is full or away.",
        *(
            series(
                sampled(f"jobs_{state}"),
                state,
            )
            for state in ("waiting", "submitted", "running", "held")
        ),
        colours={"waiting": PURPLE, "submitted": STONE, "running": CYAN, "held": AMBER},
        stacked=True,
        interval="1m",
    )


def _throughput_and_failures() -> AnyPanel:
    return curves(
        "Throughput and failures",
        "Jobs that ended well, and attempts that ended badly, in each interval. A few failures are normal: jobs "
        "are tried again. If red is as high as green, open Jobs and read what fails.",
        series(
            select('count("event")', "job", HERE, "\"state\" = 'succeeded'", by=INTERVAL, fill="0"),
            "succeeded",
        ),
        series(
            select('count("event")', "job", HERE, "\"failure\" != 'none'", by=INTERVAL, fill="0"),
            "attempts that failed",
        ),
        colours={"succeeded": GREEN, "attempts that failed": RED},
        bars=True,
        interval="1m",
    )


def _what_has_failed() -> AnyPanel:
    return rows(
        "What has failed",
        "Tasks of runs whose state is failed now. Click the task for its log in Airflow. After mending: clear the"
        " task there, or `calib retry GROUP --task TASK`; go on without the run: `calib skip RUN`.",
        table(
            select(
                '"event", "state", "reason", "group"',
                current_states("state", "reason", "group", "state_code"),
                f'"state_code" = {CODES["failed"]}',
                by='"workflow", "task", "run"',
            )
        ),
        steps=[
            columns(
                "Time",
                "workflow",
                "task",
                "run",
                "group",
                "state",
                "reason",
                hide=["event"],
                rename={"Time": "since"},
            )
        ],
        links={
            "task": [("Log in Airflow", TASK_LOG)],
            "group": [("Grid in Airflow", DAG_RUN)],
            "run": [("Run", RUN_BOARD)],
        },
        units={"since": "dateTimeFromNow"},
        sort=("since", True),
        span=24,
    )


def _tasks() -> AnyPanel:
    return rows(
        "Tasks",
        "Each task of each workflow: how many runs are in which state, of those whose state changed in the chosen"
        " time range. A task whose failed or waiting is much above its neighbours' is where to look first.",
        *(table(_count(state, by='"workflow", "task"')) for state in CODES),
        steps=[("merge", {}), columns("workflow", "task", *CODES, hide=["Time"])],
        links={
            "workflow": [
                ("Workflow", "/d/calib-workflow?${campaign:queryparam}&var-workflow=${__data.fields.workflow}")
            ]
        },
        limits={"failed": thresholds((1, RED), base=GRAY)},
        states=(),
        span=12,
    )


def _oldest_untreated_run_by_workflow() -> AnyPanel:
    return curves(
        "Oldest untreated run, by workflow",
        "The same age over time. A line that climbs by a day each day stands still: `calib explain` its oldest "
        "run. Teeth of a saw are normal for tasks that wait for a fill or a sum of runs.",
        series(
            select('max("oldest_untreated_seconds")', "system", HERE, by=f'{INTERVAL}, "workflow"', fill="none"),
            "$tag_workflow",
        ),
        unit="s",
        limits=thresholds((DAY, RED)),
        interval="1m",
        height=9,
    )
