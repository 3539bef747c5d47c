"""The installation itself: how far behind, how full, how busy."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.influxql import HERE, INTERVAL, installation, sampled, select, series
from deploy.grafana.look import (
    AMBER,
    CYAN,
    DAY,
    GREEN,
    PURPLE,
    RED,
    AnyPanel,
    campaign,
    curves,
    make,
    thresholds,
    workflow,
)


def board(airflow_url: str) -> Dashboard:
    """System."""
    panels = [
        _age_of_the_oldest_untreated_run(),
        _groups_that_wait_and_that_are_processed(),
        _disk_of_the_spool_used(),
        _disk_of_the_spool_free(),
        _lag_of_the_mirror(),
        _changes_of_state_that_were_mirrored(),
    ]
    return make(
        "system",
        "Calibration: system",
        "The installation itself: how far behind, how full, how busy.",
        [campaign(), workflow(several=True)],
        panels,
        airflow_url,
    )


def _age_of_the_oldest_untreated_run() -> AnyPanel:
    return curves(
        "Age of the oldest untreated run",
        "Of completed runs that are not done, failed or skipped, the oldest one's age, by workflow. Above a day: "
        "`calib explain RUN` for that run.",
        series(
            select('max("oldest_untreated_seconds")', "system", HERE, by=f'{INTERVAL}, "workflow"', fill="none"),
            "$tag_workflow",
        ),
        unit="s",
        limits=thresholds((DAY, RED)),
        interval="1m",
    )


def _groups_that_wait_and_that_are_processed() -> AnyPanel:
    return curves(
        "Groups that wait and that are processed",
        "Groups of the chosen workflows. Waiting grows while processing stays flat: the limit CALIB_MAX_OPEN or "
        "Airflow's slots; both shrink: all is done.",
        series(
            sampled("groups_waiting"),
            "waiting",
        ),
        series(
            sampled("groups_processing"),
            "processing",
        ),
        colours={"waiting": PURPLE, "processing": CYAN},
        stacked=True,
        interval="1m",
    )


def _disk_of_the_spool_used() -> AnyPanel:
    return curves(
        "Disk of the spool: used",
        "Bytes in the spool, looked at once an hour. It falls when calib_housekeeping removes what `keep` no "
        "longer keeps; if it only grows, look at that DAG in Airflow.",
        series(installation('max("spool_bytes")'), "used"),
        unit="bytes",
        interval="1m",
    )


def _disk_of_the_spool_free() -> AnyPanel:
    return curves(
        "Disk of the spool: free",
        "Free space of the spool's file system. Below 20 GB: tell the expert. Below 5 GB jobs will fail: remove "
        "what is not needed, or shorten `keep`.",
        series(installation('min("spool_free_bytes")'), "free"),
        unit="bytes",
        limits=thresholds((5e9, AMBER), (20e9, GREEN), base=RED),
        interval="1m",
    )


def _lag_of_the_mirror() -> AnyPanel:
    return curves(
        "Lag of the mirror",
        "How far InfluxDB is behind the ledger. A gap or a climb: run `calib mirror status`, which names the "
        "error; look at the DAG calib_mirror in Airflow. What is missing comes by itself later.",
        series(installation('max("mirror_lag_seconds")'), "lag"),
        unit="s",
        limits=thresholds((60, AMBER), (600, RED)),
        interval="1m",
    )


def _changes_of_state_that_were_mirrored() -> AnyPanel:
    return curves(
        "Changes of state that were mirrored",
        "Points of each kind that were written, in each interval. None at all while jobs run: the mirror stands "
        "still (`calib mirror status`).",
        series(select('count("event")', "run_task", HERE, by=INTERVAL, fill="0"), "run_task"),
        series(select('count("event")', "job", HERE, by=INTERVAL, fill="0"), "job"),
        series(select('count("event")', "group", HERE, by=INTERVAL, fill="0"), "group"),
        series(select('count("event")', "lock", HERE, by=INTERVAL, fill="0"), "lock"),
        bars=True,
        interval="1m",
    )
