"""Answers to questions of Airflow, against a server that answers as Airflow's REST API does."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.rest.asking import AskedQuestion, answer
from airflow_calib_provider.rest.client import Airflow
from tests.cli.test_airflow import RUN, FakeAirflow, task
from tests.cli.test_airflow import airflow as airflow


def test_an_answer_is_given_only_to_the_question_about_this_content(airflow: FakeAirflow) -> None:
    where, content = f"{RUN}/taskInstances/deliver.approve/-1/hitlDetails", "c" * 64
    airflow.task(task("awaiting_input", "deliver.approve"))
    question = AskedQuestion("demo__run", "prompt__run-r2", "deliver.approve", content, "run-r2", ("ada",))
    shown = {"options": ["Approve cccccccccccc"], "body": f"content `{content}`", "responded_by": {"id": "ada"}}

    def answered(user: str, **other: Any) -> str:
        airflow.set(where, {**shown, **other})
        claims = urlsafe_b64encode(json.dumps({"sub": user}).encode()).decode().rstrip("=")
        airflow.set("/auth/token", {"access_token": f"e30.{claims}.x"})
        with Airflow() as client:
            return answer(client, question, "Approve cccccccccccc", "fine")

    for other in ({"options": ["Approve"]}, {"body": "content `" + "d" * 64}):
        with pytest.raises(CalibError, match="about other content than cccccccccccc: nothing was answered"):
            answered("ada", **other)
    with pytest.raises(CalibError, match=r"the token is of Anonymous, .*: ada may answer"):
        answered("Anonymous")
    assert not [method for method, *_ in airflow.asked if method == "PATCH"]
    assert answered("ada") == "ada"
    assert airflow.asked[-1][2] == {"chosen_options": ["Approve cccccccccccc"], "params_input": {"comment": "fine"}}
