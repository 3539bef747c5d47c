"""Values that jobs report, over detector time; how far off iterations are; and what was published."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.influxql import CAMPAIGN, HERE, WORKFLOW, select, series, table, tag_values
from deploy.grafana.look import AnyPanel, campaign, choice, curves, make, rows, workflow
from deploy.grafana.transformations import columns

NAME = '"name" =~ /^${name:regex}$/'


def board(airflow_url: str) -> Dashboard:
    """Values."""
    name = choice(
        "name",
        "Value",
        tag_values("value", "name", CAMPAIGN, WORKFLOW),
        "Names that jobs report values under",
        several=True,
    )
    panels = [
        _value(),
        _latest_values(),
        _steps(),
        _published_payloads(),
    ]
    return make(
        "values",
        "Calibration: values",
        "Values that jobs report, over detector time; and what was published.",
        [campaign(), workflow(several=True), name],
        panels,
        airflow_url,
        since="now-30d",
    )


def _value() -> AnyPanel:
    return curves(
        "$name",
        "The value over the time at which the data were taken, with its error as a band; points of a newer "
        "generation replace the older ones. A step where nothing happened to the detector: tell the expert of the"
        " workflow before the next payload is published.",
        series(
            select('"value"', "value", HERE, NAME, by='"workflow", "task", "name"'),
            "$tag_workflow $tag_task",
        ),
        series(
            select('"value" + "error"', "value", HERE, NAME, by='"workflow", "task", "name"'),
            "$tag_workflow $tag_task + error",
        ),
        series(
            select('"value" - "error"', "value", HERE, NAME, by='"workflow", "task", "name"'),
            "$tag_workflow $tag_task − error",
        ),
        points=True,
        minimum=None,
        repeat="name",
        span=24,
        height=9,
    )


def _latest_values() -> AnyPanel:
    return rows(
        "Latest values",
        "Every value of the chosen time range: where it comes from, with its error. Click a head of a column to "
        "sort; one that is far off: open its group's run, and look at the closure of the task.",
        table(
            select(
                '"value", "error", "group", "first_run", "last_run", "generation", "job", "final"',
                "value",
                HERE,
                NAME,
                by='"workflow", "task", "name"',
            )
        ),
        steps=[
            columns(
                "Time",
                "workflow",
                "task",
                "name",
                "value",
                "error",
                "group",
                "first_run",
                "last_run",
                "generation",
                "job",
                "final",
                rename={"Time": "data from"},
            )
        ],
        states=(),
        sort=("data from", True),
        span=24,
        height=10,
    )


def _steps() -> AnyPanel:
    return curves(
        "How far off iterations are",
        "Of every judged step of what iterates: how far each metric is from its target, in tolerances. From −1 to 1 "
        "it is good. One that goes from side to side, or no longer comes closer, ends by that name: see `calib steps`.",
        series(
            select('"deviation"', "step", HERE, by='"workflow", "task", "stage", "phase", "metric"'),
            "$tag_workflow $tag_task $tag_stage $tag_phase $tag_metric",
        ),
        points=True,
        minimum=None,
        span=24,
        height=9,
    )


def _published_payloads() -> AnyPanel:
    return rows(
        "Published payloads",
        "What was published in the chosen time range, with its interval of validity. A tag whose newest payload "
        "is much older than its neighbours' is late: open its workflow.",
        table(
            select(
                '"event", "first_run", "last_run", "revision", "group", "size", "content_hash"',
                "payload",
                HERE,
                by='"workflow", "tag", "state"',
            )
        ),
        steps=[
            columns(
                "Time",
                "workflow",
                "tag",
                "first_run",
                "last_run",
                "revision",
                "state",
                "group",
                "size",
                "content_hash",
                hide=["event"],
                rename={"content_hash": "content"},
            )
        ],
        units={"size": "bytes"},
        sort=("Time", True),
        span=24,
    )
