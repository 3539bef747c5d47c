"""One workflow: runs × tasks, its groups, what they wait for."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.influxql import CAMPAIGN, HERE, WORKFLOW, current_states, select, series, table, tag_values
from deploy.grafana.look import (
    AMBER,
    DAG_RUN,
    DAY,
    GREEN,
    HOUR,
    RED,
    TASK_LOG,
    AnyPanel,
    bars,
    campaign,
    choice,
    curves,
    lanes,
    make,
    rows,
    thresholds,
    workflow,
)
from deploy.grafana.transformations import columns, latest, matrix, only

TASK = '"task" =~ /^${task:regex}$/'
LOCK_COLUMNS = '"event", "group", "waited", "done", "total"'


def board(airflow_url: str) -> Dashboard:
    """Workflow."""
    task = choice(
        "task",
        "Task",
        tag_values("run_task", "task", CAMPAIGN, WORKFLOW),
        "Tasks to show",
        several=True,
    )
    panels = [
        _runs_tasks_now(),
        _runs_tasks_over_time(),
        _groups(),
        _what_waits_now_and_for_which_lock(),
        _deadlines(),
        _how_long_groups_waited_and_for_which_lock(),
        _longest_wait_by_lock(),
        _waits_that_ended_longest_first(),
    ]
    return make(
        "workflow",
        "Calibration: workflow",
        "Runs × tasks of one workflow, its groups, and what they wait for.",
        [campaign(), workflow(several=False), task],
        panels,
        airflow_url,
    )


def _runs_tasks_now() -> AnyPanel:
    return rows(
        "Runs × tasks, now",
        "The state that each task has now for each run whose state changed in the chosen time range. Green is "
        "done, purple waits, cyan is at work, red needs you: click it, read the log, then `calib retry`. A white "
        "cell: the run is in no group of that task.",
        table(current_states("state", where=(HERE, TASK))),
        steps=[
            columns("run", "task", "state", hide=["Time", "event", "workflow"]),
            matrix("task", "run", "state"),
        ],
        all_states=True,
        all_links=[("Run", "/d/calib-run?${campaign:queryparam}&${workflow:queryparam}&var-run=${__data.fields[0]}")],
        sort=("run\\task", True),
        span=9,
        height=16,
    )


def _runs_tasks_over_time() -> AnyPanel:
    return lanes(
        "Runs × tasks, over time",
        "When each task of each run changed its state: a long purple bar waited, a long cyan one worked. Compare "
        "with its neighbours; a bar that is much longer than theirs deserves a `calib explain RUN`.",
        series(select('"state"', "run_task", HERE, TASK, by='"run", "task"'), "$tag_run $tag_task"),
        span=15,
        height=16,
    )


def _groups() -> AnyPanel:
    return rows(
        "Groups",
        "Each group of runs whose state changed in the chosen time range. Forming groups wait for more runs, "
        "which is normal; one that is forming for days although runs come: look at its grouping in the spec. What a "
        "late one publishes stays a candidate; an edition above 1 was amended. The group leads to its DAG run.",
        table(
            select(
                '"event", "group", "first_run", "last_run", "runs", "open_seconds", "late", "edition"',
                "group",
                HERE,
                by='"workflow", "grouping", "state"',
            )
        ),
        steps=[
            *latest(
                ["workflow", "grouping", "group"],
                ["state", "first_run", "last_run", "runs", "open_seconds", "late", "edition", "Time"],
            ),
            columns(
                "Time",
                "workflow",
                "grouping",
                "group",
                "state",
                rename={"Time": "since", "open_seconds": "open for"},
            ),
        ],
        links={"group": [("Grid in Airflow", DAG_RUN)]},
        units={"since": "dateTimeFromNow", "open for": "s"},
        sort=("first_run", True),
        span=12,
    )


def _what_waits_now_and_for_which_lock() -> AnyPanel:
    return rows(
        "What waits now, and for which lock",
        "Each wait that has begun and not ended. A task lock waits for a task of these runs, a payload lock for "
        "published constants, forming for more runs. Older than a day: run `calib explain GROUP`, which names the"
        " missing runs and what would release it.",
        table(select(LOCK_COLUMNS, "lock", HERE, TASK, by='"workflow", "task", "lock", "state"')),
        steps=[
            *latest(["workflow", "task", "lock", "group"], ["state", "done", "total", "Time"]),
            only("state", "waiting"),
            columns("Time", "group", "task", "lock", "done", "total", "state", rename={"Time": "since", "total": "of"}),
        ],
        links={"task": [("Log in Airflow", TASK_LOG)], "group": [("Grid in Airflow", DAG_RUN)]},
        units={"since": "dateTimeFromNow"},
        sort=("since", False),
        span=12,
    )


def _deadlines() -> AnyPanel:
    return rows(
        "Deadlines of what waits",
        "Until when each lock is waited for that is not waited for for ever, and what happens then: the task fails, "
        "goes on without, or takes the last good payload; and until when a payload is to be published (publication), "
        "which is told as an alarm. One that is near is yours: `calib explain GROUP` names what is missing.",
        table(
            select(
                '"event", "group", "near", "then", "ends" * 1000 AS "ends"',
                "deadline",
                HERE,
                TASK,
                by='"workflow", "task", "lock", "state"',
            )
        ),
        steps=[
            *latest(["workflow", "task", "lock", "group"], ["state", "ends", "near", "then"]),
            only("state", "waiting"),
            columns("ends", "group", "task", "lock", "near", "then", "state", hide=["workflow"]),
        ],
        links={"task": [("Log in Airflow", TASK_LOG)], "group": [("Grid in Airflow", DAG_RUN)]},
        units={"ends": "dateTimeFromNow"},
        sort=("ends", False),
        height=6,
    )


def _how_long_groups_waited_and_for_which_lock() -> AnyPanel:
    return curves(
        "How long groups waited, and for which lock",
        "Each point is a wait that ended: how long it lasted, by lock. Forming follows from how much data a group"
        " wants. If a payload's waits become longer from fill to fill, its workflow is late: open that one.",
        series(
            select('"waited"', "lock", HERE, TASK, "\"state\" != 'waiting'", by='"task", "lock"'),
            "$tag_task: $tag_lock",
        ),
        unit="s",
        limits=thresholds((DAY, RED)),
        points=True,
        span=16,
    )


def _longest_wait_by_lock() -> AnyPanel:
    return bars(
        "Longest wait, by lock",
        "The longest wait that ended in the chosen time range. What is red made runs wait longer than a day: look"
        " for it in the table of waits, and tell whoever owns the workflow that it waits for.",
        series(
            select('max("waited")', "lock", HERE, TASK, "\"state\" != 'waiting'", by='"task", "lock"'),
            "$tag_task: $tag_lock",
        ),
        unit="s",
        limits=thresholds((12 * HOUR, AMBER), (DAY, RED), base=GREEN),
        span=8,
    )


def _waits_that_ended_longest_first() -> AnyPanel:
    return rows(
        "Waits that ended, longest first",
        "How long each group waited for each lock. Use it to find out why a payload came late.",
        table(
            select(
                f"{LOCK_COLUMNS}",
                "lock",
                HERE,
                TASK,
                "\"state\" != 'waiting'",
                by='"workflow", "task", "lock", "state"',
            )
        ),
        steps=[
            columns(
                "Time",
                "group",
                "task",
                "lock",
                "state",
                "waited",
                "done",
                "total",
                hide=["event"],
                rename={"Time": "ended", "total": "of"},
            )
        ],
        links={"task": [("Log in Airflow", TASK_LOG)], "group": [("Grid in Airflow", DAG_RUN)]},
        units={"waited": "s"},
        sort=("waited", True),
    )
