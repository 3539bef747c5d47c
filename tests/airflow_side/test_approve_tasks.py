"""The tasks of a publication that persons approve."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from airflow.sdk.api.datamodels._generated import HITLDetailRequest, HITLUser
from airflow.sdk.execution_time.comms import CreateHITLDetailPayload, HITLDetailRequestResult

from airflow_calib_provider.dags.factory import build_dag
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.operators.approve import AskOperator, answer_from, refuse_other, request_from
from airflow_calib_provider.payloads.approvals import ApprovalAnswer, ApprovalRequest
from airflow_calib_provider.spec.loader import load_workflow
from tests.payloads.living import SOURCES, SPEC

pytestmark = pytest.mark.airflow


def test_the_question_stands_between_the_candidate_and_its_publication(tmp_path: Path) -> None:
    (tmp_path / "sources.yaml").write_text(SOURCES)
    text = SPEC.replace("FOLDER", "/x").replace(", APPROVE", ", approve: {by: conveners, expires: 36h}")
    (tmp_path / "ecal.yaml").write_text(text)
    dag = build_dag(load_workflow(tmp_path / "ecal.yaml"), "run")
    ask = dag.get_task("deliver.approve")
    assert isinstance(ask, AskOperator)
    assert (ask.upstream_task_ids, ask.downstream_task_ids) == ({"deliver.candidate"}, {"deliver"})
    assert dag.get_task("deliver.candidate").upstream_task_ids == {"scale", "validate"}
    # The form has what is asked, and nothing of the DAG's own.
    assert list(ask.serialized_params) == ["comment"]
    assert (ask.response_timeout, ask.defaults) == (timedelta(hours=36), ["Reject"])
    assert ask.ledger_task == "deliver"
    assert not dag.get_task("deliver.candidate").outlets
    assert dag.get_task("deliver").outlets


def test_of_a_set_there_is_one_question(tmp_path: Path) -> None:
    (tmp_path / "sources.yaml").write_text(SOURCES)
    file = '"{{ tasks.scale.products.constants }}"'
    one, both = f"tag: Scale, file: {file}", f"set: [{{tag: Scale, file: {file}}}, {{tag: Errors, file: {file}}}]"
    text = SPEC.replace("FOLDER", "/x").replace(", APPROVE", ", approve: {by: conveners}")
    assert one in text
    (tmp_path / "ecal.yaml").write_text(text.replace(one, both))
    dag = build_dag(load_workflow(tmp_path / "ecal.yaml"), "run")
    assert dag.task_ids == ["scale", "validate", "deliver.candidate", "deliver.approve", "deliver"]
    assert dag.get_task("deliver.approve").subject == "Publish Scale and Errors?"


def test_a_rule_asks_nobody(tmp_path: Path) -> None:
    (tmp_path / "sources.yaml").write_text(SOURCES)
    text = SPEC.replace("FOLDER", "/x").replace(", APPROVE", ", approve: automatic")
    (tmp_path / "ecal.yaml").write_text(text)
    assert build_dag(load_workflow(tmp_path / "ecal.yaml"), "run").task_ids == ["scale", "validate", "deliver"]


def test_nobody_is_asked_where_airflow_shows_another_question() -> None:
    """Airflow writes a question once for a task instance, and shows it again after a clear."""
    asked = CreateHITLDetailPayload(
        ti_id=uuid4(),
        options=["Approve aa", "Reject aa"],
        subject="Publish Scale?",
        body="content aa",
        defaults=["Reject aa"],
        assigned_users=[HITLUser(id="ada", name="ada")],
    )
    as_it_is = HITLDetailRequestResult.from_api_response(HITLDetailRequest(**asked.model_dump(exclude={"type"})))
    refuse_other(asked, as_it_is, "run-r1")
    others = {"options": ["Approve bb", "Reject bb"], "body": "content bb", "assigned_users": [], "subject": "?"}
    for name, other in others.items():
        with pytest.raises(CalibError, match="still shows the question of before") as refused:
            refuse_other(asked, as_it_is.model_copy(update={name: other}), "run-r1 --workflow ecal")
        assert "`calib retry run-r1 --workflow ecal`" in str(refused.value)
    with pytest.raises(CalibError):
        refuse_other(asked, None, "run-r1")


@pytest.mark.parametrize("found", [None, {}, "x", {"chosen_options": []}, {"not_asked": "it is published"}])
def test_what_is_no_answer(found: object) -> None:
    assert answer_from(found) is None
    assert request_from(found) is None


def test_an_answer_as_airflow_keeps_it() -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    user = {"id": "ada", "name": "Ada"}
    made = {"chosen_options": ["Approve"], "params_input": {"comment": None}, "responded_at": at}
    assert answer_from({**made, "responded_by_user": user}) == ApprovalAnswer(("Approve",), "ada", "", at)
    assert answer_from({**made, "responded_at": at.isoformat(), "responded_by_user": None}) == ApprovalAnswer(
        ("Approve",), None, "", at
    )
    assert request_from({"payload_id": 3, "content_hash": "a"}) == ApprovalRequest(3, "a")
    assert request_from({"payload_id": 3, "content_hash": "a", "rest": [4]}) == ApprovalRequest(3, "a", (4,))
