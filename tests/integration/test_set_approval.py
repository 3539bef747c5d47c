"""A set of two tags is asked about once, and one answer publishes all of it, in a real Airflow (rule 66)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation
from tests.integration.test_approval import DETAILS, QUESTION, answered

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

WORKFLOW = "paired"
DAG = f"{WORKFLOW}__sum"
TAGS = ("PairedConstants", "PairedErrors")
APPROVED, REJECTED = "sum-r7901", "sum-r7905"


@pytest.fixture(scope="module", autouse=True)
def two_sets(installation: Installation) -> None:
    """Each of two groups has made what somebody is asked about."""
    installation.add_workflow(WORKFLOW)
    spec = installation.specs / f"{WORKFLOW}.yaml"
    head, _, _ = spec.read_text().partition("    publish:")
    file = '"{{ tasks.total.products.constants }}"'
    tags = ", ".join(f"{{tag: {tag}, file: {file}}}" for tag in TAGS)
    installation.edit(spec, f"{head}    publish: {{set: [{tags}], approve: {{by: [ada], expires: 36h}}}}\n")
    where = f"/api/v2/dags/{DAG}/tasks"
    asks = lambda: QUESTION in [task["task_id"] for task in installation.airflow.call("GET", where)["tasks"]]  # noqa: E731
    installation.wait(asks, 120, "Airflow to have read the edit")
    installation.add_runs(range(7901, 7910))
    assert installation.inject() == "success"
    for group in (APPROVED, REJECTED):
        installation.wait(
            lambda group=group: in_airflow(installation, group) == "awaiting_input", 400, f"{group} to ask"
        )
    time.sleep(5)  # as a person would, at least: see test_approval


def in_airflow(installation: Installation, group: str, task: str = QUESTION) -> str | None:
    name = f"prompt__{group}"
    there = name in [run["dag_run_id"] for run in installation.airflow_runs(DAG)]
    return installation.airflow_tasks(DAG, name).get(task) if there else None


def states(installation: Installation, group: str) -> list[tuple[str, str]]:
    of, table = tables.payload, tables.run_group
    query = select(of.c.tag, of.c.state).join(table, table.c.id == of.c.group_id).where(table.c.name == group)
    return [(row.tag, row.state) for row in installation.rows(query.order_by(of.c.tag, of.c.revision))]


def question(installation: Installation, group: str) -> Any:
    return installation.airflow.call("GET", f"/api/v2/dags/{DAG}/dagRuns/prompt__{group}/{DETAILS}")


def test_one_question_shows_all_and_one_yes_publishes_all(installation: Installation) -> None:
    asked = question(installation, APPROVED)
    for tag in TAGS:
        shown = json.loads(installation.calib("payload", "show", tag, "--group", APPROVED, "--json"))
        assert tag in asked["body"]
        assert shown["content_hash"] in asked["body"]
    assert len(asked["options"]) == 2
    assert states(installation, APPROVED) == [(tag, "candidate") for tag in TAGS]
    done = answered(installation, "ada", "approve", TAGS[1], "--group", APPROVED, "--comment", "both")
    assert done.returncode == 0, done.stderr
    assert TAGS[0] in done.stdout, "it says that the answer is about all"
    wanted = [(tag, "published") for tag in TAGS]
    installation.wait(lambda: states(installation, APPROVED) == wanted, 200, "the publication of both")
    installation.wait(lambda: in_airflow(installation, APPROVED, "deliver") == "success", 60, "its task")
    for tag in TAGS:
        last = json.loads(installation.calib("payload", "show", tag, "--group", APPROVED, "--json"))["decisions"][-1]
        assert (last["outcome"], last["person"], last["comment"]) == ("approved", "ada", "both")


def test_one_no_rejects_all(installation: Installation) -> None:
    done = answered(installation, "ada", "reject", TAGS[0], "--group", REJECTED, "--comment", "endcap is off")
    assert done.returncode == 0, done.stderr
    wanted = [(tag, "rejected") for tag in TAGS]
    installation.wait(lambda: states(installation, REJECTED) == wanted, 200, "the rejection of both")
