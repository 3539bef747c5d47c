"""Arguments of an operator mean what a spec means by them, and mistakes name the argument."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.spec.arguments import ArgumentsReader
from airflow_calib_provider.spec.models import FailureRule, ResourceRequest, Split


def mistakes(**values: Any) -> list[str]:
    reader = ArgumentsReader(values)
    reader.settings()
    reader.products()
    return reader.mistakes


def test_what_is_stated() -> None:
    reader = ArgumentsReader(
        {
            "per_job": 5,
            "inputs": ["a"],
            "cpus": 2,
            "memory": "2GB",
            "timeout": "1h30m",
            "keep": timedelta(days=2),
            "retries_of_jobs": 0,
            "quorum": 1,
            "failures": [{"when": {"class": ["memory"]}, "then": "retry", "memory": {"factor": 2.5}}],
            "condor": {"files": [Path("/a/job.sh")], "attributes": {"WantCalib": True}, "transfer": False},
            "gpus": None,
        }
    )
    jobs = reader.settings()
    assert reader.mistakes == []
    assert jobs.split == Split(per_job=5)
    assert jobs.resources == ResourceRequest(cpus=2, memory=2_000_000_000)
    assert (jobs.timeout, jobs.keep) == (timedelta(hours=1.5), timedelta(days=2))
    assert (jobs.retries, jobs.quorum) == (0, 1.0)
    assert jobs.failures == (FailureRule(classes=("memory",), then="retry", factor=2.5),)
    assert jobs.options == {"files": ["/a/job.sh"], "attributes": {"WantCalib": True}, "transfer": False}


def test_credentials_become_variables_but_for_those_that_the_backend_brings() -> None:
    files = {"proxy": "/x/proxy", "kerberos": "/x/cc"}
    jobs = ArgumentsReader({"credentials": files}).settings()
    assert jobs.credentials == files
    assert jobs.environment == {"X509_USER_PROXY": "/x/proxy", "KRB5CCNAME": "FILE:/x/cc"}
    brought = {"condor": {"commands": {"X509UserProxy": "/x/proxy"}}}
    jobs = ArgumentsReader({"credentials": files, **brought}).settings()
    assert jobs.credentials == files
    assert jobs.environment == {"KRB5CCNAME": "FILE:/x/cc"}
    (said,) = mistakes(credentials={"proxy": "x"})
    assert "credentials.proxy is 'x'; expected an absolute path" in said or "'x'" in said


def test_defaults_are_those_of_a_spec() -> None:
    jobs = ArgumentsReader({}).settings()
    assert (jobs.retries, jobs.quorum, jobs.timeout, jobs.keep) == (3, 1.0, None, timedelta(days=30))
    assert (jobs.split, jobs.resources) == (Split(), ResourceRequest())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": 2.5}, "count is 2.5"),
        ({"count": "many"}, "count is 'many'"),
        ({"count": 2, "per_job": 1, "inputs": []}, "both count and per_job"),
        ({"per_job": 1}, "per_job is given without inputs"),
        ({"count": 3, "inputs": ["a", "b"]}, "count is 3, and there are 2 inputs to share"),
        ({"count": 1, "inputs": []}, "count is 1, and there are 0 inputs to share"),
        ({"count": 3, "inputs": ["a"], "all_inputs": "yes"}, "all_inputs is 'yes'"),
        ({"count": 3, "all_inputs": True}, "all_inputs is given without count and inputs"),
        ({"cpus": 0}, "cpus is 0"),
        ({"memory": 2000}, "memory is a number without a unit"),
        ({"memory": "2 GBs"}, "memory: '2 GBs' is not a size"),
        ({"disk": True}, "disk is true"),
        ({"gpus": -1}, "gpus is -1"),
        ({"timeout": 30}, "timeout is a number without a unit"),
        ({"timeout": timedelta(0)}, "timeout is 0:00:00"),
        ({"retries_of_jobs": 101}, "retries_of_jobs is 101"),
        ({"quorum": 90}, "quorum is 90"),
        ({"quorum": 0}, "quorum is 0"),
        ({"keep": "0d"}, "keep is 0"),
        ({"failures": {}}, "failures is a mapping"),
        ({"failures": [{"then": "fail"}]}, "the key 'when' is missing"),
        ({"failures": [{"when": {"class": "memry"}, "then": "fail"}]}, "did you mean 'memory'?"),
        ({"condor": {"prioritty": 3}}, "did you mean 'priority'?"),
        ({"condor": {"requirements": "a\nb"}}, "condor.requirements contains a line break"),
        ({"condor": {"commands": {"executable": "x"}}}, "say it with jobs.command"),
        ({"condor": {"attributes": {"Owner": "me"}}}, "'Owner' is an attribute that HTCondor"),
        ({"condor": "fast"}, "condor is 'fast'"),
        ({"products": {"a": "../a"}}, "products.a '../a' leaves its folder"),
        ({"products": {"a b": "a"}}, "'a b' is not a name"),
        ({"products": ["a"]}, "products is a list"),
    ],
)
def test_a_mistake_names_its_argument(values: dict[str, Any], said: str) -> None:
    assert said in "\n".join(mistakes(**values))


@pytest.mark.parametrize(
    ("read", "value", "said"),
    [
        ("command", "x y", "command is 'x y'"),
        ("command", [], "command is empty"),
        ("command", ["x", None], "command[1] is None"),
        ("command", ["x", ["y"]], "command[1] is ['y']"),
        ("command", ["x", "a\0b"], "command[1] holds a NUL"),
        ("inputs", "a.txt", "inputs is 'a.txt'"),
        ("inputs", ["a", ""], "an element of inputs is empty"),
        ("inputs", ["a\nb"], "holds a line break"),
        ("environment", ["A"], "environment is ['A']"),
        ("environment", {"A": None}, "environment['A'] is None"),
        ("environment", {"A B": "x"}, "'A B' in environment is no name"),
        ("environment", {"CALIB_JOB": "1"}, "CALIB_JOB in environment is set for every job"),
    ],
)
def test_a_mistake_of_what_is_rendered_names_its_argument(read: str, value: Any, said: str) -> None:
    reader = ArgumentsReader({})
    getattr(reader, read)(value)
    assert said in "\n".join(reader.mistakes)


def test_texts_may_be_numbers_and_paths() -> None:
    reader = ArgumentsReader({})
    assert reader.command([Path("/bin/x"), 1, 2.5]) == ("/bin/x", "1", "2.5")
    assert reader.environment({"_A": 1}) == {"_A": "1"}
    assert (reader.inputs(None), reader.mistakes) == (None, [])
