"""Campaigns: how far each is, what holds it back, and when it is expected to end."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.influxql import CAMPAIGN, INTERVAL, select, series, table
from deploy.grafana.look import (
    AMBER,
    CYAN,
    GRAY,
    PURPLE,
    RED,
    STATE_COLOURS,
    AnyPanel,
    campaign,
    curves,
    lanes,
    make,
    rows,
    thresholds,
    workflow,
)
from deploy.grafana.transformations import columns

NUMBERS = ("groups", "groups_done", "groups_failed", "groups_processing", "groups_waiting", "groups_new", "tasks_left")
STEERED = ("priority", "max_groups", "max_jobs")
SAMPLED = '"groups" >= 0'
"""Of the points of campaigns those that have figures; the others say only what was changed."""


def board(airflow_url: str) -> Dashboard:
    """Campaigns."""
    return make(
        "campaigns",
        "Calibration: campaigns",
        "How far each campaign is, what holds it back, and when it is expected to end.",
        [campaign(), workflow(several=True)],
        [_campaigns(), _states(), _tasks_left(), _groups(), _jobs()],
        airflow_url,
    )


def _campaigns() -> AnyPanel:
    fields = ("state", *NUMBERS, "expected_end", *STEERED)
    what = ", ".join(['max("event") AS "event"', *(f'"{name}"' for name in fields)])
    latest = select(what, "campaign", SAMPLED, "$timeFilter", by='"campaign"')
    shown = ", ".join(f'"{name}"' for name in ("event", "state", *NUMBERS, *STEERED))
    return rows(
        "Campaigns",
        "Every campaign in which anything went on in the chosen time range, as it was last. A throttle of 0 is none. "
        "One that is paused goes on with `calib campaign resume NAME`; what has failed and what waits, and why, say "
        "`calib campaign show NAME` and the board Workflow.",
        table(select(f'{shown}, "expected_end" * 1000 AS "expected end"', latest, by='"campaign"')),
        steps=[
            columns(
                "campaign",
                "state",
                *NUMBERS,
                "expected end",
                *STEERED,
                "Time",
                hide=["event"],
                rename={"Time": "as of"},
            )
        ],
        links={"campaign": [("Its groups", "/d/calib-workflow?var-campaign=${__data.fields.campaign}")]},
        units={"expected end": "dateTimeFromNow", "as of": "dateTimeFromNow"},
        limits={"groups_failed": thresholds((1, RED), base=GRAY)},
        sort=("campaign", False),
        height=6,
    )


def _states() -> AnyPanel:
    return lanes(
        "States of campaigns",
        "When each campaign was collected, grouped, open, paused, closed or cancelled. An amber bar that nobody "
        "remembers: `calib campaign show NAME` says who paused it, and since when.",
        series(select('"state"', "campaign", "$timeFilter", by='"campaign"'), "$tag_campaign"),
        span=12,
        height=8,
    )


def _tasks_left() -> AnyPanel:
    return curves(
        "Tasks that are left",
        "Tasks of each campaign that have not ended. It falls to zero; one that stands still while jobs run waits for "
        "another campaign's throttle or priority, or for its base: `calib explain GROUP --campaign NAME`.",
        series(select('max("tasks_left")', "campaign", "$timeFilter", by=f'{INTERVAL}, "campaign"'), "$tag_campaign"),
        interval="1m",
    )


def _of_chosen(what: str, *where: str) -> str:
    return select(what, "campaign", CAMPAIGN, *where, "$timeFilter", by=INTERVAL, fill="none")


def _groups() -> AnyPanel:
    states = ("failed", "processing", "waiting", "new", "done")
    return curves(
        "Groups of the chosen campaign, by state",
        "A group is failed if one of its tasks has failed, else processing, waiting, new, or done. Purple that stays: "
        "look at the waits on Workflow. Gray that stays while the campaign is open: its throttle, or Airflow's slots.",
        *(series(_of_chosen(f'max("groups_{state}")'), state) for state in states),
        colours={state: STATE_COLOURS[state] for state in states},
        stacked=True,
        interval="1m",
    )


def _jobs() -> AnyPanel:
    submitted = " + ".join(f'max("jobs_{name}")' for name in ("submitted", "running", "held"))
    return curves(
        "Jobs of the chosen campaign, and its throttle",
        "Jobs that are with backends, held ones too, those that wait for their submission, and how many may be "
        "submitted at once. Jobs that lie at the throttle: `calib campaign set NAME --max-jobs N` lets more through.",
        series(_of_chosen(submitted), "submitted"),
        series(_of_chosen('max("jobs_waiting")'), "waiting"),
        series(_of_chosen('last("max_jobs")', '"max_jobs" > 0'), "throttle"),
        colours={"submitted": CYAN, "waiting": PURPLE, "throttle": AMBER},
        interval="1m",
    )
