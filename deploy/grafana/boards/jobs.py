"""Jobs: how many, how fast, what fails, and where."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.influxql import HERE, INTERVAL, sampled, sampled_now, select, series, table
from deploy.grafana.look import (
    AMBER,
    CYAN,
    GRAY,
    GREEN,
    PURPLE,
    RED,
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
from deploy.grafana.transformations import columns, latest, only

ENDED = "\"state\" = 'succeeded'"
BAD = "\"failure\" != 'none'"
CHANGES = "(\"state\" != 'running' OR \"from_state\" != 'running')"
"""Without the points that only say how far a job is."""

DETAILS = '"event", "group", "generation", "job", "attempt", "exit_code", "signal", "host", "memory", "reason"'


def board(airflow_url: str) -> Dashboard:
    """Jobs."""
    panels = [
        _jobs_now(),
        _ended_well(),
        _attempts_that_failed(),
        _jobs_given_up(),
        _jobs_by_state(),
        _changes_of_state(),
        _failures_by_class(),
        _wall_time(),
        _memory_used_and_requested(),
        _failed_attempts_by_host(),
        _held_now(),
        _latest_failures(),
    ]
    return make(
        "jobs",
        "Calibration: jobs",
        "How many jobs, how fast, what fails, and where.",
        [campaign(), workflow(several=True)],
        panels,
        airflow_url,
    )


def _jobs_now() -> AnyPanel:
    return number(
        "Jobs now",
        "Jobs of the chosen workflows in each state. Submitted for hours and none running: ask whoever runs the "
        "batch system. Held: read the reasons below.",
        *(series(sampled_now(f"jobs_{state}"), state) for state in ("waiting", "submitted", "running", "held")),
        colours={"waiting": PURPLE, "submitted": STONE, "running": CYAN, "held": AMBER},
        span=10,
    )


def _ended_well() -> AnyPanel:
    return number(
        "Ended well",
        "Jobs that succeeded in the chosen time range. Zero although jobs run: look at their hosts below.",
        series(select('count("event")', "job", HERE, ENDED), "succeeded"),
        limits=thresholds((1, GREEN), base=GRAY),
        span=4,
    )


def _attempts_that_failed() -> AnyPanel:
    return number(
        "Attempts that failed",
        "Attempts that failed, were lost or were held in the chosen time range; most jobs succeed at a later one."
        " More than those that ended well: stop and read the reasons below.",
        series(select('count("event")', "job", HERE, BAD), "attempts"),
        limits=thresholds((1, AMBER), (100, RED)),
        span=5,
    )


def _jobs_given_up() -> AnyPanel:
    return number(
        "Jobs given up",
        "Jobs that failed for good in the chosen time range: their retries are used up. After mending the cause: "
        "`calib retry GROUP --task TASK`.",
        series(select('count("event")', "job", HERE, "\"state\" = 'failed'"), "failed"),
        limits=thresholds((1, RED)),
        span=5,
    )


def _jobs_by_state() -> AnyPanel:
    return curves(
        "Jobs by state",
        "The number of jobs in each state over time. A plateau of submitted under a flat running is the batch "
        "system's limit; a growing held is something to read below.",
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


def _changes_of_state() -> AnyPanel:
    return curves(
        "Changes of state",
        "How many jobs entered each state in each interval: the throughput. Submitted without running behind it: "
        "nothing starts. Running without succeeded behind it: nothing ends well.",
        series(
            select('count("event")', "job", HERE, CHANGES, by=f'{INTERVAL}, "state"', fill="0"),
            "$tag_state",
        ),
        colours={
            name: STATE_COLOURS[name]
            for name in ("waiting", "submitted", "running", "held", "succeeded", "failed", "removed", "left_out")
        },
        bars=True,
        interval="1m",
    )


def _failures_by_class() -> AnyPanel:
    return curves(
        "Failures by class",
        "Attempts that failed, by what the failure was taken for. Memory: raise `resources.memory`. Exit code: "
        "the job's program. Transfer or lost: the site; it is tried again by itself.",
        series(
            select('count("event")', "job", HERE, BAD, by=f'{INTERVAL}, "failure"', fill="0"),
            "$tag_failure",
        ),
        bars=True,
        interval="1m",
    )


def _wall_time() -> AnyPanel:
    return curves(
        "Wall time",
        "Median and 95th percentile of jobs that succeeded, by task. If the upper one comes near the task's "
        "`timeout`, raise that before jobs are killed.",
        series(
            select('percentile("wall", 50)', "job", HERE, ENDED, by=f'{INTERVAL}, "workflow", "task"', fill="none"),
            "$tag_workflow $tag_task median",
        ),
        series(
            select('percentile("wall", 95)', "job", HERE, ENDED, by=f'{INTERVAL}, "workflow", "task"', fill="none"),
            "$tag_workflow $tag_task 95 %",
        ),
        unit="s",
        interval="10m",
        points=True,
    )


def _memory_used_and_requested() -> AnyPanel:
    return curves(
        "Memory, used and requested",
        "The highest peak of jobs that succeeded, and the highest request, by task. Near each other: the next "
        "larger run fails. Far below: the task asks for too much and waits longer for a slot; lower "
        "`resources.memory`.",
        series(
            select('max("memory")', "job", HERE, ENDED, by=f'{INTERVAL}, "workflow", "task"', fill="none"),
            "$tag_workflow $tag_task used",
        ),
        series(
            select('max("request_memory")', "job", HERE, by=f'{INTERVAL}, "workflow", "task"', fill="none"),
            "$tag_workflow $tag_task requested",
        ),
        unit="bytes",
        interval="10m",
        points=True,
    )


def _failed_attempts_by_host() -> AnyPanel:
    return rows(
        "Failed attempts, by host",
        "Where attempts fail. One host far above the others is broken: exclude it in the batch system and tell "
        "its owner.",
        table(select('"event", "host", "group"', "job", HERE, BAD)),
        steps=[
            (
                "groupBy",
                {
                    "fields": {
                        "host": {"operation": "groupby", "aggregations": []},
                        "event": {"operation": "aggregate", "aggregations": ["count"]},
                        "Time": {"operation": "aggregate", "aggregations": ["last"]},
                    }
                },
            ),
            columns(
                "host", "event (count)", "Time (last)", rename={"event (count)": "failures", "Time (last)": "last"}
            ),
        ],
        units={"last": "dateTimeFromNow"},
        states=(),
        sort=("failures", True),
        span=12,
        height=8,
    )


def _held_now() -> AnyPanel:
    return rows(
        "Held now",
        "Jobs whose latest state is held, and why. By default most are released by themselves; what a person "
        "holds stays (`condor_release`).",
        table(select(DETAILS, "job", HERE, by='"workflow", "task", "state"')),
        steps=[
            *latest(
                ["workflow", "task", "group", "generation", "job"],
                ["state", "attempt", "host", "reason", "Time"],
            ),
            only("state", "held"),
            columns("Time", "workflow", "task", "group", "job", "state", "reason", rename={"Time": "since"}),
        ],
        links={"task": [("Log in Airflow", TASK_LOG)]},
        units={"since": "dateTimeFromNow"},
        sort=("since", False),
    )


def _latest_failures() -> AnyPanel:
    return rows(
        "Latest failures",
        "Every attempt that failed in the chosen time range, newest first. `calib jobs logs GROUP TASK JOB` shows "
        "what it wrote; the task leads to its log in Airflow.",
        table(select(DETAILS, "job", HERE, BAD, by='"workflow", "task", "state", "failure"')),
        steps=[
            columns(
                "Time",
                "workflow",
                "task",
                "group",
                "job",
                "attempt",
                "failure",
                "exit_code",
                "signal",
                "host",
                "memory",
                "reason",
                "state",
                hide=["event"],
            )
        ],
        links={"task": [("Log in Airflow", TASK_LOG)]},
        units={"memory": "bytes"},
        sort=("Time", True),
        height=12,
    )
