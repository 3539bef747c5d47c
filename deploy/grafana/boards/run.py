"""One run: where it stands in every workflow, and why."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.influxql import CAMPAIGN, HERE, current_states, select, series, table, tag_values
from deploy.grafana.look import DAG_RUN, TASK_LOG, AnyPanel, campaign, choice, lanes, make, rows, workflow
from deploy.grafana.transformations import columns, latest

RUN = '"run" =~ /^${run:regex}$/'
GROUP = '"group" =~ /^${group:regex}$/'


def board(airflow_url: str) -> Dashboard:
    """Run."""
    run = choice(
        "run",
        "Run",
        tag_values("run_task", "run", CAMPAIGN),
        "Its number",
    )
    group = choice(
        "group",
        "Groups",
        select('DISTINCT("group")', "run_task", CAMPAIGN, RUN),
        "The groups that the run is in",
        several=True,
    )
    panels = [
        _where_the_run_stands(),
        _how_it_got_there(),
        _what_its_groups_waited_for(),
        _jobs_of_its_groups(),
        _values_of_its_groups(),
    ]
    return make(
        "run",
        "Calibration: run",
        "One run: where it stands in every workflow, and why.",
        [campaign(), workflow(several=True), run, group],
        panels,
        airflow_url,
        since="now-30d",
    )


def _where_the_run_stands() -> AnyPanel:
    return rows(
        "Where the run stands",
        "Every task of every workflow that takes this run. Click a task for its log in Airflow, a group for the "
        "grid. For what waits, `calib explain RUN` says what it waits for, since when, and what would release it.",
        table(current_states("state", "reason", "group", "generation", where=(HERE, RUN))),
        steps=[
            columns(
                "Time",
                "workflow",
                "task",
                "state",
                "reason",
                "group",
                "generation",
                hide=["event", "run"],
                rename={"Time": "since"},
            )
        ],
        links={"task": [("Log in Airflow", TASK_LOG)], "group": [("Grid in Airflow", DAG_RUN)]},
        sort=("since", False),
        height=8,
    )


def _how_it_got_there() -> AnyPanel:
    return lanes(
        "How it got there",
        "Each task's states over time. Purple that ends where another lane turns green waited for that one. If "
        "all lanes are quiet for hours, `calib explain RUN`.",
        series(
            select('"state"', "run_task", HERE, RUN, by='"workflow", "task"'),
            "$tag_workflow $tag_task",
        ),
        height=9,
    )


def _what_its_groups_waited_for() -> AnyPanel:
    return rows(
        "What its groups waited for",
        "Every wait of the groups that the run is in; those whose state is waiting still last. The lock names the"
        " task or payload that is missing: open that workflow next.",
        table(
            select(
                '"event", "group", "waited", "done", "total"',
                "lock",
                HERE,
                GROUP,
                by='"workflow", "task", "lock", "state"',
            )
        ),
        steps=[
            *latest(["workflow", "task", "lock", "group"], ["state", "waited", "done", "total", "Time"]),
            columns("Time", "workflow", "task", "lock", "group", "state", rename={"Time": "since", "total": "of"}),
        ],
        links={"group": [("Grid in Airflow", DAG_RUN)]},
        units={"waited": "s"},
        sort=("since", True),
        span=12,
    )


def _jobs_of_its_groups() -> AnyPanel:
    return rows(
        "Jobs of its groups",
        "The latest state of each job. A failed one: `calib jobs logs GROUP TASK JOB` shows why.",
        table(
            select(
                '"event", "group", "generation", "job", "attempt", "host", "exit_code", "wall", "reason"',
                "job",
                HERE,
                GROUP,
                by='"workflow", "task", "state"',
            )
        ),
        steps=[
            *latest(
                ["workflow", "task", "group", "generation", "job"],
                ["state", "attempt", "host", "exit_code", "wall", "reason", "Time"],
            ),
            columns("Time", "task", "group", "job", "state", hide=["workflow"], rename={"Time": "since"}),
        ],
        units={"wall": "s"},
        sort=("since", True),
        span=12,
    )


def _values_of_its_groups() -> AnyPanel:
    return rows(
        "Values of its groups",
        "What the jobs reported for the groups that the run is in. Compare with the neighbours on Values.",
        table(
            select(
                '"value", "error", "group", "generation", "job"',
                "value",
                HERE,
                GROUP,
                by='"workflow", "task", "name"',
            )
        ),
        steps=[columns("Time", "workflow", "task", "name", "value", "error", "group", rename={"Time": "data from"})],
        states=(),
        sort=("name", False),
    )
