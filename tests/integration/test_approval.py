"""A person approves a payload in a real Airflow; marking the question as success publishes nothing (rule 66)."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW, TAG = "asked", "AskedConstants"
DAG = f"{WORKFLOW}__sum"
APPROVED, MARKED, REJECTED = "sum-r7701", "sum-r7705", "sum-r7709"
QUESTION = "deliver.approve"
DETAILS = f"taskInstances/{QUESTION}/-1/hitlDetails"


@pytest.fixture(scope="module", autouse=True)
def three_candidates(installation: Installation) -> None:
    """Each of three groups has made what somebody is asked about."""
    installation.add_workflow(WORKFLOW)
    spec = installation.specs / f"{WORKFLOW}.yaml"
    text = spec.read_text().replace("constants}}", "constants }}")
    publish = '"{{ tasks.total.products.constants }}"'
    assert publish in text
    installation.edit(spec, text.replace(publish, f"{publish}, approve: {{by: [ada], expires: 36h}}"))
    installation.wait(lambda: QUESTION in tasks_in_airflow(installation), 120, "Airflow to have read the edit")
    installation.add_runs(range(7701, 7714))
    assert installation.inject() == "success"
    for group in (APPROVED, MARKED, REJECTED):
        wait_until_asked(installation, group)


def tasks_in_airflow(installation: Installation) -> list[str]:
    return [task["task_id"] for task in installation.airflow.call("GET", f"/api/v2/dags/{DAG}/tasks")["tasks"]]


def in_airflow(installation: Installation, group: str, task: str = QUESTION) -> str | None:
    runs = [run["dag_run_id"] for run in installation.airflow_runs(DAG)]
    name = f"prompt__{group}"
    return installation.airflow_tasks(DAG, name).get(task) if name in runs else None


def wait_until_asked(installation: Installation, group: str) -> None:
    """Wait as long as a person would at least, too.

    Airflow's executor tells the end of the process that has asked a moment after the question is there; a task that
    goes on by then, of the same key, it takes for one that was killed.
    """
    installation.wait(lambda: in_airflow(installation, group) == "awaiting_input", 400, f"{group} to ask")
    time.sleep(5)


def in_ledger(installation: Installation, group: str) -> str | None:
    return installation.task_states().get((f"{WORKFLOW}/{group}", "deliver"))


def token_of(installation: Installation, user: str, role: str = "OP") -> str:
    """Of a user of Airflow's simple auth manager: as it gives one out to the user that it knows."""
    token = installation.airflow.token()
    claims = jwt.decode(token, options={"verify_signature": False})
    secret = installation.airflow.variables["AIRFLOW__API_AUTH__JWT_SECRET"]
    header = jwt.get_unverified_header(token)
    return jwt.encode({**claims, "sub": user, "role": role}, secret, algorithm=header["alg"])


def states(installation: Installation, group: str) -> list[str]:
    of, table = tables.payload, tables.run_group
    query = select(of.c.state).join(table, table.c.id == of.c.group_id).where(table.c.name == group, of.c.tag == TAG)
    return [row.state for row in installation.rows(query.order_by(of.c.revision))]


def answered(installation: Installation, user: str, *arguments: str) -> Any:
    return installation.run_calib("payload", *arguments, CALIB_AIRFLOW_TOKEN=token_of(installation, user))


def test_the_question_says_what_is_asked(installation: Installation) -> None:
    where = f"/api/v2/dags/{DAG}/dagRuns/prompt__{APPROVED}/{DETAILS}"
    asked = installation.airflow.call("GET", where)
    shown = json.loads(installation.calib("payload", "show", TAG, "--group", APPROVED, "--json"))
    assert asked["subject"] == f"Publish {TAG} for runs 7701–7704?"
    assert shown["content_hash"] in asked["body"]
    assert asked["options"] == [f"{word} {shown['content_hash'][:12]}" for word in ("Approve", "Reject")]
    assert [user["id"] for user in asked["assigned_users"]] == ["ada"]
    assert (shown["state"], shown["reason"]["code"]) == ("candidate", "awaits_approval")
    said = installation.calib("explain", APPROVED, "--workflow", WORKFLOW, "--task", "deliver")
    assert "waits for the approval of ada" in said
    assert f"calib payload approve {TAG} --group {APPROVED}" in said


def test_what_somebody_else_answers_counts_for_nothing(installation: Installation) -> None:
    """This Airflow takes everybody for an administrator, and takes the answer; the ledger does not."""
    done = answered(installation, "mallory", "approve", TAG, "--group", APPROVED)
    assert done.returncode != 0
    assert "the token is of mallory, whose answer would count for nothing: ada may answer" in done.stderr
    assert in_airflow(installation, APPROVED) == "awaiting_input"
    shown = installation.airflow.call("GET", f"/api/v2/dags/{DAG}/dagRuns/prompt__{APPROVED}/{DETAILS}")
    body = {"chosen_options": shown["options"][:1], "params_input": {}}
    installation.airflow.call("PATCH", f"/api/v2/dags/{DAG}/dagRuns/prompt__{APPROVED}/{DETAILS}", body)
    installation.wait(lambda: in_ledger(installation, APPROVED) == "failed", 200, "its task to fail")
    assert states(installation, APPROVED) == ["candidate"]
    said = installation.calib("explain", APPROVED, "--workflow", WORKFLOW, "--task", "deliver")
    assert "is not one of those who may approve it (ada)" in said
    installation.wait_run_ended(DAG, f"prompt__{APPROVED}")
    installation.calib("retry", APPROVED, "--workflow", WORKFLOW)
    wait_until_asked(installation, APPROVED)


def test_a_named_user_approves(installation: Installation) -> None:
    done = answered(installation, "ada", "approve", TAG, "--group", APPROVED, "--comment", "as in May")
    assert done.returncode == 0, done.stderr
    assert "answered by ada: Approve" in done.stdout
    installation.wait(lambda: states(installation, APPROVED) == ["published"], 200, "the publication")
    installation.wait(lambda: in_airflow(installation, APPROVED, "deliver") == "success", 60, "its task")
    shown = json.loads(installation.calib("payload", "show", TAG, "--group", APPROVED, "--json"))
    last = shown["decisions"][-1]
    assert (last["outcome"], last["person"], last["comment"]) == ("approved", "ada", "as in May")
    assert last["content_hash"] == shown["content_hash"]
    second = answered(installation, "ada", "reject", TAG, "--group", APPROVED)
    assert second.returncode != 0
    assert "nobody is asked" in second.stderr


def test_marking_the_question_as_success_publishes_nothing(installation: Installation) -> None:
    installation.set_state(DAG, f"prompt__{MARKED}", QUESTION, "success")
    installation.wait(lambda: in_ledger(installation, MARKED) == "failed", 200, "its task to fail")
    assert states(installation, MARKED) == ["candidate"]
    said = installation.calib("explain", MARKED, "--workflow", WORKFLOW, "--task", "deliver")
    assert "marking the question as success approves nothing" in said
    installation.wait_run_ended(DAG, f"prompt__{MARKED}")
    installation.calib("retry", MARKED, "--workflow", WORKFLOW)
    wait_until_asked(installation, MARKED)
    assert answered(installation, "ada", "approve", TAG, "--group", MARKED).returncode == 0
    installation.wait(lambda: states(installation, MARKED) == ["published"], 200, "the publication")


def test_a_rejection_fails_the_task_with_the_comment(installation: Installation) -> None:
    done = answered(installation, "ada", "reject", TAG, "--group", REJECTED, "--comment", "endcap is off")
    assert done.returncode == 0, done.stderr
    installation.wait(lambda: states(installation, REJECTED) == ["rejected"], 200, "the rejection")
    said = installation.calib("explain", REJECTED, "--workflow", WORKFLOW, "--task", "deliver")
    assert "ada has rejected it: endcap is off" in said


def test_airflow_keeps_a_question_and_nobody_is_asked_it_about_another_revision(installation: Installation) -> None:
    """The one of before is refused when it comes back by a clear; `calib retry` puts a new one in its place."""
    where = f"/api/v2/dags/{DAG}/dagRuns/prompt__{REJECTED}/{DETAILS}"
    installation.wait_run_ended(DAG, f"prompt__{REJECTED}")
    before = installation.airflow.call("GET", where)
    assert "revision 1" in before["body"]
    installation.clear(DAG, f"prompt__{REJECTED}", "deliver.candidate", QUESTION, "deliver")
    installation.wait(lambda: in_airflow(installation, REJECTED) == "failed", 200, "the question to be refused")
    said = installation.calib("explain", REJECTED, "--workflow", WORKFLOW, "--task", "deliver")
    assert "still shows the question of before" in said
    assert states(installation, REJECTED)[0] == "rejected"
    installation.wait_run_ended(DAG, f"prompt__{REJECTED}")
    installation.calib("retry", REJECTED, "--workflow", WORKFLOW)
    wait_until_asked(installation, REJECTED)
    after = installation.airflow.call("GET", where)
    assert "revision 2" in after["body"]
    assert after["created_at"] > before["created_at"]
