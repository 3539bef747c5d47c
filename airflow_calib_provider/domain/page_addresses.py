"""Addresses of the page "Calibration" in Airflow's UI, for whoever links to it: messages, buttons, other pages.

An address leads to the page inside of Airflow's UI. What it names is checked where it is shown: an address says
nothing that a person may not read.
"""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

MOUNT = "calib"
"""Where the page's application is below Airflow's address, and its name in the addresses of Airflow's UI."""

CHAT_MOUNT = "calib-chat"
"""Where the endpoint for actions from chat is below Airflow's address."""

RUNS, GROUP, TAG, CAMPAIGNS, PEOPLE = "runs", "group", "tag", "campaigns", "people"
OF_DAG, OF_DAG_RUN = "dag", "dag-run"
"""The views; the last two find by Airflow's ids what they show."""


def view_address(view: str, **named: object) -> str:
    """A view with what it is to show, relative to the other views.

    :param named: its parameters; those that are ``None`` or empty are left out.
    """
    query = urlencode({name: value for name, value in named.items() if value not in (None, "")})
    return f"{view}?{query}" if query else view


def page_address(airflow: str, view: str, **named: object) -> str:
    """The whole address of a view inside of Airflow's UI.

    :param airflow: Airflow's own address (``[api] base_url``), with its path if it has one; empty for an address that
        is relative to the host.
    :param named: the view's parameters.
    """
    base = airflow.rstrip("/")
    # Airflow's UI wants the path of its own address once more in front of the view's.
    path = urlsplit(base).path.rstrip("/")
    return f"{base}/plugin/{MOUNT}{path}/{MOUNT}/{view_address(view, **named)}"


def group_address(airflow: str, campaign: str, workflow: str, group: str, task: str | None = None) -> str:
    """The page of a group.

    :param task: at this task of it.
    """
    found = page_address(airflow, GROUP, campaign=campaign, workflow=workflow, name=group)
    return f"{found}#task-{task}" if task else found


def tag_address(airflow: str, campaign: str, tag: str) -> str:
    """The page of a tag: its intervals of validity, candidates and revisions."""
    return page_address(airflow, TAG, campaign=campaign, tag=tag)
